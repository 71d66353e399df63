"""The disk is full, or fails, at any write or sync: a clear error, nothing half done, nothing acknowledged lost."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from ebbgate import Client, errors
from ebbgate.client.client import Block
from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.core.book import Book
from ebbgate.stores.sqlite import Durability, SqliteStore
from ebbgate.testing.power import Disk, Operation, failure, growth, installed
from tests.embedded import embedded
from tests.faults.test_power_cuts import ROOM
from tests.faults.world import Machine, checkpoint, integrity
from tests.interface.helpers import wait_until

STRIDE = 1 if ROOM > 1 else 3
"""Every third place is tried beside other tests, now these and then those; `make test-faults` tries all of them."""


def first_place() -> int:
    """Return the first place at which the disk fails."""
    first = random.SystemRandom().randrange(STRIDE)
    print(f"from place {first} on, every {STRIDE}.")
    return first


class FullDisk:
    """From the n-th operation on, nothing can grow until somebody makes room."""

    code = "SQLITE_FULL"

    def __init__(self, place: int) -> None:
        self.left = place
        self.room = False
        self.hits = 0
        self._sizes: dict[int, int] = {}

    def __call__(self, operation: Operation) -> apsw.Error | None:
        sizes = dict(self._sizes)
        grows = growth(operation, sizes)
        self.left -= operation.what in {"write", "create"}
        if self.left < 0 and not self.room and (grows or operation.what == "create"):
            self.hits += 1
            return failure(apsw.SQLITE_FULL if operation.what == "write" else apsw.SQLITE_CANTOPEN)
        self._sizes = sizes
        return None


class FailingDisk:
    """The n-th operation of a kind fails, as do `more` after it."""

    code = "SQLITE_IOERR"

    def __init__(self, place: int, what: str, code: int, more: int = 0) -> None:
        self.left, self.what, self.failure, self.more = place, what, code, more
        self.hits = 0

    def __call__(self, operation: Operation) -> apsw.Error | None:
        if operation.what == self.what:
            self.left -= 1
            if -1 - self.more <= self.left < 0:
                self.hits += 1
                return failure(self.failure)
        return None


@dataclass(slots=True)
class User:
    """Somebody who uses a store and remembers what was acknowledged."""

    path: Path
    durability: Durability
    disk: Disk
    makes_room: Callable[[], None]
    machine: Machine = field(default_factory=Machine)
    complaints: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    spent: int = 0

    def insists(self, does: Callable[[], None]) -> None:
        """Do something; where the store is out of reach, see that it says so, make room and do it again."""
        for attempt in range(4):
            try:
                does()
            except errors.StoreUnavailable as error:
                self.complaints.append(str(error))
                if attempt:
                    self.makes_room()
            else:
                return
        raise AssertionError(f"the store does not go on: {self.complaints}")

    @contextmanager
    def client(self) -> Iterator[Client]:
        gates: list[EmbeddedGate] = []

        def opens() -> None:
            store = SqliteStore(self.path, durability=self.durability, clocks=self.machine.clocks)
            gates.append(EmbeddedGate(store, self.path, Book()))

        self.insists(opens)
        client = Client(f"sqlite:///{self.path}")
        client._gate = gates[0]
        try:
            yield client
        finally:
            gates[0].close()

    def enters(self, block: Block) -> None:
        lease = block.__enter__()
        assert lease.fencing_token > max(self.tokens, default=0)
        self.tokens.append(lease.fencing_token)

    def lives(self) -> None:
        with self.client() as client:
            self.insists(lambda: self.puts(client, "db", 3, 0.0))
            self.insists(lambda: self.puts(client, "api", 10, 1.0))
            first, second, third = (client.concurrency("db", timeout_seconds=0) for _ in range(3))
            self.enters_insisting(client, first, 1)
            self.enters_insisting(client, second, 2)
            first.__exit__(None, None, None)
            self.spends(client)
            self.insists(lambda: checkpoint(self.path, over=True))
            self.spends(client)
            self.enters_insisting(client, third, None)
            second.__exit__(None, None, None)
            third.__exit__(None, None, None)
            self.makes_room()
            embedded(client).interrupt()  # what could not be given back is tried again now
            wait_until(lambda: client.read_limit("db").held_slots == 0)

    @staticmethod
    def puts(client: Client, name: str, limit: int, decay: float) -> None:
        put = client.put_limit(name, limit, slot_decay_per_second=decay)
        assert (put.limit, put.slot_decay_per_second) == (limit, decay)

    def enters_insisting(self, client: Client, block: Block, held: int | None) -> None:
        self.insists(lambda: self.enters(block))
        if held is not None:
            self.insists(lambda: self.sees(client, held))

    def sees(self, client: Client, held: int) -> None:
        assert len(client.list_leases("db", "held")) == held, "what was not acknowledged is held"

    def spends(self, client: Client) -> None:
        def spend() -> None:
            client.rate_limit("api", occupy=2, timeout_seconds=0)
            self.spent += 2

        self.insists(spend)
        self.insists(lambda: self.sees_spent(client))

    def sees_spent(self, client: Client) -> None:
        assert client.read_limit("api").spent_slots == self.spent

    def comes_back(self) -> None:
        """All is as it was acknowledged, once the disk is well."""
        with self.client() as client:
            assert integrity(embedded(client).store) == "ok"  # type: ignore[arg-type]  # a SqliteStore, made above
            assert client.read_limit("db").held_slots == 0
            self.sees_spent(client)
            with client.concurrency("db", occupy=3, timeout_seconds=0) as lease:
                assert lease.fencing_token > max(self.tokens)


def lives_with(folder: Path, fault: FullDisk | FailingDisk, durability: Durability) -> User:
    def makes_room() -> None:
        if isinstance(fault, FullDisk):
            fault.room = True

    with installed(fault) as disk:
        user = User(folder / "store" / "limits.db", durability, disk, makes_room)
        user.lives()
        fault.left = 1 << 30
        user.comes_back()
    return user


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room(
    folder: Path, durability: Durability
) -> None:
    said: set[str] = set()
    place = first_place()
    while True:
        fault = FullDisk(place)
        user = lives_with(folder / str(place), fault, durability)
        if not fault.hits:
            break
        said.update(user.complaints)
        place += STRIDE
    print(durability, place, "places")
    assert place > 30
    for complaint in said:
        assert "make room" in complaint or "cannot be opened" in complaint, complaint


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("write", apsw.SQLITE_IOERR_WRITE),
        ("sync", apsw.SQLITE_IOERR_FSYNC),
        ("truncate", apsw.SQLITE_IOERR_TRUNCATE),
    ],
)
@pytest.mark.parametrize("more", [0, 1])
def test_a_failing_disk_loses_nothing(
    folder: Path, durability: Durability, what: str, code: int, more: int
) -> None:
    place, stride = (first_place(), STRIDE) if what == "write" else (0, 1)  # of the others there are few
    while True:
        fault = FailingDisk(place, what, code, more)
        user = lives_with(folder / str(place), fault, durability)
        if not fault.hits:
            break
        for complaint in user.complaints:
            assert "cannot be read or written" in complaint
        place += stride
    print(durability, what, more, place, "places")
