"""A line in the log for every wait, hold and loss, with fields that structured logs keep.

>>> instrument()  # doctest: +SKIP
"""

import logging
import time
from typing import Final

from ebbgate.client.lease import Lease
from ebbgate.integrations.observing import Acquisition, Observation, add, remove

_log: Final = logging.getLogger("ebbgate.use")


class LogObserver:
    """Logs what it is told, with `extra` fields `limits`, `lease_id`, `waited_seconds` and `held_seconds`."""

    def __init__(self, level: int = logging.DEBUG, logger: logging.Logger = _log) -> None:
        """Log getting in and leaving at `level`; being kept out and losses at least as warnings."""
        self.level, self.logger = level, logger

    def asks(self, acquisition: Acquisition) -> Observation:
        """See `Observer`."""
        return _Told(self, acquisition)


class _Told:
    def __init__(self, observer: LogObserver, acquisition: Acquisition) -> None:
        self._of = observer
        self._limits = ", ".join(name for name, _ in acquisition.slots)
        self._at = time.monotonic()

    def let_in(self, lease: Lease | None) -> None:
        waited, self._at = self._passed(), time.monotonic()
        lease_id = lease.id if lease is not None else ""
        self._say(
            self._of.level,
            "in at %s after %.3f s",
            self._limits,
            waited,
            lease_id=lease_id,
            waited_seconds=waited,
        )

    def kept_out(self, error: BaseException) -> None:
        waited = self._passed()
        code = str(getattr(error, "code", type(error).__name__))
        level = max(self._of.level, logging.WARNING)
        self._say(
            level,
            "kept out at %s after %.3f s: %s",
            self._limits,
            waited,
            code,
            code=code,
            waited_seconds=waited,
        )

    def lost(self, lease: Lease) -> None:
        level = max(self._of.level, logging.WARNING)
        self._say(level, "lost %s: %s", self._limits, lease.why, lease_id=lease.id, why=lease.why)

    def left(self, lease: Lease, error: BaseException | None) -> None:
        del error
        held = self._passed()
        self._say(
            self._of.level, "left %s after %.3f s", self._limits, held, lease_id=lease.id, held_seconds=held
        )

    def _passed(self) -> float:
        return time.monotonic() - self._at

    def _say(self, level: int, message: str, *arguments: object, **fields: object) -> None:
        self._of.logger.log(level, message, *arguments, extra={"limits": self._limits, **fields})


def instrument(level: int = logging.DEBUG, logger: logging.Logger = _log) -> LogObserver:
    """Log from now on what is waited for, held and lost in this process; `uninstrument` ends it.

    Args:
        level: of what goes well.
        logger: where; by default `ebbgate.use`.
    """
    observer = LogObserver(level, logger)
    add(observer)
    return observer


def uninstrument(observer: LogObserver) -> None:
    """Log no new acquisitions."""
    remove(observer)
