"""When leases may expire: never for time in which nobody could renew.

The decider reports what it noticed: that it became ready, that its own loop stalled, that the store was unreachable,
that its time jumped to that of another server. From then on nothing expires for the length of the grace. Steps of a
store's clock need no rule here: they never reach a decision (`ebbgate.stores.network_clock`).
"""

from typing import Final

from ebbgate.core.model import SECOND

RECOVERY_US: Final = 30 * SECOND
STALL_US: Final = 1 * SECOND
"""A stall shorter than this leaves every client time enough to renew."""


class Grace:
    """Whether expiry is suspended, and until when."""

    __slots__ = ("_failing_since_us", "_length_us", "until_us")

    def __init__(self, length_us: int = RECOVERY_US) -> None:
        """Suspend nothing yet; `length_us` is how long a suspension lasts."""
        self._length_us = length_us
        self._failing_since_us = -1
        self.until_us = -1

    def begin(self, now_us: int) -> None:
        """Suspend expiry from now: the decider became ready, or stalled, or its time jumped ahead."""
        self.until_us = max(self.until_us, now_us + self._length_us)

    @property
    def is_failing(self) -> bool:
        """Whether the store was out of reach when it was last asked."""
        return self._failing_since_us >= 0

    def failed(self, now_us: int) -> None:
        """Note that the store was out of reach; when it was so for long, nothing expires by what is decided next."""
        if self._failing_since_us < 0:
            self._failing_since_us = now_us
        elif now_us - self._failing_since_us > STALL_US:
            self.begin(now_us)

    def succeeded(self, now_us: int) -> None:
        """Note that the store answered; after a long silence expiry is suspended."""
        if self._failing_since_us >= 0:
            if now_us - self._failing_since_us > STALL_US:
                self.begin(now_us)
            self._failing_since_us = -1

    def is_over(self, now_us: int) -> bool:
        """Tell whether leases may expire now."""
        return now_us >= self.until_us
