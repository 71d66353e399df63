"""Reads the fields of a request's body as Prefect's server does, and complains in its words.

Its numbers and flags are lenient: `"5"` and `5.0` are whole numbers, `"yes"` is true.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from ebbgate.server.prefect.answers import AnsweredError, complaint, invalid

T = TypeVar("T")

REQUIRED: Final = object()
"""In place of a default: the field must be there."""

_FLAGS: Final[dict[object, bool]] = {
    True: True, "true": True, "1": True, "yes": True, "on": True, "t": True, "y": True,
    False: False, "false": False, "0": False, "no": False, "off": False, "f": False, "n": False,
}  # fmt: skip
_WHOLE: Final = re.compile(r"[+-]?[0-9]+(_[0-9]+)*(\.0+)?")
_NAME: Final = re.compile(r"[^/%&><]+")
_NAME_PATTERN: Final = "^[^/%&><]+$"

_decode: Final = msgspec.json.Decoder().decode


class _WrongError(Exception):
    """A value is not what it should be: what kind of wrong, in words, and the arguments of these."""

    def __init__(self, kind: str, msg: str, **ctx: object) -> None:
        super().__init__(msg)
        self.kind, self.msg, self.ctx = kind, msg, ctx


def body_of(data: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return the body of a request, None if there is none.

    Raises:
        AnsweredError: it is no JSON.
    """
    if not data:
        return None
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        at, why = 0, "Expecting value"
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        at, why = error.pos, error.msg
    except (ValueError, RecursionError):  # no UTF-8, an integer of more digits than Python reads, too deep
        pass
    wrong = complaint("json_invalid", ("body", at), "JSON decode error", {}, error=why)
    raise AnsweredError(invalid([wrong], data.decode(errors="replace")))


class Fields:
    """The fields of one body; what is wrong with them is collected and told at once, by `check`."""

    def __init__(self, body: object, *arguments: str) -> None:
        """Look at a body.

        Args:
            body: as it was sent; None: none.
            arguments: the names of its fields if each is a value of its own, so that null is as if it was not
                sent; none: the body is one thing, in which null is a value.

        Raises:
            AnsweredError: it is nothing that has fields.
        """
        self._sent = body
        self._is_model = not arguments
        self._wrong: list[dict[str, object]] = []
        self._body: dict[str, Any] = body if isinstance(body, dict) else {}
        if isinstance(body, dict) or (body is None and arguments):
            return
        for name in arguments:
            self._complain(_missing(), name, None)
        if not arguments and body is None:
            self._complain(_missing(), "", None)
        elif not arguments:
            self._complain(_no_object(), "", body)
        self.check()

    def __contains__(self, name: str) -> bool:
        """Tell whether a field was sent."""
        return name in self._body

    @property
    def sent(self) -> set[str]:
        """Names of the fields that were sent."""
        return set(self._body)

    def is_null(self, name: str) -> bool:
        """Tell whether a field was sent as null."""
        return name in self._body and self._body[name] is None

    def check(self) -> None:
        """Go on if all is well.

        Raises:
            AnsweredError: it is not.
        """
        if self._wrong:
            raise AnsweredError(invalid(self._wrong, self._sent))

    def allow(self, names: Iterable[str]) -> None:
        """Complain about other fields than these."""
        known = set(names)
        for name, got in self._body.items():
            if name not in known:
                self._complain(_WrongError("extra_forbidden", "Extra inputs are not permitted"), name, got)

    # --- one field of a kind; `default` if there was none, or a complaint

    def whole(self, name: str, default: object = REQUIRED, *, least: int | None = None) -> int:
        """Return a whole number."""

        def read(got: object) -> int:
            number = _whole(got)
            if least is not None and number < least:
                raise _too_small(least)
            return number

        return self._read(name, read, default, 0)

    def positive(self, name: str) -> int:
        """Return a whole number of at least one."""

        def read(got: object) -> int:
            number = _whole(got)
            if number <= 0:
                raise _WrongError("greater_than", "Input should be greater than 0", gt=0)
            return number

        return self._read(name, read, REQUIRED, 0)

    def number(
        self,
        name: str,
        default: object = REQUIRED,
        *,
        low: float = 0.0,
        high: float = math.inf,
        is_above: bool = False,
    ) -> float:
        """Return a number from `low` to `high`, or one above `low`."""

        def read(got: object) -> float:
            number = _number(got)
            # Asked so that what is no number at all is wrong as well.
            if high < math.inf and not number <= high:
                text = f"Input should be less than or equal to {high:g}"
                raise _WrongError("less_than_equal", text, le=high)
            if is_above and not number > low:
                raise _WrongError("greater_than", f"Input should be greater than {low:g}", gt=low)
            if not number >= low:
                raise _too_small(low)
            return number

        return self._read(name, read, default, 0.0)

    def flag(self, name: str, default: object = REQUIRED) -> bool:
        """Return a truth."""
        return self._read(name, _flag, default, False)

    def name(self, name: str, default: object = REQUIRED) -> str:
        """Return the name of a limit."""
        return self._read(name, _name, default, "")

    def names(self, name: str) -> list[str]:
        """Return a list of texts."""
        if name in self._body and isinstance(self._body[name], list):
            got: list[object] = self._body[name]
            for index, entry in enumerate(got):
                if not isinstance(entry, str):
                    self._complain(_no_text(), name, entry, index)
            return [entry for entry in got if isinstance(entry, str)]
        return self._read(name, _list, REQUIRED, [])

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """Return one of a few words."""

        def read(got: object) -> str:
            if isinstance(got, str) and got in choices:
                return got
            raise _none_of(choices)

        return self._read(name, read, default, default)

    def uuid(self, name: str) -> str:
        """Return an id."""
        return self._read(name, uuid_of, REQUIRED, "")

    def holder(self, name: str) -> str:
        """Return for whom a lease is, as `type:id`; "" if that was not said."""
        got = self._body.get(name)
        if got is None:
            return ""
        if not isinstance(got, dict):
            self._complain(_no_object(), name, got)
            return ""
        inner = Fields(got)
        inner._wrong, inner._place = self._wrong, (*self._place, name)
        kinds = ("flow_run", "task_run", "deployment")
        kind = inner._read("type", lambda said: _one_of(said, kinds), REQUIRED, "")
        holder_id = inner.uuid("id")
        inner.allow(("type", "id"))
        return f"{kind}:{holder_id}"

    # ---

    _place: tuple[str | int, ...] = ("body",)

    def _read(self, name: str, read: Callable[[Any], T], default: object, fallback: T) -> T:
        got = self._body.get(name)
        if name not in self._body or (got is None and not self._is_model):
            if default is not REQUIRED:
                return default  # type: ignore[return-value]  # of the type that `read` returns, or None
            self._complain(_missing(), name, self._body if self._is_model else None)
            return fallback
        try:
            return read(got)
        except _WrongError as wrong:
            self._complain(wrong, name, got)
            return fallback

    def _complain(self, wrong: _WrongError, name: str, got: object, *more: int) -> None:
        where = (*self._place, name, *more) if name else self._place
        self._wrong.append(complaint(wrong.kind, where, wrong.msg, got, **wrong.ctx))


