"""Acquiring over REST: a caller without a connection asks, waits a while with its request open, and asks again.

A waiter is kept for 30 s after its last question, and a grant for 10 s until it is fetched, which the next
question does. So an open request repeats its question, and one whose client has gone stays silent.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar.types import Receive, Scope, Send

from ebbgate.core import views
from ebbgate.core.commands import LABELS_MAX, Acquire, Command, Ended, Hello, Outcome, Refused, Waiting
from ebbgate.core.model import SECOND, Lease
from ebbgate.errors import IdReused, WaiterRemoved
from ebbgate.server.decider import Decider
from ebbgate.server.front import KEY, WAITS
from ebbgate.server.hearing import Hearing, session_of
from ebbgate.server.rest.answers import Answer, LeaseAnswer, json_answer
from ebbgate.server.rest.problems import problem, refusal
from ebbgate.wire.questions import ReadLease
from ebbgate.wire.shapes import LeaseInfo
from ebbgate.wire.showing import lease_shape

EPOCH: Final = 1
"""A session without connections has no reconnects."""

ASK_AGAIN_SECONDS: Final = 10.0
RETRY_MIN_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0
RETRY_MAX_SECONDS: Final = 5.0
"""Less than a grant is kept for."""


def key_of(scope: Scope) -> str:
    """Return the id of the API key that a request came with, or ""."""
    return str(scope.get(KEY, ""))


def labels_of(scope: Scope, labels: dict[str, str] | None) -> dict[str, str]:
    """Return a lease's labels: those that were given, and from where."""
    labels = labels or {}
    client = scope.get("client")
    if client is None or "address" in labels or len(labels) >= LABELS_MAX:
        return labels
    return {**labels, "address": client[0]}


