"""Who is told of waits, holds and losses: tracing, metrics, logs. With nobody there it costs one look at a list."""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from ebbgate.client.lease import Lease
from ebbgate.client.terms import Terms
from ebbgate.core.model import Slots

_log: Final = logging.getLogger("ebbgate")


class Acquisition(NamedTuple):
    """What a caller asks for."""

    slots: Slots  # (limit, how many), of each
    spend: bool  # by `rate_limit`; else a block holds them


class Observation(Protocol):
    """One acquisition in the eyes of one observer. Its methods are quick, and never wait."""

    def let_in(self, lease: Lease | None) -> None:
        """The caller got in; None: what it wanted is spent. The thread or task is that of the caller."""

    def kept_out(self, error: BaseException) -> None:
        """The caller did not get in."""

    def lost(self, lease: Lease) -> None:
        """The slots may be somebody else's. Any thread may tell it, and hold locks."""

    def left(self, lease: Lease, error: BaseException | None) -> None:
        """The block is left, by `error` if there is one; its slots are given back next."""


class Observer(Protocol):
    """Whoever is told."""

    def asks(self, acquisition: Acquisition) -> Observation:
        """A caller asks; the thread or task is its own."""


observers: Final[list[Observer]] = []
"""Everybody who is told, in this order."""


class Seen:
    """One acquisition, told to all who observe. A failure of theirs is logged and does no harm."""

    def __init__(self, terms: Terms) -> None:
        """Tell that a caller asks."""
        acquisition = Acquisition(terms.slots, terms.spend)
        self._observations: list[Observation] = []
        for observer in observers:
            try:
                self._observations.append(observer.asks(acquisition))
            except Exception:  # noqa: BLE001 - whatever it is, it is not the caller's
                _log.exception("an observer failed")

    def let_in(self, lease: Lease | None) -> None:
        """See `Observation`."""
        self._tell(lambda one: one.let_in(lease))

    def kept_out(self, error: BaseException) -> None:
        """See `Observation`."""
        self._tell(lambda one: one.kept_out(error))

    def left(self, lease: Lease, error: BaseException | None) -> None:
        """See `Observation`."""
        self._tell(lambda one: one.left(lease, error), reverse=True)

    def losing(self, on_loss: Callable[[Lease], None]) -> Callable[[Lease], None]:
        """Return what is to be called on a loss instead of `on_loss`."""

        def lost(lease: Lease) -> None:
            self._tell(lambda one: one.lost(lease))
            on_loss(lease)

        return lost

    def _tell(self, call: Callable[[Observation], None], *, reverse: bool = False) -> None:
        for observation in reversed(self._observations) if reverse else self._observations:
            try:
                call(observation)
            except Exception:  # noqa: BLE001 - whatever it is, it is not the caller's
                _log.exception("an observer failed")
