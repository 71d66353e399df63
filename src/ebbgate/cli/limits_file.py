"""The file that `ebbgate apply` reads and `ebbgate export` writes: limits as code, in YAML or JSON.

What a limit may be is the core's to say; here only the place is added where the file says otherwise. YAML is read
as version 1.2 has it (`no` and `12:30` are text), needs the extra `yaml`, and is written without it.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from ebbgate.core.decay import RATE_PATTERN, check_decay, parse_rate
from ebbgate.core.limits import (
    DESCRIPTION_LENGTH_MAX,
    LIMIT_MAX,
    NAME_LENGTH_MAX,
    check_description,
    check_name,
    check_slots,
)
from ebbgate.errors import EbbgateError, InvalidLimit, InvalidRequest
from ebbgate.version import requirement
from ebbgate.wire import LimitInfo
from ebbgate.wire.words import rate

_TOLD_MAX: Final = 20  # mistakes of one file


def _says(**schema: object) -> msgspec.Meta:
    return msgspec.Meta(extra_json_schema=schema)


_RATE: Final = {
    "pattern": RATE_PATTERN,
    "examples": ["60/hour"],
    "description": "How many come back in which time: 5/s, 100/min, 60/hour, 1000/day.",
}

Name = Annotated[
    str,
    _says(
        minLength=1,
        maxLength=NAME_LENGTH_MAX,
        pattern=r"^[^/\\%&><?#]+$",
        description=r"1 to 200 characters, none of / \ % & > < ? #, not an id.",
    ),
]
Slots = Annotated[int, _says(minimum=0, maximum=LIMIT_MAX, description="Slots; 0 lets nobody in.")]
Rate = Annotated[str, _says(**_RATE)]
Decay = Annotated[
    float,
    _says(
        anyOf=[{"const": 0}, {"minimum": 1e-9, "maximum": 1e6}],
        description="Spent slots that come back each second, for a rate limit; or give rate.",
    ),
]
Text = Annotated[str, _says(maxLength=DESCRIPTION_LENGTH_MAX, description="For people.")]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A limit in the file; what is left out is as in a new limit."""

    name: Name
    limit: Slots
    slot_decay_per_second: Decay | Rate = 0.0
    rate: Rate | msgspec.UnsetType = msgspec.UNSET
    active: Annotated[bool, _says(description="Whether it is enforced.")] = True
    description: Text = ""


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits as code."""

    limits: list[Entry]
    schema: str | msgspec.UnsetType = msgspec.field(name="$schema", default=msgspec.UNSET)  # for editors


class Terms(NamedTuple):
    """What a limit is to be, checked."""

    name: str
    limit: int
    slot_decay_per_second: float
    active: bool
    description: str


@dataclass(frozen=True, slots=True)
class _Document:
    """What a text holds, and on which line each part of it stands; no lines for JSON."""

    value: object
    lines: dict[str, int] = field(default_factory=dict)  # by path, as in $.limits[0].name


def read_limits(text: str, source: str) -> list[Terms]:
    """Return the limits that a file says.

    Args:
        text: YAML, or JSON if the file is called so or begins with a brace.
        source: what the file is called in messages.

    Raises:
        InvalidRequest: something in it is wrong; every mistake is told, with its place.
        EbbgateError: it is YAML, and the library for that is not installed.
    """
    is_json = source.endswith(".json") or text.lstrip().startswith("{")
    document = _json(text, source) if is_json else _yaml(text, source)
    try:
        file = msgspec.convert(document.value, File)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at ")
        raise InvalidRequest(f"{_place(source, document, path.strip('`') or '$')}: {said}") from None
    checked: list[Terms] = []
    mistakes: list[str] = []
    first: dict[str, int] = {}
    for number, entry in enumerate(file.limits):
        place = _place(source, document, f"$.limits[{number}]")
        try:
            terms = _checked(entry)
        except (InvalidLimit, InvalidRequest) as error:
            mistakes.append(f"{place} ({entry.name!r}): {error}")
            continue
        if terms.name in first:
            mistakes.append(f"{place}: {terms.name!r} is there twice, first as limits[{first[terms.name]}]")
        first.setdefault(terms.name, number)
        checked.append(terms)
    if mistakes:
        more = f"\n... and {len(mistakes) - _TOLD_MAX} more" if len(mistakes) > _TOLD_MAX else ""
        raise InvalidRequest("\n".join(mistakes[:_TOLD_MAX]) + more)
    return checked


def _checked(entry: Entry) -> Terms:
    """Return what an entry says, if the core allows it."""
    decay = entry.slot_decay_per_second
    if entry.rate is not msgspec.UNSET:
        if decay != 0.0:
            raise InvalidRequest("slot_decay_per_second and rate say the same: give one of them")
        decay = entry.rate
    return Terms(
        check_name(entry.name),
        check_slots(entry.limit),
        check_decay(parse_rate(decay) if isinstance(decay, str) else decay),
        entry.active,
        check_description(entry.description),
    )


def _place(source: str, document: _Document, path: str) -> str:
    """Return where in the file something stands: its line, if that is known, and its path."""
    known = path
    while known not in document.lines and known != "$":
        known = known.rpartition("[" if known.endswith("]") else ".")[0] or "$"
    line = document.lines.get(known)
    shown = path.removeprefix("$").removeprefix(".")
    return ": ".join(filter(None, (source if line is None else f"{source}:{line}", shown)))


# --- JSON and YAML


def _json(text: str, source: str) -> _Document:
    def paired(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = next((key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])), None)
        if twice is not None:
            raise InvalidRequest(f"{source}: {twice!r} is given twice")
        return dict(pairs)

    try:
        return _Document(json.loads(text, object_pairs_hook=paired))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{source} is not JSON: {error}") from None


def _yaml(text: str, source: str) -> _Document:
    try:
        import yaml
    except ImportError:
        raise EbbgateError(
            f"reading YAML needs a library that is not installed here: pip install {requirement('yaml')}; "
            "JSON needs none, and has the same fields"
        ) from None
    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return _Document(None)
        lines = dict(_lines(node, "$", source, set()))
        return _Document(loader.construct_document(node), lines)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        mark = getattr(error, "problem_mark", None)
        place = source if mark is None else f"{source}:{mark.line + 1}"
        said = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InvalidRequest(f"{place} is not YAML: {said}") from None


def _loader() -> Callable[[str], Any]:
    """Return what reads YAML as version 1.2 has it, and never makes objects."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - filled below, never changed later

    for kind, pattern, begins in (
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("merge", r"<<", "<"),
    ):
        resolver = f"tag:yaml.org,2002:{kind}", re.compile(rf"^(?:{pattern})$")
        for character in begins:
            Loader.yaml_implicit_resolvers.setdefault(character.strip("\0"), []).append(resolver)
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
    Loader.add_constructor(
        "tag:yaml.org,2002:float", lambda loader, node: float(loader.construct_scalar(node))
    )
    return Loader


