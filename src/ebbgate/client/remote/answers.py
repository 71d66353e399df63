"""What the answer to each question looks like when it has travelled."""

from typing import Any, Final

import msgspec

from ebbgate.core.commands import Outcome, Refused
from ebbgate.errors import InternalError
from ebbgate.wire.questions import (
    Answer,
    ListLeases,
    ListLimits,
    Question,
    ReadLease,
    ReadLimit,
    ReadSizes,
    ReadStatus,
)
from ebbgate.wire.shapes import LeaseInfo, LimitInfo, StatusInfo
from ebbgate.wire.stream import AnswerItem

_SHAPES: Final[dict[type, Any]] = {
    ReadStatus: StatusInfo,
    ReadLimit: LimitInfo,
    ListLimits: list[LimitInfo],
    ReadLease: LeaseInfo,
    ListLeases: list[LeaseInfo],
    ReadSizes: dict[str, int],
}


def answer_in(reply: Outcome | AnswerItem, question: Question) -> Answer:
    """Return the answer that a server's reply to a question holds.

    Raises:
        InternalError: it is the answer to something else.
    """
    if isinstance(reply, Refused):
        return reply
    assert isinstance(reply, AnswerItem), "only questions are answered so"
    try:
        found: Answer = msgspec.json.decode(reply.body, type=_SHAPES[type(question)])
    except msgspec.MsgspecError as error:
        raise InternalError(f"the server's answer is not what was asked for: {error}") from error
    return found
