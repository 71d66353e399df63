"""What clients saw, as events: the only thing that the checker reads.

A history is a list of events in the order of `when_us`, the one clock that all of them share: virtual time in
a simulation, `CLOCK_MONOTONIC` of one machine in a real run. `at_us` alone is an instant of the store.

Written as JSON lines, one `write` a line, so that the file of a process that was killed lacks at most the end
of its last line. Whoever records writes an event of its own doing (`Asked`, `ReleaseCalled`, `RenewSent`,
`Killed`) *before* it does it, and what it saw (`Granted`, `Released`, `Renewed`) after it saw it.

Known limit: the recorder trusts that its `when_us` comes from the one clock.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

Kind = Literal["hold", "spend"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Something that a client did or saw."""

    when_us: int  # by the one clock
    client: str = ""  # the process that did or saw it; "": the world


# --- one lease


class Asked(Event, frozen=True, kw_only=True, tag="asked"):
    """A call that asks for slots begins; written once a lease, however often it is asked again."""

    lease: str
    slots: Mapping[str, int]  # by the name of the limit, as asked
    kind: Kind = "hold"
    priority: int = 0
    wait_us: int | None = None  # 0: try once; None: for ever
    duration_us: int = 0


class Queued(Event, frozen=True, kw_only=True, tag="queued"):
    """The client was told that it has a place in the queue. Optional."""

    lease: str
    arrival: int


class Granted(Event, frozen=True, kw_only=True, tag="granted"):
    """The client was told that it has its slots; it counts on a hold from now on."""

    lease: str
    token: int
    arrival: int
    at_us: int  # when it was granted, by the store's clock
    protected: bool = True  # False: there was no limit to take slots of
    unknown: tuple[str, ...] = ()  # asked names that no limit had
    deadline_us: int = -1  # until when the client counts on it, on the clock of `when_us`; -1: a spend


class NotGranted(Event, frozen=True, kw_only=True, tag="not_granted"):
    """The call ended without slots: refused, out of time, cancelled, or the store was out of reach."""

    lease: str
    why: str  # "refused", "timeout", "cancelled", "unavailable", "removed"
    code: str = ""  # of the error
    arrival: int = 0  # 0: not told


class ReleaseCalled(Event, frozen=True, kw_only=True, tag="release_called"):
    """The client gives its slots back; it counts on them no more."""

    lease: str


class Released(Event, frozen=True, kw_only=True, tag="released"):
    """The release was answered. Optional."""

    lease: str
    why: str = "released"  # what the store says how the lease ended


class RenewSent(Event, frozen=True, kw_only=True, tag="renew_sent"):
    """The client asks for another countdown."""

    lease: str


class Renewed(Event, frozen=True, kw_only=True, tag="renewed"):
    """A renewal was answered: the lease is held."""

    lease: str
    token: int  # another one than before: it had ended, and its slots were taken again
    deadline_us: int


class LossNoticed(Event, frozen=True, kw_only=True, tag="loss_noticed"):
    """The client counts on the lease no more."""

    lease: str
    why: str  # "deadline": its own; else what the store said: "expired", "revoked", "lost_holder", ...


class RevokeCalled(Event, frozen=True, kw_only=True, tag="revoke_called"):
    """An operator ends a lease."""

    lease: str


# --- one limit


class ChangeCalled(Event, frozen=True, kw_only=True, tag="change_called"):
    """A call that creates, changes or deletes a limit begins. None: left as it is."""

    request: str  # pairs it with its `ChangeDone`
    which: str  # the limit, whatever it is called; one that is created anew is another
    verb: Literal["create", "update", "delete"]
    name: str = ""  # create
    new_name: str | None = None
    limit: int | None = None
    decay: float | None = None  # slots per second
    active: bool | None = None


class ChangeDone(Event, frozen=True, kw_only=True, tag="change_done"):
    """That call ended. Without this event it is not known whether it took effect, or when."""

    request: str
    done: bool  # False: refused, so that nothing was changed


# --- processes and the store


class Started(Event, frozen=True, kw_only=True, tag="started"):
    """A client process begins."""


class Killed(Event, frozen=True, kw_only=True, tag="killed"):
    """A client process is gone: written before the signal is sent, or when it ended by itself."""


class Stopped(Event, frozen=True, kw_only=True, tag="stopped"):
    """A client process is stopped: it does nothing until `Continued`. Written before the signal is sent."""


class Continued(Event, frozen=True, kw_only=True, tag="continued"):
    """A client process goes on. Written after the signal was sent."""


class TroubleBegan(Event, frozen=True, kw_only=True, tag="trouble_began"):
    """`client` ("" for all) may be unable to reach the store, or those who decide, in time."""

    what: str


class TroubleEnded(Event, frozen=True, kw_only=True, tag="trouble_ended"):
    """That trouble is over; `client` and `what` are those of its begin."""

    what: str


class StoreLost(Event, frozen=True, kw_only=True, tag="store_lost"):
    """The store lost its tail, or was restored: what was granted before may be unknown to it."""


class ClockStepped(Event, frozen=True, kw_only=True, tag="clock_stepped"):
    """A step of the store's clock counted as time that passed, because no running server saw it."""

    by_us: int


class Setting(Event, frozen=True, kw_only=True, tag="setting"):
    """What was promised in this run; at its beginning."""

    version: str = ""  # of the package
    starved_us: int = 3_600_000_000  # so long may wait whom nothing but its turn keeps from getting in
    long_us: int = 300_000_000  # a lease held for longer than this excuses those who wait for its slots
    told_us: int = 30_000_000  # how soon who was let in hears of it
    returned_us: int = 900_000_000  # how soon after a client gave up its slots must be free


class Listed(Event, frozen=True, kw_only=True, tag="listed"):
    """What people were shown: all leases that hold or wait, with the slots by name."""

    held: Mapping[str, Mapping[str, int]]  # lease id -> slots by name
    waiting: tuple[str, ...] = ()
    final: bool = False  # everything was given back before: nothing may be left


AnyEvent = (
    Asked | Queued | Granted | NotGranted | ReleaseCalled | Released | RenewSent | Renewed | LossNoticed
    | RevokeCalled | ChangeCalled | ChangeDone | Started | Killed | Stopped | Continued | TroubleBegan
    | TroubleEnded | StoreLost | ClockStepped | Setting | Listed
)  # fmt: skip

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(AnyEvent).decode


class Recorder:
    """Appends events to the history of one process."""

    def __init__(self, path: Path, clock_us: Callable[[], int]) -> None:
        """Open the file, which is made if it is missing.

        Args:
            path: one file a process.
            clock_us: the clock that all recorders share, as `lambda: time.monotonic_ns() // 1000`.
        """
        self.clock_us = clock_us
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, event: AnyEvent) -> None:
        """Append one event; it is in the file when this returns, whatever becomes of the process."""
        os.write(self._fd, line(event))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def line(event: AnyEvent) -> bytes:
    """Return an event as one line of JSON."""
    return _encode(event) + b"\n"


def read(path: Path) -> list[AnyEvent]:
    """Return the events of one file; the end of a line that a killed process left unfinished is no event.

    Raises:
        msgspec.MsgspecError: a finished line is not an event.
    """
    *whole, _unfinished = path.read_bytes().split(b"\n")
    return [_decode(text) for text in whole if text]


def merged(histories: Iterable[Iterable[AnyEvent]]) -> list[AnyEvent]:
    """Return the events of several processes as one history, in the order of the one clock."""
    return sorted((event for history in histories for event in history), key=lambda event: event.when_us)
