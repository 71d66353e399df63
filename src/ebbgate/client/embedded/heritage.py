"""What a gate on a file takes over from one that led to the file's owner, a server that has died."""

import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from ebbgate.client.lease import Lease
from ebbgate.client.renewal import Renewer
from ebbgate.core.commands import Hello


class Heritage(NamedTuple):
    """The sessions of this process, which may hold leases and wait, and those leases."""

    sessions: tuple[str, ...]  # the first one asks from now on
    epoch: int  # higher than any that was used
    holding: dict[str, Lease]
    renewer: Renewer


def greetings(sessions: Sequence[str], epoch: int, presence: int, wake: str) -> list[Hello]:
    """Return what this process says first.

    Args:
        sessions: its own.
        epoch: of all of them.
        presence: its byte in the presence file.
        wake: where it is told of losses.
    """
    host, pid = socket.gethostname(), os.getpid()
    return [
        Hello(session, epoch, host, pid, None, presence, wake, remembers="nothing") for session in sessions
    ]