def id_in_path(name: str, text: str, body: object) -> str:
    """Return the id in an address; `body` came with it.

    Raises:
        AnsweredError: it is none.
    """
    try:
        return uuid_of(text)
    except _WrongError as wrong:
        told = complaint(wrong.kind, ("path", name), wrong.msg, text, **wrong.ctx)
        raise AnsweredError(invalid([told], body)) from None


def uuid_of(got: object) -> str:
    """Return an id in its usual form."""
    if not isinstance(got, str):
        raise _WrongError("uuid_type", "UUID input should be a string, bytes or UUID object")
    try:
        return str(UUID(got))
    except ValueError:
        text = _why_no_uuid(got)
        raise _WrongError("uuid_parsing", f"Input should be a valid UUID, {text}", error=text) from None


def _why_no_uuid(text: str) -> str:
    for index, character in enumerate(text):
        if character not in "0123456789abcdefABCDEF-":
            return f"invalid character: found `{character}` at {index}"
    groups = text.split("-")
    if len(groups) == 1:
        return f"invalid length: found {len(text)}"
    if len(groups) != 5:
        return f"invalid group count: expected 5, found {len(groups)}"
    for number, (group, expected) in enumerate(zip(groups, (8, 4, 4, 4, 12), strict=True)):
        if len(group) != expected:
            return f"invalid group length in group {number}: expected {expected}, found {len(group)}"
    return "badly formed hexadecimal UUID string"


def _whole(got: object) -> int:
    if isinstance(got, int):
        return int(got)
    if isinstance(got, float):
        if not math.isfinite(got):
            raise _WrongError("finite_number", "Input should be a finite number")
        if got != int(got):
            text = "Input should be a valid integer, got a number with a fractional part"
            raise _WrongError("int_from_float", text)
        return int(got)
    if isinstance(got, str):
        text = got.strip()
        if len(text) <= 4_000 and _WHOLE.fullmatch(text):
            return int(text.partition(".")[0])
        words = "Input should be a valid integer, unable to parse string as an integer"
        raise _WrongError("int_parsing", words)
    raise _WrongError("int_type", "Input should be a valid integer")


def _number(got: object) -> float:
    if isinstance(got, str):
        try:
            return float(got.strip().encode("ascii"))
        except ValueError:
            text = "Input should be a valid number, unable to parse string as a number"
            raise _WrongError("float_parsing", text) from None
    if isinstance(got, int | float):
        try:
            return float(got)
        except OverflowError:
            return math.inf
    raise _WrongError("float_type", "Input should be a valid number")


def _flag(got: object) -> bool:
    if isinstance(got, str):
        got = got.lower()
    if isinstance(got, str | int | float):
        if got in _FLAGS:
            return _FLAGS[got]
        if isinstance(got, float):
            raise _WrongError("bool_type", "Input should be a valid boolean")
        text = "Input should be a valid boolean, unable to interpret input"
        raise _WrongError("bool_parsing", text)
    raise _WrongError("bool_type", "Input should be a valid boolean")


def _name(got: object) -> str:
    if not isinstance(got, str):
        raise _no_text()
    if not _NAME.fullmatch(got):
        text = f"String should match pattern '{_NAME_PATTERN}'"
        raise _WrongError("string_pattern_mismatch", text, pattern=_NAME_PATTERN)
    return got


def _list(_got: object) -> list[str]:
    raise _WrongError("list_type", "Input should be a valid list")


def _one_of(got: object, choices: tuple[str, ...]) -> str:
    if isinstance(got, str) and got in choices:
        return got
    raise _none_of(choices)


def _none_of(choices: tuple[str, ...]) -> _WrongError:
    quoted = [repr(choice) for choice in choices]
    expected = " or ".join([", ".join(quoted[:-1]), quoted[-1]])
    return _WrongError("literal_error", f"Input should be {expected}", expected=expected)


def _missing() -> _WrongError:
    return _WrongError("missing", "Field required")


def _no_object() -> _WrongError:
    text = "Input should be a valid dictionary or object to extract fields from"
    return _WrongError("model_attributes_type", text)


def _no_text() -> _WrongError:
    return _WrongError("string_type", "Input should be a valid string")


def _too_small(least: float) -> _WrongError:
    return _WrongError("greater_than_equal", f"Input should be greater than or equal to {least:g}", ge=least)
