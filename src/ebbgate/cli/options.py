"""The flags that several commands share, and how their values are read."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter, Token

OutputFormat = Literal["table", "json"]

Output = Annotated[
    OutputFormat,
    Parameter(name=("--output", "-o"), help="table for people; json for programs: the API's own shapes."),
]


def whole(_type: Any, tokens: Sequence[Token]) -> int:  # noqa: ANN401 - cyclopts' protocol
    """Read a whole number: `1.5` is refused, not rounded."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


Whole: Final = Parameter(converter=whole)
