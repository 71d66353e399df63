"""A field in the wrong place is told where it belongs."""

import msgspec
import pytest

from ebbgate.server.rest.problems import unreadable
from ebbgate.server.rest.requests import AcquireBody

_FIELDS = frozenset({"limits", "name", "slots", "wait_seconds"})


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"limits": [{"name": "a"}], "slots": 2}', "in each entry of a list of the body"),
        (b'{"limits": [{"name": "a", "wait_seconds": 2}]}', "at the top level of the body"),
    ],
    ids=["slots", "wait_seconds"],
)
def test_a_misplaced_field_is_never_suggested_as_itself(body: bytes, place: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.json.decode(body, type=AcquireBody)
    text = str(unreadable(raised.value, _FIELDS))
    assert text.endswith(f"is in the wrong place: it belongs {place}")
