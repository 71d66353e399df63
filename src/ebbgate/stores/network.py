"""What the URLs of stores behind a network have in common."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from ebbgate.errors import InvalidRequest

NAMESPACE: Final = "default"
"""The namespace of a URL that names none."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def take_out(url: str, *names: str) -> tuple[str, dict[str, str]]:
    """Part a URL from those of its parameters that have one of `names`, and return both.

    The others stay as they are written: what `+` means in them is not the same for all who read them.

    Raises:
        InvalidRequest: it is no URL, or a parameter is given twice or is empty.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidRequest(f"the URL of the store cannot be understood: {error}") from None
    taken: dict[str, str] = {}
    left: list[str] = []
    for parameter in filter(None, parts.query.split("&")):
        name, _, value = parameter.partition("=")
        if name not in names:
            left.append(parameter)
        elif name in taken or not value:
            raise InvalidRequest(f"the URL of a store has one {name}= with a value, or none")
        else:
            taken[name] = unquote(value)
    return parts._replace(query="&".join(left)).geturl(), taken


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
