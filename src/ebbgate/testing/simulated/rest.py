"""A client in another language: it asks over REST, again and again, since any request or answer may be lost.

A waiter is kept for 30 s after its last question and a grant for 10 s until it is fetched, so it never sleeps
for long. It counts a lease from the request that granted it, or else renews it first: no answer says how long
ago it was granted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ebbgate.client.lease import Lease
from ebbgate.client.renewal import Upkeep
from ebbgate.client.waiting import Waiter
from ebbgate.core.commands import Acquire, Command, Ended, Held, Outcome, Refused, Release, Renew
from ebbgate.core.model import SECOND
from ebbgate.errors import EbbgateError, ServerUnavailable
from ebbgate.testing import history as h
from ebbgate.testing.simulated.client import CONNECT_TIMEOUT_US, Steps, renew_for_ever
from ebbgate.testing.simulated.kernel import STARTED_US, Bell, Process, Until
from ebbgate.testing.simulated.remote import Outside
from ebbgate.testing.simulated.server import REST, REST_EPOCH

TRY_US: Final = 2 * SECOND
"""How long one request waits for its answer, beside what it asks the server to wait."""

GIVE_BACK_US: Final = 5 * SECOND
OPEN_US: Final = 4 * SECOND
"""How long a request of a waiter is held open."""

RELEASES_US: Final = 300 * SECOND


@dataclass(slots=True)
class Request:
    """One request, under way."""

    bell: Bell = field(default_factory=Bell)
    outcomes: Sequence[Outcome] | EbbgateError | None = None


class RestProcess:
    """A client process; its clock runs as fast as true time."""

    def __init__(self, outside: Outside, name: str) -> None:
        """Start."""
        self.outside = outside
        self.name = name
        self.process = Process(outside.kernel, name, outside.access.call)
        self.session = REST
        self.epoch = REST_EPOCH
        self.holding: dict[str, Lease] = {}
        self.upkeep = Upkeep(self.holding, outside.kernel.random.uniform)
        self.renew = Bell()
        self._asked: dict[str, Acquire] = {}
        self._counted: dict[str, int] = {}  # lease -> from when it surely counts
        self._requests: dict[int, Request] = {}
        self._numbers = 0
        self._troubles = 0
        self.process.start(renew_for_ever(self))

    # --- requests

    def answered(self, number: int, outcomes: Sequence[Outcome] | EbbgateError) -> None:
        """See `Caller`."""
        request = self._requests.pop(number, None)
        if request is not None:
            request.outcomes = outcomes
            request.bell.ring()

    def _try(self, commands: Sequence[Command], wait_us: int) -> Steps[Sequence[Outcome] | None]:
        """Send one request to any server; None when it met no answer."""
        kernel, servers = self.outside.kernel, self.outside.servers
        self._numbers += 1
        number, request = self._numbers, Request()
        self._requests[number] = request
        if servers:
            server = servers[kernel.random.choice(sorted(servers))]
            self.outside.network.send(
                self.process, server.process, lambda: server.rest(self, number, commands, wait_us)
            )
        yield Until(request.bell, kernel.now_us + wait_us + TRY_US)
        self._requests.pop(number, None)
        return None if isinstance(request.outcomes, EbbgateError) else request.outcomes

    def _until(
        self, commands: Sequence[Command], until_us: int, wait_us: int = 0
    ) -> Steps[Sequence[Outcome] | None]:
        """Send a request until it is answered, or until the true instant `until_us`."""
        kernel = self.outside.kernel
        trouble = ""
        outcomes = None
        while outcomes is None and kernel.now_us < until_us:
            outcomes = yield from self._try(commands, wait_us)
            if outcomes is None and not trouble:
                self._troubles += 1
                trouble = f"no answer {self._troubles}"
                self.record(h.TroubleBegan(when_us=kernel.now_us, client=self.name, what=trouble))
        if trouble:
            self.record(h.TroubleEnded(when_us=kernel.now_us, client=self.name, what=trouble))
        return outcomes

    # --- what clients need

    def ask(
        self, command: Acquire, waiter: Waiter, until_us: int | None, cancel_us: int | None
    ) -> Steps[Outcome | None]:
        """See `Gate`."""
        del waiter, until_us
        kernel = self.outside.kernel
        asked = Acquire(
            command.id, REST, REST_EPOCH, command.slots, command.duration_us, command.spend, command.wait,
            command.strict, command.priority, command.labels, attended=False,
        )  # fmt: skip
        end_us = kernel.now_us + CONNECT_TIMEOUT_US
        end_us = end_us if cancel_us is None else min(end_us, cancel_us)
        self._asked[command.id] = asked
        sent_us = self.clock()
        outcomes = yield from self._try((asked,), 0)
        if outcomes is not None:
            self._counted[command.id] = sent_us
            return outcomes[0]
        outcomes = yield from self._until((asked,), end_us)
        if outcomes is None:
            if cancel_us is not None and kernel.now_us >= cancel_us:
                return None
            raise ServerUnavailable("simulated: no server answers")
        return (yield from self._counted_anew(outcomes[0], command.duration_us))

    def wait(self, waiter: Waiter, bell: Bell, until_us: int | None) -> Steps[None]:
        """See `Gate`: ask again and again."""
        del bell
        kernel = self.outside.kernel
        asked = self._asked[waiter.lease_id]
        while waiter.outcome is None and (until_us is None or kernel.now_us < until_us):
            end_us = kernel.now_us + CONNECT_TIMEOUT_US
            left_us = OPEN_US if until_us is None else min(OPEN_US, until_us - kernel.now_us)
            outcomes = yield from self._until((asked,), end_us, left_us)
            outcome = outcomes[0] if outcomes is not None else None
            outcome = yield from self._counted_anew(outcome, asked.duration_us)
            if isinstance(outcome, Held | Ended | Refused):
                waiter.outcome = outcome

    def _counted_anew(self, outcome: Outcome | None, duration_us: int) -> Steps[Outcome | None]:
        """Renew a lease of which it is not known when it was granted; None: there was no answer."""
        if not isinstance(outcome, Held) or outcome.expires_us < 0:
            return outcome
        renew = Renew(outcome.id, REST, REST_EPOCH, duration_us, retake=False)
        sent_us = self.clock()
        outcomes = yield from self._try((renew,), 0)
        if outcomes is None:
            return None
        self._counted[outcome.id] = sent_us
        return outcomes[0]

    def forget(self, waiter: Waiter) -> None:
        """See `Gate`."""
        self._asked.pop(waiter.lease_id, None)
        self._counted.pop(waiter.lease_id, None)

    def give_back(self, command: Release) -> Steps[bool]:
        """See `Gate`."""
        end_us = self.outside.kernel.now_us + GIVE_BACK_US
        outcomes = yield from self._until((command,), end_us)
        if outcomes is None or not isinstance(outcomes[0], Ended):
            self.upkeep.releases.append((command, self.clock() + RELEASES_US))
            self.renew.ring()
            return False
        return True

    def call(self, commands: Sequence[Command], until_us: int | None) -> Steps[Sequence[Outcome | None]]:
        """See `Keeper`."""
        assert until_us is not None, "nobody calls for ever"
        outcomes = yield from self._until(commands, until_us)
        return [None] * len(commands) if outcomes is None else outcomes

    def counted_from(self, held: Held, started_us: int, duration_us: int) -> int:
        """See `Gate`."""
        del duration_us
        self._asked.pop(held.id, None)
        return self._counted.pop(held.id, started_us)

    def wake(self) -> str:
        """See `Gate`: the server puts its own address there."""
        return ""

    def clock(self) -> int:
        """Return the local time."""
        return self.outside.kernel.now_us - STARTED_US

    def true_us(self, local_us: int) -> int:
        """Return the true instant at which the local clock shows this."""
        return local_us + STARTED_US

    def record(self, event: h.AnyEvent) -> None:
        """Write down what this client saw."""
        self.outside.record(event)
