"""Connecting to servers, and again after every break: what `client.remote.connecting` and `dialling` do."""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from ebbgate.client.remote.connecting import PAUSE_FIRST_SECONDS, PAUSE_MAX_SECONDS
from ebbgate.client.remote.dialling import Stale, refusal_of
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, ServerUnavailable
from ebbgate.testing.simulated.kernel import Bell, Process, Sleep, Until
from ebbgate.testing.simulated.wire import Wire
from ebbgate.wire.stream import Down, HelloItem, decode_down, encode_up

if TYPE_CHECKING:
    from ebbgate.testing.simulated.remote import Outside
    from ebbgate.testing.simulated.server import Server

DIAL_US: Final = 5 * SECOND
DIAL_OTHERS_US: Final = 2 * SECOND

Message = tuple[int, list[Down]]
Steps = Generator[Sleep | Until, Any, "Stale | EbbgateError | None"]


class ClientEnd:
    """The client's end of one connection: passes on what arrives, once somebody took it over."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.wire: Wire | None = None
        self.early: list[Message] = []
        self.is_over = False
        self.bell = Bell()
        self.received: Callable[[list[Message]], None] | None = None
        self.broken: Callable[[], None] | None = None

    def arrived(self, data: bytes) -> None:
        """See `End`."""
        message = decode_down(data)
        if self.received is not None:
            self.received([message])
        else:
            self.early.append(message)
            self.bell.ring()

    def ended(self, *, certain: bool) -> None:
        """See `End`."""
        del certain
        self.is_over = True
        if self.broken is not None:
            self.broken()
        self.bell.ring()


class Dialler:
    """Knows where the servers are, for one process."""

    def __init__(self, outside: "Outside", process: Process, clock: Callable[[], int]) -> None:
        self._outside = outside
        self._process = process
        self._clock = clock
        self._not_before: dict[str, int] = {}  # servers that have asked not to come back sooner

    def leave(self, server: str, seconds: float) -> None:
        """Keep away from a server that stops, for about so long."""
        factor = self._outside.kernel.random.uniform(1.0, 1.5)
        self._not_before[server] = self._clock() + round(seconds * SECOND * factor)

    def order(self) -> "list[Server]":
        """Return all servers in the order in which they are to be tried."""
        servers = self._outside.servers
        names = sorted(servers)
        self._outside.kernel.random.shuffle(names)
        now_us = self._clock()
        names.sort(key=lambda name: self._not_before.get(name, now_us) > now_us)
        return [servers[name] for name in names]

    def pause_us(self, failures: int) -> int:
        """Return how long to wait before the next try."""
        now_us = self._clock()
        waits = [self._not_before.get(name, now_us) - now_us for name in self._outside.servers]
        pause_us = max(min(waits, default=0), 0)
        if failures:
            grown = min(PAUSE_FIRST_SECONDS * 2 ** min(failures - 1, 10), PAUSE_MAX_SECONDS)
            grown *= self._outside.kernel.random.uniform(0.5, 1.5)
            pause_us = max(pause_us, round(grown * SECOND))
        return pause_us

    def dial(self, server: "Server", end: ClientEnd, hello: HelloItem) -> Steps:
        """Connect and greet; return why it is not welcome, or None."""
        kernel = self._outside.kernel
        end.wire = wire = Wire(self._outside.network, end, server.process)
        wire.open(server.accept)
        wire.say_up(encode_up([hello]))
        length_us = DIAL_US if len(self._outside.servers) == 1 else DIAL_OTHERS_US
        until_us = kernel.now_us + length_us
        while kernel.now_us < until_us and not end.is_over:
            refusal = _answer(end.early, hello.number)
            if not isinstance(refusal, bool):
                wire.close(by_client=True)
                return refusal
            if refusal:
                return None
            yield Until(end.bell, until_us)
        if not end.is_over:
            wire.close(by_client=True)
        return ServerUnavailable("simulated: no server answers")


def _answer(messages: list[Message], number: int) -> bool | Stale | EbbgateError:
    """Take the answer to a greeting out of what was received; tell whether it was there, or why not welcome."""
    for _, items in messages:
        for item in items:
            if getattr(item, "number", 0) == number:
                items.remove(item)
                return refusal_of(item) or True
    return False
