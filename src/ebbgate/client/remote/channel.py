"""What the channel of the threads and those of event loops have in common."""

from ebbgate.client.remote.desk import Desk
from ebbgate.client.remote.dialling import Connection, Dialler
from ebbgate.client.remote.host import GREETING, Host, greeting
from ebbgate.core.commands import FOR_EVER_US, Held
from ebbgate.errors import EbbgateError, ServerUnavailable
from ebbgate.wire.stream import HelloItem


class Channel:
    """A session of its own, and the connection that it has, or will have again."""

    address = ""  # the server knows where its clients are

    def __init__(self, host: Host, dialler: Dialler, session: str) -> None:
        """Connect on first use."""
        self.session = session
        self._host = host
        self._clock = host.clock
        self._dialler = dialler
        self._desk = Desk(session, host.clock)
        self._desk.pulse.has_others = dialler.has_others
        self._connection: Connection | None = None
        self._arriving: Connection | None = None  # was made, and its loop was told
        self._error: EbbgateError | None = None  # why there was no connection last
        self._broken_us = host.clock()  # since when there has been none
        self._epochs = 0  # that were used in greetings
        self._was_connected = False
        self._is_attached = False  # whether the renewer was told of this connection
        self.has_held = False  # whether a lease was ever taken here
        self._is_closed = False
        self._closed = ServerUnavailable("this client was closed", transient=False)

    @property
    def epoch(self) -> int:
        """The epoch of the connection that there is or was last."""
        return self._desk.epoch

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing is asked over it any more."""
        return self._is_closed

    @property
    def highest_epoch(self) -> int:
        """The highest epoch under which it may have greeted."""
        return max(self._epochs, self.epoch)

    def shortest_us(self) -> int:
        """Return how long the shortest lease lasts that is waited for here; much, if there is none."""
        return min((item.duration_us for _, item in list(self._desk.queued.values())), default=FOR_EVER_US)

    def counted_from(self, held: Held, started_us: int) -> int:
        """Return from when a lease is counted; see `Place`."""
        if not self._is_attached:
            self._is_attached = self.has_held = True
            self._host.attach(self.session)
        return self._desk.counted_from(held.id, started_us)

    def stale(self, hello: HelloItem, newest: int) -> None:  # noqa: ARG002 - there is one session
        """See `Connectable`."""
        self._epochs = max(self._epochs, newest)

    def _greeting(self) -> HelloItem:
        self._epochs += 1
        return greeting(GREETING, self.session, self._epochs, "main", self._desk.newest_token)

    def _end_arriving(self) -> None:
        """Close a connection that was made, and that nobody takes over any more."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.close()

    def _note(self, error: Exception) -> None:
        """Keep in mind why there is no connection, for those who will get no answer."""
        self._error = error if isinstance(error, EbbgateError) else ServerUnavailable(str(error))

    def _unavailable(self) -> ServerUnavailable:
        if self._connection is None and self._error is not None:
            return ServerUnavailable(str(self._error))
        where = ", ".join(str(address) for address in self._dialler.addresses)
        return ServerUnavailable(f"the server at {where} does not answer")


def is_final(error: EbbgateError) -> bool:
    """Tell whether an error will not pass by itself."""
    return not getattr(error, "transient", False)
