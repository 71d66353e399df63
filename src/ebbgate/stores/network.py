"""What the URLs of stores behind a network have in common."""

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from ebbgate.errors import InvalidRequest

NAMESPACE: Final = "default"
"""The namespace of a URL that names none."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def take_out(url: str, *names: str) -> tuple[str, dict[str, str]]:
    """Part a URL from those of its parameters that have one of `names`, and return both.

    Raises:
        InvalidRequest: it is no URL, or a parameter is given twice or is empty.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidRequest(f"the URL of the store cannot be understood: {error}") from None
    taken: dict[str, str] = {}
    left: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in names:
            left.append((name, value))
        elif name in taken or not value:
            raise InvalidRequest(f"the URL of a store has one {name}= with a value, or none")
        else:
            taken[name] = value
    return parts._replace(query=urlencode(left)).geturl(), taken


def namespace_of(taken: dict[str, str]) -> str:
    """Return the namespace that a URL names.

    Raises:
        InvalidRequest: it can be none.
    """
    name = taken.get("namespace", NAMESPACE)
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} can be no namespace: 1 to 63 letters, digits, '_', '-' and '.', first a letter or digit"
        )
    return name
