"""What can go wrong, and which attribute of a limit it is about.

The server decides what a limit may be and says so in problem documents (RFC 9457). Here its words are only
assigned to the attribute that they are about, so that Terraform can show the line.
"""

import re
from collections.abc import Mapping
from typing import Final

_BODY_PATH: Final = re.compile(r"`\$\.(\w+)`")

# How the server's sentences begin, or what they hold, by attribute.
_WORDS: Final = (
    ("name", re.compile(r"the name of a limit |cannot be the name of a limit|reads as an id")),
    ("limit", re.compile(r"limit must be ")),
    ("slot_decay_per_second", re.compile(r"slot_decay_per_second must be ")),
    ("rate", re.compile(r"is not a rate|has no unit of time|would never return a slot")),
    ("description", re.compile(r"the description ")),
    ("active", re.compile(r"active must be ")),
)


class Problem(Exception):  # noqa: N818 - a problem document
    """What the server refuses, or why it cannot be asked."""

    def __init__(
        self, code: str, summary: str, detail: str, members: Mapping[str, object] | None = None
    ) -> None:
        """Say it.

        Args:
            code: the stable word for it, as in the reference of errors.
            summary: what all problems of this kind have in common.
            detail: this one, and what to do now.
            members: the other members of the problem document.
        """
        super().__init__(detail)
        self.code, self.summary, self.detail = code, summary, detail
        self.members = members or {}


def attribute_of(problem: Problem) -> str | None:
    """Return which attribute of a limit a problem is about; None: none in particular."""
    if problem.code == "limit_exists":
        return "name"
    if problem.code not in {"invalid_limit", "invalid_request"}:
        return None
    found = _BODY_PATH.search(problem.detail)
    if found is not None:
        return found[1]
    return next((attribute for attribute, words in _WORDS if words.search(problem.detail)), None)
