"""What a limit may be: its name, its number of slots, and the near misses of a name that nobody has."""

import unicodedata
import uuid
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Final, TypeGuard

from ebbgate.errors import InvalidLimit

NAME_LENGTH_MAX: Final = 200
LIMIT_MAX: Final = 1_000_000_000
DESCRIPTION_LENGTH_MAX: Final = 2_000

_WRITTEN_LENGTH_MAX: Final = 4 * NAME_LENGTH_MAX  # NFC makes one character of several
_FORBIDDEN: Final = frozenset("/\\%&><?#")
_UNSEEN: Final = frozenset(
    {"Cc", "Cf", "Cs", "Zl", "Zp"}
)  # controls, formats (bidi, zero width, tags), breaks
_CANDIDATES_MAX: Final = 200  # a near miss is looked for among this many names at most
_COMPARED_MAX: Final = 50  # letter by letter
_TYPED_LENGTH_MAX: Final = 100  # longer names are made by programs, which do not mistype


def is_uuid(text: str) -> bool:
    """Tell whether `text` would be taken for an id wherever a name or an id may stand."""
    if len(text) < 32:
        return False
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def normal(name: str) -> str:
    """Return `name` in Unicode NFC; a long one as it is, for no name is so long and it would take its time."""
    return unicodedata.normalize("NFC", name) if len(name) <= _WRITTEN_LENGTH_MAX else name


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether `value` is text that can be stored: without halves of characters, as a file's name may have."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def check_name(name: str) -> str:
    """Return `name` in the form in which limits are stored (Unicode NFC).

    Raises:
        InvalidLimit: it is not allowed; the message says why.
    """
    if not isinstance(name, str):
        raise InvalidLimit(f"the name of a limit must be text, got {name!r}")
    return _checked(name)


@lru_cache(maxsize=4096)  # every acquisition names its limits, and checking costs as much as deciding
def _checked(name: str) -> str:
    name = normal(name)
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        raise InvalidLimit(f"the name of a limit has 1 to {NAME_LENGTH_MAX} characters, got {len(name)}")
    wrong = sorted(_FORBIDDEN.intersection(name))
    if wrong:
        raise InvalidLimit(f"the name of a limit cannot contain {' '.join(wrong)}; got {name!r}")
    if name in {".", ".."}:
        raise InvalidLimit(f"{name!r} cannot be the name of a limit")
    if name != name.strip():
        raise InvalidLimit(f"the name of a limit cannot begin or end with a space; got {name!r}")
    for position, character in enumerate(name, start=1):
        if unicodedata.category(character) in _UNSEEN:
            what = unicodedata.name(character, "a control character")
            raise InvalidLimit(
                "the name of a limit cannot contain characters that are not visible, because two names could look "
                f"the same: character {position} is U+{ord(character):04X} ({what}); got {name!r}"
            )
    if is_uuid(name):
        raise InvalidLimit(f"{name!r} reads as an id, so a limit of that name could never be addressed")
    return name


def check_slots(limit: int) -> int:
    """Return `limit` if it is an allowed number of slots.

    Raises:
        InvalidLimit: it is not a whole number from 0 to 1,000,000,000.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidLimit(f"limit must be a whole number of slots, got {limit!r}")
    if not 0 <= limit <= LIMIT_MAX:
        raise InvalidLimit(f"limit must be from 0 to {LIMIT_MAX:,} slots, got {limit}")
    return limit


def check_description(description: str) -> str:
    """Return `description` if it is allowed.

    Raises:
        InvalidLimit: it is not text, or longer than 2,000 characters.
    """
    if not is_text(description):
        raise InvalidLimit(f"the description must be text, got {description!r}")
    if len(description) > DESCRIPTION_LENGTH_MAX:
        raise InvalidLimit(
            f"the description has at most {DESCRIPTION_LENGTH_MAX} characters, got {len(description)}"
        )
    return description


def near_miss(name: str, names: Iterable[str]) -> str | None:
    """Return the existing name that was perhaps meant by `name`, or None.

    >>> near_miss("databse", ["api", "database"])
    'database'
    """
    if len(name) > _TYPED_LENGTH_MAX:
        return None
    matcher = SequenceMatcher(None, b=name.casefold())
    best: tuple[float, str] | None = None
    looked_at = compared = 0
    for candidate in names:
        if abs(len(candidate) - len(name)) > 3 or looked_at >= _CANDIDATES_MAX:
            continue
        looked_at += 1
        matcher.set_seq1(candidate.casefold())
        if matcher.real_quick_ratio() < 0.7 or matcher.quick_ratio() < 0.7 or compared >= _COMPARED_MAX:
            continue  # `ratio` never exceeds these, and takes its time
        compared += 1
        likeness = matcher.ratio()
        if likeness >= 0.7 and (best is None or (-likeness, candidate) < (-best[0], best[1])):
            best = (likeness, candidate)
    return best[1] if best else None
