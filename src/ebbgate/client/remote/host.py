"""What the channels and the renewer of a process need of the gate that they belong to."""

import os
import socket
from typing import Final, Protocol

from ebbgate.client.renewal import Renewer
from ebbgate.core.commands import Ended, Release
from ebbgate.core.model import SECOND
from ebbgate.wire.stream import VERSION, HelloItem, Role

GIVE_BACK_US: Final = 100_000
"""The longest that leaving a block waits for its release, and the shortest that a question is given."""

TRY_ONCE_US: Final = 2 * SECOND
"""How long the answer may take to a caller that does not wait."""

RELEASES_US: Final = 300 * SECOND
"""How long releases are kept for a server that is gone."""

GREETING: Final = 1
"""The number of the greeting of a connection, which nothing is answered before."""


class Host(Protocol):
    """A remote gate."""

    @property
    def renewer(self) -> Renewer:
        """What keeps its leases alive."""

    def clock(self) -> int:
        """Return the local time in microseconds."""

    def patience_us(self) -> int:
        """Return how long a question that gets no answer is asked again."""

    def ended(self, ended: Ended) -> None:
        """Hear that a lease was lost."""

    def hurry(self) -> None:
        """Hear that all leases are to be renewed now."""

    def attach(self, session: str) -> None:
        """Hear that a session holds its first lease over a new connection."""

    def unreachable(self) -> None:
        """Hear, on a thread of its own, that no server could be reached."""

    def reconnected(self) -> None:
        """Hear that a session has a new connection, and so a new epoch."""


class Sessions(Protocol):
    """What a renewal line needs to know of the channels, and whom it tells what it hears."""

    def clock(self) -> int:
        """Return the local time in microseconds."""

    def epoch_of(self, session: str) -> int:
        """Return the present epoch of a session."""

    def release_elsewhere(self, command: Release, patience_us: int) -> bool:
        """Release a lease over the connection that it was asked for on, after all that was asked there.

        Returns:
            Whether there still is one.

        Raises:
            ServerUnavailable, StoreUnavailable: there was no answer in time.
        """

    def ended(self, ended: Ended) -> None:
        """Hear that a lease was lost."""

    def hurry(self) -> None:
        """Hear that all leases are to be renewed now."""

    def unreachable(self) -> None:
        """Hear, on a thread of its own, that no server could be reached."""

    def reap(self) -> bool:
        """See whether an event loop has ended."""


def patience_until(now_us: int, until_us: int | None, longest_us: int, *, waits: bool) -> int:
    """Return until when a question is worth asking.

    Args:
        now_us: the local time.
        until_us: when the caller's own time is up.
        longest_us: how long nobody waits for any answer.
        waits: whether the caller waits for slots, and not only for an answer.
    """
    if not waits:
        return now_us + min(TRY_ONCE_US, longest_us)
    if until_us is None:
        return now_us + longest_us
    return min(max(until_us, now_us + GIVE_BACK_US), now_us + longest_us)


def greeting(number: int, session: str, epoch: int, role: Role, token: int) -> HelloItem:
    """Return the greeting of this process."""
    return HelloItem(number, VERSION, session, epoch, role, socket.gethostname(), os.getpid(), None, token)
