"""What is sent: bodies, the parameters of an address, ids.

What the core checks itself, with its own words and codes, is only described here.
"""

import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Final, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar.types import Scope

from ebbgate.core.commands import LABEL_LENGTH_MAX, LABELS_MAX, LIMITS_MAX, PRIORITY_MAX, wanted
from ebbgate.core.decay import RATE_PATTERN
from ebbgate.core.limits import DESCRIPTION_LENGTH_MAX, LIMIT_MAX, NAME_LENGTH_MAX
from ebbgate.core.model import COOL_MAX_US, SECOND, Slots
from ebbgate.errors import InvalidRequest
from ebbgate.server.options import BODY_BYTES_MAX
from ebbgate.server.rest.describing import Asked
from ebbgate.server.rest.problems import (
    Gone,
    Malformed,
    TooLarge,
    UnsupportedMediaType,
    unknown_name,
    unreadable,
)
from ebbgate.wire.questions import PAGE_MAX

WAIT_MAX_SECONDS: Final = 60.0
DURATION_SECONDS: Final = 300.0
IDS_MAX: Final = 1_000
PAGE_SIZE: Final = 100

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Unicode's categories Cc, Cf, Zl and Zp, as `re` and ECMAScript both read them; those beyond U+FFFF literally.
_FORBIDDEN: Final = (
    r"/\\%&><?#\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
NAME_SCHEMA: Final[dict[str, object]] = {
    "type": "string",
    "minLength": 1,
    "maxLength": NAME_LENGTH_MAX,
    "pattern": rf"^[^\s{_FORBIDDEN}]([^{_FORBIDDEN}]*[^\s{_FORBIDDEN}])?$",
    "not": {"enum": [".", ".."]},
    "description": r"1 to 200 characters, none of / \ % & > < ? #, none invisible, not an id; kept in Unicode NFC",
    "examples": ["database"],
}
ID_SCHEMA: Final[dict[str, object]] = {"type": "string", "format": "uuid"}
LABELS_SCHEMA: Final[dict[str, object]] = {
    "maxProperties": LABELS_MAX,
    "propertyNames": {"maxLength": LABEL_LENGTH_MAX},
}


def _says(**schema: object) -> msgspec.Meta:
    return msgspec.Meta(extra_json_schema=schema)


Name = Annotated[str, _says(**NAME_SCHEMA)]
Id = Annotated[str, _says(**ID_SCHEMA)]
Size = Annotated[int, _says(minimum=0, maximum=LIMIT_MAX)]
Text = Annotated[str, _says(maxLength=DESCRIPTION_LENGTH_MAX)]
Rate = Annotated[str, _says(examples=["60/hour"], pattern=RATE_PATTERN)]
Decay = Annotated[
    float,
    _says(anyOf=[{"enum": [0]}, {"type": "number", "minimum": 1e-9, "maximum": 1e6}], examples=[0.5]),
]
Seconds = Annotated[float, _says(exclusiveMinimum=0, maximum=86_400)]
Wait = Annotated[float, msgspec.Meta(ge=0, le=WAIT_MAX_SECONDS)]
Priority = Annotated[int, _says(minimum=-PRIORITY_MAX, maximum=PRIORITY_MAX)]
Labels = Annotated[dict[str, Annotated[str, _says(maxLength=LABEL_LENGTH_MAX)]], _says(**LABELS_SCHEMA)]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request holds."""


class SlotsAsked(_Body, frozen=True):
    """How many slots of which limit."""

    name: Name
    slots: Annotated[int, _says(minimum=1, maximum=LIMIT_MAX)] = 1


Wanted = Annotated[list[SlotsAsked], msgspec.Meta(min_length=1, max_length=LIMITS_MAX)]


class AcquireBody(_Body, frozen=True):
    """Slots to hold, all or none, and on which terms."""

    limits: Wanted
    id: Id | None = None  # a fresh UUID; the same one again is the same acquisition
    lease_duration_seconds: Seconds = DURATION_SECONDS
    wait_seconds: Wait = 0.0  # how long this request may be held open; the place in the queue outlives it
    queue: bool = True  # false: refused when there is no room now
    strict: bool = False  # whether a name that no limit has is an error
    priority: Priority = 0
    labels: Labels | None = None


class SpendBody(_Body, frozen=True):
    """Slots to spend, all or none, and on which terms."""

    limits: Wanted
    id: Id | None = None
    wait_seconds: Wait = 0.0
    queue: bool = True
    strict: bool = False
    priority: Priority = 0
    labels: Labels | None = None


class RenewBody(_Body, frozen=True):
    """Leases whose countdown starts again."""

    ids: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=IDS_MAX)]
    lease_duration_seconds: Seconds | None = None  # null: each as long as before
    retake: bool = True  # whether one that has just expired may take its slots again


class CreateBody(_Body, frozen=True):
    """A new limit."""

    name: Name
    limit: Size
    slot_decay_per_second: Decay | Rate | msgspec.UnsetType = msgspec.UNSET  # 0 unless it is given
    rate: Rate | msgspec.UnsetType = msgspec.UNSET  # another way to write it
    active: bool = True
    description: Text = ""


class ReplaceBody(_Body, frozen=True):
    """All that can be said of a limit; what is left out is as in a new one."""

    limit: Size
    name: Name | msgspec.UnsetType = msgspec.UNSET  # its new name
    slot_decay_per_second: Decay | Rate | msgspec.UnsetType = msgspec.UNSET  # 0 unless it is given
    rate: Rate | msgspec.UnsetType = msgspec.UNSET
    active: bool = True
    description: Text = ""


class ChangeBody(_Body, frozen=True):
    """What changes of a limit; the rest stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    limit: Size | msgspec.UnsetType = msgspec.UNSET
    slot_decay_per_second: Decay | Rate | msgspec.UnsetType = msgspec.UNSET
    rate: Rate | msgspec.UnsetType = msgspec.UNSET
    active: bool | msgspec.UnsetType = msgspec.UNSET
    description: Text | msgspec.UnsetType = msgspec.UNSET


class CoolDownBody(_Body, frozen=True):
    """For how long nobody is let in."""

    duration_seconds: Annotated[float, _says(minimum=0, maximum=COOL_MAX_US // SECOND)]  # 0 ends it now
    why: Annotated[str, _says(maxLength=LABEL_LENGTH_MAX)] = ""


B = TypeVar("B", bound=_Body)


async def body_of(request: Asked) -> bytes:
    """Return the body of a request; the framework's own way of reading it costs as much as everything else.

    Raises:
        TooLarge: it is.
        Gone: it never came.
    """
    body = b""
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Gone
        body = body + message["body"] if body else message["body"]
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge("a request's body may have up to 1 MiB; ask for less at a time")
        if not message["more_body"]:
            return body


class BodyReader(Generic[B]):
    """Reads bodies of one kind."""

    def __init__(self, kind: type[B], *media_types: str) -> None:
        """Read bodies of `kind`, in JSON, or under another name for it."""
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode
        self._fields = frozenset(kind.__struct_fields__)
        if "limits" in self._fields:
            self._fields |= frozenset(SlotsAsked.__struct_fields__)
        self.media_types = ("application/json", *media_types)
        self._media_types = frozenset(name.encode() for name in self.media_types)

    async def read(self, request: Asked) -> B:
        """Return what a request says.

        Raises:
            InvalidRequest: it is not JSON, or does not say it rightly.
        """
        return self.decode(request, await body_of(request))

    def decode(self, request: Asked, body: bytes) -> B:
        """Return what a body says; see `read`."""
        for name, value in request.scope["headers"]:
            if name == b"content-type":
                if value in self._media_types:
                    break
                if value.partition(b";")[0].strip().lower() in self._media_types:
                    break
                raise self._unsupported(value)
        else:
            raise self._unsupported(b"")
        try:
            return self._decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            if isinstance(error, msgspec.ValidationError) and "got `float`" in str(error):
                return self._decode_whole(body)
            for name, value in request.scope["headers"]:
                if name == b"content-encoding":
                    raise UnsupportedMediaType(
                        f"a body must not be compressed; its Content-Encoding is {value.decode('latin-1')[:100]!r}"
                    ) from error
            raise unreadable(error, self._fields) from error

    def _decode_whole(self, body: bytes) -> B:
        """Return what a body says that writes a whole number like 5.0, which in JSON is the same as 5."""
        try:
            return msgspec.convert(_whole(msgspec.json.decode(body)), self._kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise unreadable(error, self._fields) from error

    def _unsupported(self, given: bytes) -> UnsupportedMediaType:
        was = repr(given.decode("latin-1")[:100]) if given else "missing"
        return UnsupportedMediaType(f"the Content-Type of a body must be {self.media_types[0]}, it is {was}")


def _whole(value: object) -> object:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _whole(entry) for name, entry in value.items()}
    return value


def slots_of(limits: Sequence[SlotsAsked]) -> Slots:
    """Return what is asked for, by name, sorted; a limit that is named twice alike is named once.

    Raises:
        InvalidRequest: it is named twice with different slots, or a number is wrong.
        InvalidLimit: a name could not be the name of any limit.
    """
    if len(limits) == 1:
        return wanted({limits[0].name: limits[0].slots})
    asked: dict[str, int] = {}
    for limit in limits:
        if asked.setdefault(limit.name, limit.slots) != limit.slots:
            raise InvalidRequest(f"limit {limit.name!r} is named twice, with different numbers of slots")
    return wanted(asked)


# --- ids


def lease_id(text: str) -> str:
    """Return a lease's id in the form in which it is kept.

    Raises:
        InvalidRequest: it is none.
    """
    if _UUID.fullmatch(text):
        return text
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidRequest(
            f"the id of a lease is a UUID, as uuidgen prints it; got {text[:100]!r}"
        ) from None


# --- the parameters of an address


def parameters(scope: Scope, *known: str) -> dict[str, str]:
    """Return what stands behind the question mark.

    Raises:
        InvalidRequest: there is something that means nothing here, or twice.
    """
    query = scope["query_string"]
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100, separator="&"
        )
    except ValueError as error:
        raise Malformed(
            f"the part of the address behind the question mark cannot be read: {error}"
        ) from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise InvalidRequest(unknown_name("parameter", name, frozenset(known)))
        if name in found:
            raise InvalidRequest(f"parameter {name!r} stands twice in the address")
        found[name] = value
    return found


def flag(found: dict[str, str], name: str) -> bool:
    """Return a parameter that is true or false; false if it is missing.

    Raises:
        InvalidRequest: it is neither.
    """
    value = found.get(name, "false")
    if value not in {"true", "false"}:
        raise InvalidRequest(f"{name} must be true or false, got {value[:100]!r}")
    return value == "true"


def wait_seconds(found: dict[str, str]) -> float:
    """Return for how long a request may be held open.

    Raises:
        InvalidRequest: it is not a number of seconds from 0 to 60.
    """
    text = found.get("wait_seconds", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= WAIT_MAX_SECONDS:
        raise InvalidRequest(f"wait_seconds must be from 0 to {WAIT_MAX_SECONDS:g}, got {text[:100]!r}")
    return seconds


def page_size(found: dict[str, str]) -> int:
    """Return how many entries a page has.

    Raises:
        InvalidRequest: it is not a number from 1 to 1,000.
    """
    text = found.get("page_size", str(PAGE_SIZE))
    size = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
    if not 1 <= size <= PAGE_MAX:
        raise InvalidRequest(f"page_size must be from 1 to {PAGE_MAX}, got {text[:100]!r}")
    return size


def microseconds(seconds: float) -> int:
    """Return a duration as the core counts it."""
    return round(max(-1e9, min(seconds, 1e9)) * SECOND)
