"""Numbers as Terraform sends them: whole ones as integers, others as decimal text with all their digits."""

import math
from typing import Any, Final

from tf.types import TfType, Unknown


class Exact(TfType):
    """A number that is neither rounded nor taken for another one.

    Terraform counts in 512 bits and the server in doubles, so two numbers are the same if their doubles are;
    then tf keeps the digits that Terraform sent. The name of this class matters: tf compares the classes
    `Number`, `String` and `Bool` digit by digit.
    """

    def decode(self, value: Any) -> Any:  # noqa: ANN401 - what Terraform sends
        """Return an int or a float; null and unknown stay."""
        if not isinstance(value, str):
            return value
        try:
            return int(value)
        except ValueError:
            return float(value)

    def encode(self, value: Any) -> Any:  # noqa: ANN401
        """Return a number as Terraform takes it: a decimal as the shortest text that means its double."""
        if not isinstance(value, float):
            return value
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number that Terraform knows")
        return int(value) if value.is_integer() and abs(value) < 2**53 else repr(value)

    def semantically_equal(self, a_decoded: Any, b_decoded: Any) -> bool:  # noqa: ANN401
        """Tell whether two decoded values are the same double, or both null or both unknown."""
        a, b = self.decode(a_decoded), self.decode(b_decoded)
        if a is None or b is None or a is Unknown or b is Unknown:
            return a is b
        return float(a) == float(b)

    def tf_type(self) -> bytes:
        """Return what Terraform calls it."""
        return b'"number"'


class Objects(TfType):
    """A list of objects whose fields are all known; only ever sent to Terraform."""

    def __init__(self, fields: dict[str, TfType]) -> None:
        """Have these fields, by name."""
        self.fields = fields

    def decode(self, value: Any) -> Any:  # noqa: ANN401
        """Return it as it is."""
        return value

    def encode(self, value: Any) -> Any:  # noqa: ANN401
        """Return every field of every object as Terraform takes it."""
        return [{name: kind.encode(entry[name]) for name, kind in self.fields.items()} for entry in value]

    def tf_type(self) -> bytes:
        """Return what Terraform calls it."""
        inner = ",".join(f'"{name}":{kind.tf_type().decode()}' for name, kind in self.fields.items())
        return f'["list",["object",{{{inner}}}]]'.encode()


EXACT: Final = Exact()