class Asking:
    """Carries out what REST callers ask."""

    def __init__(self, decider: Decider, hearing: Hearing) -> None:
        """Ask one decider; nobody waits once `hearing` drains."""
        self.decider = decider
        self.hearing = hearing

    async def carry_out(self, key: str, commands: Sequence[Command]) -> Sequence[Outcome]:
        """Carry out commands for the session of an API key, which is made known if it is not.

        Raises:
            StoreUnavailable: it is not known whether they were carried out.
        """
        session = session_of(key)
        if session in self.decider.book.sessions:
            outcomes = await self.decider.carry_out(commands)
            if not any(
                isinstance(outcome, Refused) and outcome.code == "unknown_session" for outcome in outcomes
            ):
                return outcomes
        hello = Hello(session, EPOCH, remembers="everything", key=key)
        greeted, *outcomes = await self.decider.carry_out((hello, *commands))
        return [greeted] * len(commands) if isinstance(greeted, Refused) else outcomes

    async def ask(self, key: str, command: Acquire) -> Outcome:
        """Ask for slots, or ask again.

        Raises:
            StoreUnavailable: it is not known whether they were given.
        """
        return (await self.carry_out(key, (command,)))[0]

    async def acquire(self, key: str, command: Acquire, wait_seconds: float) -> "Answer | OpenRequest":
        """Answer who asks for slots, at once or from an open request.

        Raises:
            StoreUnavailable: it is not known whether they were given.
        """
        outcome = await self.ask(key, command)
        if type(outcome) is Waiting and wait_seconds > 0 and not self.hearing.draining.is_set():
            return OpenRequest(self, key, command, wait_seconds, is_new=True)
        return await self.answer(command.id, outcome, is_new=True)

    async def ask_again(self, key: str, lease: Lease, wait_seconds: float) -> "Answer | OpenRequest":
        """Answer who asks what has become of a lease that waited, and so shows that it is still there.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        command = Acquire(
            lease.id, lease.session, EPOCH, lease.asked, lease.duration_us, lease.kind == "spend",
            strict=lease.strict, priority=lease.priority, wake=self.decider.address, attended=False,
        )  # fmt: skip
        outcome = await self.ask(key, command)
        if type(outcome) is Waiting and wait_seconds > 0 and not self.hearing.draining.is_set():
            return OpenRequest(self, key, command, wait_seconds, is_new=False)
        return await self.answer(command.id, outcome, is_new=False)

    async def answer(
        self, lease_id: str, outcome: Outcome, *, is_new: bool, retry_seconds: float = -1.0
    ) -> Answer:
        """Return what is said of an outcome: the lease as it is now.

        Args:
            lease_id: of the lease.
            outcome: what was decided about it.
            is_new: whether somebody wants to get in, to whom a lease that has ended is of no use.
            retry_seconds: when to ask again; negative: as it looks now.
        """
        if type(outcome) is Refused:
            return refusal(outcome)
        await self.decider.rest()
        lease = self.decider.book.leases.get(lease_id)
        if is_new and type(outcome) is Ended:
            if lease is None or lease.at_us >= 0 or not lease.asked:
                return problem(IdReused(lease_id, f"has ended ({outcome.why})"))
            return problem(WaiterRemoved(lease_id, [name for name, _ in lease.asked], outcome.why))
        return await self.show(lease_id, lease, 201 if is_new else 200, retry_seconds)

    async def show(
        self, lease_id: str, lease: Lease | None, status: int, retry_seconds: float = -1.0
    ) -> Answer:
        """Answer with a lease: 202 while it waits, else with `status`.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        decider = self.decider
        if lease is None:  # it has been forgotten since
            found = await decider.ask(ReadLease(lease_id))
            if not isinstance(found, LeaseInfo):
                assert isinstance(found, Refused), "as the question promises"
                return refusal(found)
            return json_answer(status, LeaseAnswer(**msgspec.structs.asdict(found)))
        book = decider.book
        view = views.lease_view(book, decider.store.clock(), lease)
        more: dict[str, Any] = {"unknown": list(lease.unknown)}
        if lease.unknown:
            more["suggestion"] = views.near_miss_of(book, lease.unknown[0]) or ""
        if view.wait is None:
            return json_answer(status, lease_shape(LeaseAnswer, view, **more))
        if retry_seconds < 0:
            retry_seconds = _retry_seconds(view.wait)
        info = lease_shape(LeaseAnswer, view, **more, retry_after_seconds=retry_seconds)
        return json_answer(202, info, ((b"retry-after", str(-int(-retry_seconds // 1)).encode()),))


def _retry_seconds(wait: views.WaitView) -> float:
    """Return when to ask again: where nobody can tell how long it takes, the sooner the fewer are before."""
    if wait.estimate_us is None:
        return min(max(RETRY_SECONDS, wait.position / 10), RETRY_MAX_SECONDS)
    return min(max(RETRY_MIN_SECONDS, wait.estimate_us / SECOND), RETRY_MAX_SECONDS)


class OpenRequest:
    """An answer that comes when a waiter's turn has come, or when its time is up."""

    def __init__(
        self, asking: Asking, key: str, command: Acquire, wait_seconds: float, *, is_new: bool
    ) -> None:
        """Wait for what `command` asks for, which has a place in the queue."""
        self._asking = asking
        self._key = key
        self._command = command
        self._wait_seconds = wait_seconds
        self._is_new = is_new

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client leaves before; then its place and its grant pass on by themselves."""
        scope[WAITS] = True  # type: ignore[typeddict-unknown-key]  # a key of the front's
        gone = asyncio.create_task(self._hear_leaving(receive))
        try:
            answer = await self._wait(gone)
        finally:
            gone.cancel()
        if answer is not None:
            await answer(scope, receive, send)

    async def _hear_leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._asking.hearing.wake(self._command.id)

    async def _wait(self, gone: asyncio.Task[None]) -> Answer | None:
        asking, lease_id = self._asking, self._command.id
        hearing, book = asking.hearing, asking.decider.book
        clock = asyncio.get_running_loop().time
        until = clock() + self._wait_seconds
        outcome: Outcome = Waiting(lease_id, 0)
        retry_seconds = 0.0
        while type(outcome) is Waiting:
            left = until - clock()
            lease = book.leases.get(lease_id)
            if left > 0 and not hearing.draining.is_set() and lease is not None and lease.state == "waiting":
                await hearing.heard(lease_id, min(left, ASK_AGAIN_SECONDS))
            if gone.done():
                return None  # nobody would fetch what it is granted now
            if hearing.draining.is_set():
                retry_seconds = RETRY_SECONDS
            outcome = await asking.ask(self._key, self._command)
            if clock() >= until or hearing.draining.is_set():
                break
        return await asking.answer(lease_id, outcome, is_new=self._is_new, retry_seconds=retry_seconds)
