"""People who change limits while they are in use."""

from dataclasses import dataclass
from typing import Final, TypedDict, Unpack

from ebbgate.core.commands import Command, DeleteLimit, Done, Outcome, PutLimit, Refused, Revoke
from ebbgate.errors import EbbgateError
from ebbgate.testing import history as h
from ebbgate.testing.simulated.client import Gate, Steps
from ebbgate.testing.simulated.kernel import Sleep

TRIES_MAX: Final = 40


class Fields(TypedDict, total=False):
    """What may be changed of a limit."""

    name: str  # create
    new_name: str
    limit: int
    decay: float
    active: bool


@dataclass(slots=True)
class Known:
    """A limit as its operator knows it."""

    which: str
    name: str
    limit: int
    decay: float
    active: bool = True


class Operator:
    """Knows all limits of a world and changes them through a gate."""

    def __init__(self, gate: Gate) -> None:
        """Know none yet."""
        self.gate = gate
        self.limits: dict[str, Known] = {}
        self._names = 0
        self._requests = 0

    def names(self) -> list[str]:
        """Return what the limits are called."""
        return [limit.name for limit in self.limits.values()]

    def create(self, name: str, limit: int, decay: float = 0.0) -> Steps[None]:
        """Create a limit."""
        which = self.gate.process.kernel.new_id()
        command = PutLimit(self._request(), "create", name, which, None, limit, decay, True)
        if (yield from self._change(command, which, name=name, limit=limit, decay=decay)):
            self.limits[which] = Known(which, name, limit, decay)

    def update(self, known: Known, **fields: Unpack[Fields]) -> Steps[None]:
        """Change a limit: `limit`, `decay`, `active` or `new_name`."""
        command = PutLimit(
            self._request(),
            "update",
            known.which,
            "",
            fields.get("new_name"),
            fields.get("limit"),
            fields.get("decay"),
            fields.get("active"),
        )
        if (yield from self._change(command, known.which, **fields)):
            known.name = fields.get("new_name", known.name)
            known.limit = fields.get("limit", known.limit)
            known.decay = fields.get("decay", known.decay)
            known.active = fields.get("active", known.active)

    def delete(self, known: Known, *, force: bool) -> Steps[None]:
        """Delete a limit, and make another one of its name."""
        deleted = yield from self._change(DeleteLimit(known.which, force), known.which)
        if deleted and self.limits.pop(known.which, None) is not None:
            yield from self.create(known.name, known.limit, known.decay)

    def repair(self) -> Steps[None]:
        """After the store lost its tail: put every limit as it should be."""
        for known in list(self.limits.values()):
            name, limit, decay, active = known.name, known.limit, known.decay, known.active
            yield from self.update(known, new_name=name, limit=limit, decay=decay, active=active)

    def revoke(self, lease: str) -> Steps[None]:
        """End a lease."""
        gate = self.gate
        gate.record(h.RevokeCalled(when_us=gate.process.kernel.now_us, client=gate.name, lease=lease))
        yield from self._until_answered(Revoke(lease))

    def fresh_name(self, known: Known) -> str:
        """Return a name that no limit ever had."""
        self._names += 1
        return f"{known.name.split('~')[0]}~{self._names}"

    def _request(self) -> str:
        self._requests += 1
        return f"request-{self._requests}"

    def _change(self, command: PutLimit | DeleteLimit, which: str, **fields: Unpack[Fields]) -> Steps[bool]:
        gate = self.gate
        request = command.request_id if isinstance(command, PutLimit) else self._request()
        verb = "delete" if isinstance(command, DeleteLimit) else command.mode
        gate.record(
            h.ChangeCalled(
                when_us=gate.process.kernel.now_us,
                client=gate.name,
                request=request,
                which=which,
                verb="create" if verb == "put" else verb,
                **fields,
            )
        )
        outcome, unsure = yield from self._until_answered(command)
        if outcome is None:
            return False
        gone = isinstance(outcome, Refused) and outcome.code == "limit_not_found"
        done = isinstance(outcome, Done) or (isinstance(command, DeleteLimit) and unsure and gone)
        now_us = gate.process.kernel.now_us
        gate.record(h.ChangeDone(when_us=now_us, client=gate.name, request=request, done=done))
        if gone and not done:
            self.limits.pop(which, None)  # the store lost it
        return done

    def _until_answered(self, command: Command) -> Steps[tuple[Outcome | None, bool]]:
        """Ask until there is an answer; also tell whether an earlier try may have taken effect."""
        gate = self.gate
        for tried in range(TRIES_MAX):
            try:
                (outcome,) = yield from gate.call((command,), gate.process.kernel.now_us + 5_000_000)
            except EbbgateError:
                outcome = None
            if outcome is not None:
                return outcome, tried > 0
            yield Sleep(gate.process.kernel.between(50_000, 1_000_000))
        return None, True
