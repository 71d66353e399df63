"""The planted bugs, each with what it breaks and where it is looked for."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from ebbgate.core import decay, leasing, managing, sessions
from ebbgate.core.book import Book
from ebbgate.core.ledger import Ledger
from ebbgate.core.live import Live
from ebbgate.core.queue import Queue
from ebbgate.core.records import Records
from ebbgate.engine.engine import Engine
from ebbgate.server.sessions import Sessions
from ebbgate.server.stream import Connection
from ebbgate.stores.network_clock import NetworkClock
from ebbgate.testing.simulated.decider import Decider
from ebbgate.testing.simulated.store import SimulatedStore
from ebbgate.testing.simulated.world import World
from tests.mutants.planting import Edit


class Mutant(NamedTuple):
    """One planted bug."""

    name: str
    breaks: str  # what is promised, and would not be kept
    edits: tuple[Edit, ...]
    laws: frozenset[str] = frozenset()  # one of which the history checker alone finds broken; none: it cannot
    world: str = "usual"
    seeds: Sequence[int] = range(40)
    steps: int = 3_000


def _laws(*laws: str) -> frozenset[str]:
    return frozenset(laws)


MAIN: Final = (
    Mutant(
        "admission off by one",
        "a limit never has more leases than slots",
        (Edit(Live.room, "self.limit.limit - self.held", "self.limit.limit - self.held + 1"),),
        _laws("slots", "rate"),
    ),
    Mutant(
        "a fraction of a slot lost in decay",
        "a slot that has not come back wholly is not free",
        (Edit(decay.spent_slots, "-(-left //", "(left //"),),
        _laws("rate", "slots"),
    ),
    Mutant(
        "a fraction of a microsecond lost in decay",
        "a rate is exact, however long it is in use",
        (Edit(decay.spend, "rest=rest", "rest=0"),),
        _laws("rate"),
        "spending",
        steps=10_000,
    ),
    Mutant(
        "a release applied twice",
        "a doubled release changes nothing",
        (
            Edit(
                leasing.release,
                "    elif lease.why in RETAKEABLE:",
                "    elif lease.why == 'released':\n"
                "        for limit_id, slots in lease.slots:\n"
                "            if limit_id in ledger.lives:\n"
                "                ledger.lives[limit_id].held -= slots\n"
                "                ledger.queue.gained(ledger.lives[limit_id])\n"
                "    elif lease.why in RETAKEABLE:",
            ),
        ),
        _laws("slots"),
        "remote",
    ),
    Mutant(
        "barging",
        "a later waiter is not let in before an earlier one that it competes with",
        (Edit(leasing._enter, "live.visible(key, now_us) < slots", "live.room(now_us) < slots"),),
        _laws("order"),
    ),
    Mutant(
        "an expiry that is not checked again",
        "a lease that was renewed in time is not lost",
        (
            Edit(sessions.tick, " and lease.expires_us == expires_us", ""),
            Edit(Book._expires, " and lease.expires_us == at_us", ""),
        ),
        _laws("renewal"),
        "renewing",
    ),
    Mutant(
        "a lost wake-up: room gained that nobody is told of",
        "nobody waits for whom there is room",
        (Edit(Queue.gained, "if live.parked and not live.gaining:", "if False:"),),
        _laws("starved", "zero", "order"),
        "calm",
        steps=20_000,
    ),
    Mutant(
        "a lost wake-up: no hint arrives and nobody polls",
        "whoever is let in hears of it",
        (
            Edit(World.push, "self.kernel.happens(self.plan.hint_lost)", "True"),
            Edit(Decider._until_us, "self.poll_us", "10**15"),
        ),
        _laws("told", "starved", "zero", "renewal"),
        "calm",
    ),
    Mutant(
        "a lease counted on one of its two limits only",
        "a lease holds slots of all its limits",
        (
            Edit(Records.index, "in lease.slots:", "in lease.slots[:1]:"),
            Edit(Records.unindex, "in lease.slots:", "in lease.slots[:1]:"),
        ),
        _laws("slots"),
    ),
    Mutant(
        "a stale writer that commits",
        "a decision on an old version is not committed",
        (
            Edit(
                SimulatedStore.commit,
                "        raise Conflict",
                "        base = self.version",
            ),
        ),
        _laws("slots", "token", "arrival", "order", "rate"),
    ),
    Mutant(
        "a conflict that is not rolled back",
        "what was not committed did not happen",
        (
            Edit(
                Engine._commit,
                "except Conflict as lost:\n            book.rollback()",
                "except Conflict as lost:\n            book.confirm(decision.head)",
            ),
        ),
        _laws("slots", "starved", "zero", "order", "arrival", "told"),
    ),
)

OTHERS: Final = (
    Mutant(
        "a version's tag that is not looked at",
        "a store that lost its tail is not mixed with another history",
        (
            Edit(SimulatedStore.commit, "base != self.version", "base.number != self.version.number"),
            Edit(SimulatedStore._place, "self._log[place][0] == version", "True"),
        ),
        world="losing",
    ),
    Mutant(
        "a token counted in memory",
        "fencing tokens rise, also after everything was loaded anew",
        (
            Edit(Ledger.grant, "max(self.token + 1, now_us)", "self.token + 1"),
            Edit(
                Records.load,
                "self._set_head(head)",
                "self.head = head\n    self.arrival = head.arrival",
            ),
        ),
    ),
    Mutant(
        "a token that forgets the last one",
        "fencing tokens rise, also where the clock does not",
        (Edit(Ledger.grant, "max(self.token + 1, now_us)", "now_us"),),
    ),
    Mutant(
        "a lease taken again while others wait",
        "an expired lease is not taken again before those who wait",
        (Edit(leasing._can_be_retaken, "not live.waiting and ", ""),),
        world="stalling",
    ),
    Mutant(
        "a lease taken again without room",
        "a limit never has more leases than slots",
        (Edit(leasing._can_be_retaken, "live.room(ledger.now_us) >= slots", "True"),),
        world="stalling",
    ),
    Mutant(
        "a dead process's waiters stay",
        "whoever is dead leaves the queue",
        (
            Edit(sessions._leave, "session.away_certain and len(waiting)", "False and len(waiting)"),
            Edit(sessions._leave, '_end_some(ledger, waiting, "cancelled")', "pass"),
            Edit(sessions._leave, "if session.id in ledger.waiting_by_session:", "if False:"),
        ),
        world="killing",
    ),
    Mutant(
        "a dead process's leases stay",
        "what a dead process held is free at once",
        (
            Edit(sessions._leave, "session.away_certain and len(waiting)", "False and len(waiting)"),
            Edit(sessions._leave, '_end_some(ledger, holding, "lost_holder")', "pass"),
            Edit(sessions._leave, "if session.id in ledger.by_session:", "if False:"),
        ),
        world="killing",
    ),
    Mutant(
        "nothing expires",
        "a slot is never lost",
        (Edit(Records.expect, "heapq.heappush(self.expiries, (lease.expires_us, lease.id))", "pass"),),
        world="remote",
    ),
    Mutant(
        "patience ignored",
        "a waiter for several limits is not overtaken for ever",
        (Edit(Queue._look, "overdue = 0 <= head", "overdue = False and 0 <= head"),),
    ),
    Mutant(
        "a rollback that forgets the index of slots",
        "what was not committed did not happen",
        (Edit(Records._drop_lease, "self.unindex(lease)", "pass"),),
    ),
    Mutant(
        "a rollback that forgets the meter",
        "what was not committed did not happen",
        (
            Edit(
                Records.put_meter,
                "self._journal.append(partial(self._place_meter, limit_id, live.meter))",
                "pass",
            ),
        ),
    ),
    Mutant(
        "a late outcome dropped",
        "what was carried out, though its answer was lost, is not carried out again",
        (Edit(Engine.settle, "self._late.extend(", "(lambda _late: None)("),),
        world="unanswered",
    ),
    Mutant(
        "a lost answer taken for a commit",
        "nobody is told of what was not committed",
        (
            Edit(
                Engine._settle_commit,
                "self.book.rollback()",
                "self.book.confirm(unsettled.decision.head)\n"
                "        self.version = Version(unsettled.base.number + 1, unsettled.tag)",
            ),
        ),
    ),
    Mutant(
        "a lost answer taken for nothing",
        "what was committed is known",
        (Edit(Engine._settle_commit, "if found is None:", "if True:"),),
        world="unanswered",
    ),
    Mutant(
        "a doubled acquire takes twice",
        "asking again takes nothing more",
        (Edit(leasing.acquire, "if known is not None:", "if known is not None and known.state == 'x':"),),
        world="remote",
    ),
    Mutant(
        "an edit gives back what is spent",
        "what is spent stays spent",
        (
            Edit(
                managing._change,
                "decay.at_new_rate(live.meter, per_second, now_us=ledger.now_us)",
                "decay.unspent(limit.id, per_second)",
            ),
        ),
        world="editing",
    ),
    Mutant(
        "an old connection's end taken for the new one's",
        "nobody is taken out of the queue who is there",
        (
            Edit(sessions.away, "command.epoch < session.epoch", "False"),
            Edit(
                Sessions._say_here, "present.epoch != known.epoch", "True"
            ),  # or else it is put right at once
        ),
        world="parting",
    ),
    Mutant(
        "a late question heeded under another epoch",
        "what arrives over a connection that was given up changes nothing",
        (
            Edit(
                Connection._command_of,
                "self._main, self._epoch, slots",
                "self._main, self._sessions.epoch_of(self._main), slots",
            ),
            # Either guard alone is enough: a server closes what it knows to be given up.
            Edit(Sessions._saw, "session.epoch > present.epoch", "session.epoch < 0"),
        ),
        world="reconnecting",
        seeds=range(1_022, 1_030),  # it is rare
    ),
    Mutant(
        "a spend over a stream that is forgotten at once",
        "a spend whose answer was lost is not spent again",
        (Edit(Connection._hello, '"spends", self._key', '"nothing", self._key'),),
        world="reconnecting",
    ),
    Mutant(
        "a session away though its renewer is there",
        "a session is away only when no connection has it",
        (Edit(Sessions.detach, "present.is_empty", "present.main is None"),),
        world="resetting",
    ),
    Mutant(
        "a session away though another server has it",
        "a session is away only when no connection has it",
        (Edit(Sessions._say_here, "present.epoch != known.epoch", "True"),),
        world="reconnecting",
    ),
    Mutant(
        "expiry within the recovery grace",
        "nothing expires in a time in which nobody could renew",
        (Edit(sessions.tick, "if not command.expire:", "if False:"),),
        world="stepping",
    ),
    Mutant(
        "a step of the store's clock that is followed",
        "what a step adds counts for nothing",
        (Edit(NetworkClock._slew, "max(-most_us, min(most_us, self._gap_us()))", "max(0, self._gap_us())"),),
        world="timing",
    ),
    Mutant(
        "a server that starts with the stepped clock",
        "a server that starts continues the time of those that run",
        (Edit(NetworkClock.recorded, "self._ahead_us -= behind_us", "pass"),),
        world="timing",
    ),
    Mutant(
        "a step that nobody records",
        "a server that starts continues the time of those that run",
        (
            Edit(
                NetworkClock.to_record,
                "return behind_us if abs(behind_us - self._recorded_us)",
                "return None if behind_us",
            ),
        ),
        world="timing",
    ),
)

MUTANTS: Final = MAIN + OTHERS
