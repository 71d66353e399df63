"""Bodies that no JSON reader takes are answered, never a defect of the server."""

import pytest

from ebbgate.server.prefect.answers import AnsweredError
from ebbgate.server.prefect.checking import body_of


@pytest.mark.parametrize(
    "body",
    [
        b'{"slots": ' + b"1" * 4_301 + b"}",
        b'{"slots": -' + b"1" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"names": "\xff"}',
        b'{"slots": NaN}',
        b'{"slots": Infinity}',
        b'{"slots": 1e999999}',
    ],
    ids=["4301_digits", "negative", "deep", "no_utf8", "nan", "infinity", "exponent"],
)
def test_a_body_that_cannot_be_read_is_answered(body: bytes) -> None:
    with pytest.raises(AnsweredError):
        body_of(body)
