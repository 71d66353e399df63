"""How values are written for people: names, addresses, durations, rates. Text only; knows no terminal."""

import re
from typing import Final

from ebbgate.core.decay import rate_of

_UNITS: Final = (("s", 1), ("min", 60), ("hour", 3_600), ("day", 86_400))


def clean(text: str) -> str:
    """Return `text` with what a terminal would obey written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_secrets(url: str) -> str:
    """Return the address of a server as it may be shown: a key that was written into it is left out.

    >>> without_secrets("ebbgate://key@a:1,name:key@b:1/?key=1")
    'ebbgate://***@a:1,***@b:1/?***'
    """
    if url.startswith("sqlite:"):
        return url
    return re.sub(r"\?.*", "?***", re.sub(r"[^/,]*@", "***@", url))


def rate(decay: float, limit: int = 0) -> str:
    """Return slots per second as a rate: in the unit in which it equals `limit`, else the shortest whole one.

    >>> rate(1 / 60, limit=60), rate(1 / 60, limit=5), rate(0.3), rate(0)
    ('60/hour', '1/min', '18/min', '-')
    """
    if not decay:
        return "-"
    numerator, denominator = rate_of(decay)
    whole = [
        (numerator * seconds // denominator, unit)
        for unit, seconds in _UNITS
        if not numerator * seconds % denominator
    ]
    usual = [f"{count}/{unit}" for count, unit in whole if count == limit]
    shortest = [f"{count}/{unit}" for count, unit in whole]
    return (usual or shortest or [f"{decay:g}/s"])[0]


def duration(seconds: float) -> str:
    """Return a duration in its two greatest units.

    >>> duration(0.25), duration(59.6), duration(3_725), duration(200_000)
    ('0s', '59s', '1h 2min', '2d 7h')
    """
    left = max(int(seconds), 0)
    days, left = divmod(left, 86_400)
    hours, left = divmod(left, 3_600)
    minutes, left = divmod(left, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count) or "0s"