def _lines(
    node: Any,  # noqa: ANN401 - a node of the library
    path: str,
    source: str,
    seen: set[int],
) -> Iterator[tuple[str, int]]:
    """Yield the line of every part of a document, each once; refuse a key that is there twice."""
    yield path, node.start_mark.line + 1
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if node.id == "sequence":
        for number, inner in enumerate(node.value):
            yield from _lines(inner, f"{path}[{number}]", source, seen)
    elif node.id == "mapping":
        keys: set[str] = set()
        for key, inner in node.value:
            line = key.start_mark.line + 1
            if isinstance(key.value, str):
                if key.value in keys:
                    raise InvalidRequest(f"{source}:{line}: {key.value!r} is given twice")
                keys.add(key.value)
            yield from _lines(inner, f"{path}.{key.value}", source, seen)
            yield f"{path}.{key.value}", line


# --- written


def as_file(limits: Iterable[LimitInfo]) -> File:
    """Return limits as the file has them."""
    return File(limits=[_entry(limit) for limit in limits])


def _entry(limit: LimitInfo) -> Entry:
    entry = Entry(name=limit.name, limit=limit.limit, active=limit.active, description=limit.description)
    if not limit.slot_decay_per_second:
        return entry
    return msgspec.structs.replace(entry, slot_decay_per_second=limit.slot_decay_per_second)


def written(file: File) -> str:
    """Return a file as YAML."""
    if not file.limits:
        return "limits: []\n"
    lines = ["limits:"]
    for entry in file.limits:
        lines += [f"  - name: {_text(entry.name)}", f"    limit: {entry.limit}"]
        decay = entry.slot_decay_per_second
        if isinstance(decay, float) and decay:
            lines.append(f"    slot_decay_per_second: {_number(decay)}  # {rate(decay, entry.limit)}")
        if not entry.active:
            lines.append("    active: false")
        if entry.description:
            lines.append(f"    description: {_text(entry.description)}")
    return "\n".join((*lines, ""))


_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*( [A-Za-z0-9_.\-]+)*", re.ASCII)
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _text(text: str) -> str:
    """Return text as every YAML takes it: as it is where nothing else can be meant, else in quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
        for c in quoted
    )


def _number(value: float) -> str:
    """Return a number as every YAML takes it: version 1.1 wants a point before an exponent."""
    if value.is_integer():
        return str(int(value))
    mantissa, e, exponent = repr(value).partition("e")
    return f"{mantissa}{'.0' if e and '.' not in mantissa else ''}{e}{exponent}"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors."""
    (schema,), parts = msgspec.json.schema_components([File], ref_template="#/$defs/{name}")
    parts["Entry"]["not"] = {"required": ["rate", "slot_decay_per_second"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Limits of ebbgate",
        **schema,
        "$defs": parts,
    }
