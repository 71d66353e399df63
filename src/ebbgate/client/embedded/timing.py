"""How long the embedded gate waits for what."""

from typing import Final

from ebbgate.stores.base import PATIENCE_US

TURN_US: Final = 50_000
"""The longest wait for the other processes' turns; then this one goes ahead without its own."""

GIVE_BACK_US: Final = 100_000
"""The longest that leaving a block waits for its release."""

ALIVE_EVERY_US: Final = 400_000
"""How often a process that waits looks whether the others live: a death is noticed within a second."""

PRESENT_EVERY_US: Final = 1_000_000
"""How often a process that holds leases checks that its presence file is still in place."""

COMPANY_CALLS: Final = 64
"""For how many calls after another process wrote it is expected to write again, and looked for beforehand."""

RETRY_US: Final = 50_000
"""How soon to look again after the store was out of reach."""

OVERDUE_US: Final = 20_000
"""After this, what another process should have seen to is seen to by any process that waits."""

RECENT_MAX: Final = 1_000
"""How many ended leases people are shown at most."""


def patience_of(until_us: int | None, now_us: int) -> int:
    """Return how long a caller whose time is up at `until_us` waits for others to let go of the file."""
    return PATIENCE_US if until_us is None else min(max(until_us - now_us, GIVE_BACK_US), PATIENCE_US)
