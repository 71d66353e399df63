"""What clients may send that they should not: each is refused with a reason, and costs nobody else anything."""

import asyncio
import gc
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode

from ebbgate.server.embedded_decider import EmbeddedDecider
from ebbgate.server.sessions import Sessions
from ebbgate.server.stream import Connection
from ebbgate.stores.memory import MemoryStore
from ebbgate.wire.questions import ListLeases, ReadLimit
from ebbgate.wire.stream import (
    AcquireItem,
    AskItem,
    ByeItem,
    DoneItem,
    FailedItem,
    HeldItem,
    HelloItem,
    RefusedItem,
    ReleaseItem,
    RevokeItem,
    Up,
    WaitingItem,
    decode_down,
    decode_up,
)
from tests.server.conftest import Serve, Talk
from tests.server.streaming import LEASE_US, Core, StreamServer, Talker, wait_until

SLOW_SECONDS = 5.0
"""What the slowest answer to somebody else may take on a very busy machine; alone it is some milliseconds."""

TURN_SECONDS = 0.1
"""How much of the processor one turn of the server's loop may take; others wait for as long at least."""

BYE = '["bye",1,%s]'


@contextmanager
def bystander(server: StreamServer) -> Iterator[None]:
    """Have another client hold and give back all the time, and fail if it was kept waiting."""
    talker = Talker(server.port, "bystander")
    talker.limit("theirs", 1)
    over = threading.Event()
    slowest, longest = [0.0], [0.0]
    failed: list[BaseException] = []

    def work() -> None:
        try:
            while not over.is_set():
                began = time.monotonic()
                talker.release(talker.held("theirs").id)
                slowest[0] = max(slowest[0], time.monotonic() - began)
        except BaseException as error:
            failed.append(error)

    def watch(began: float) -> None:
        now = time.thread_time()
        longest[0] = max(longest[0], now - began)
        if not over.is_set():
            server.loop.call_soon(watch, now)

    gc.collect()
    gc.freeze()  # what the tests keep in memory is not the server's
    thread = threading.Thread(target=work)
    thread.start()
    server.within(lambda _: watch(time.thread_time()))
    try:
        yield
    finally:
        over.set()
        thread.join(30)
        gc.unfreeze()
        talker.close()
    assert not failed, failed
    print(f"the slowest answer: {slowest[0] * 1000:.1f} ms; the longest turn: {longest[0] * 1000:.1f} ms")
    assert slowest[0] < SLOW_SECONDS
    assert longest[0] < TURN_SECONDS


MALFORMED = {
    "nothing": b"",
    "no JSON": b"{]",
    "no array": b'{"bye": 1}',
    "a number": b"1",
    "an item that is none": b"[1]",
    "an empty item": b"[[]]",
    "an unknown kind": b'[["open",1]]',
    "a missing field": b'[["bye",1]]',
    "a field of another type": b'[["bye","1","s"]]',
    "NaN": b'[["put",1,"","put","x","",null,1,NaN]]',
    "infinity": b'[["put",1,"","put","x","",null,1,1e999]]',
    "a number beyond 64 bits": b'[["bye",123456789012345678901234567890,"s"]]',
    "a number beyond 53 bits": b'[["bye",9007199254740993,"s"]]',
    "a number of 100,000 digits": b'[["bye",' + b"9" * 100_000 + b',"s"]]',
    "a negative number": b'[["bye",-1,"s"]]',
    "a process id beyond 64 bits": b'[["hello",1,1,"s",1,"main","h",99999999999999999999999]]',
    "an epoch beyond 64 bits": b'[["hello",1,1,"s",99999999999999999999999,"main"]]',
    "half a surrogate pair": rb'[["bye",1,"\ud800"]]',
    "the other half": rb'[["bye",1,"\udc00 "]]',
    "no UTF-8": b'[["bye",1,"\xff\xfe"]]',
    "brackets without end": b"[" * 500_000,
    "brackets in a place that nobody reads": b'[["bye",1,"s",' + b"[" * 300_000 + b"]" * 300_000 + b"]]",
    "5,001 items": b"[" + b",".join([b'["bye",1,"s"]'] * 5_001) + b"]",
    "another version": b'[["hello",1,2,"s",1,"main"]]',
    "an unknown role": b'[["hello",1,1,"s",1,"king"]]',
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_message_closes_the_connection_with_a_reason(serve: Serve, talk: Talk, what: str) -> None:
    server = serve()
    greeted, fresh = talk(server.port, "s"), talk(server.port)
    for talker in (greeted, fresh):
        talker.text(MALFORMED[what])
        closed = talker.closes()
        assert closed.code == 4400
        assert closed.reason
    assert isinstance(talk(server.port, "other").limit(), DoneItem)


def test_nothing_is_carried_out_before_the_greeting(serve: Serve, talk: Talk) -> None:
    server = serve()
    talk(server.port, "s").limit()
    early = talk(server.port)
    early.send(RevokeItem(1, "x"), early.hello_item("early", 1))
    closed = early.closes()
    assert (closed.code, early.pushed) == (4401, [])
    assert server.within(lambda core: "early" not in core.decider.book.sessions)


def test_binary_messages_are_not_taken(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    talker.raw(talker.frame(Opcode.BINARY, b"[]"))
    assert talker.closes().code == 1003


def test_a_message_of_more_than_a_mebibyte_is_not_read(serve: Serve, talk: Talk) -> None:
    server = serve()
    whole, fragmented = talk(server.port, "s"), talk(server.port, "t")
    whole.raw(whole.frame(Opcode.TEXT, b" " * (2 << 20)))
    assert whole.closes().code == 1009
    data = fragmented.frame(Opcode.TEXT, b" " * (1 << 18), fin=False)
    data += fragmented.frame(Opcode.CONT, b" " * (1 << 18), fin=False) * 4
    fragmented.raw(data)
    assert fragmented.closes().code == 1009


def test_a_message_in_fragments_and_byte_by_byte_is_a_message(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    text = msgspec.json.encode([ByeItem(7, "s")])
    data = b"".join(
        talker.frame(Opcode.TEXT if not at else Opcode.CONT, text[at : at + 5], fin=at + 5 >= len(text))
        for at in range(0, len(text), 5)
    )
    for byte in data:
        talker.raw(bytes([byte]))
    assert isinstance(talker.answers(7)[0], DoneItem)


def test_fragments_without_end_are_cut_off(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    talker.raw(talker.frame(Opcode.TEXT, b"", fin=False))
    talker.raw(talker.frame(Opcode.CONT, b"", fin=False) * 2_000)
    assert talker.closes().code == 1009


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 64, b"\x83\x80\0\0\0\0", b"\x01\x02[]", b"\x80\x80\0\0\0\0"],
    ids=["reserved bits", "an unknown kind of frame", "no mask", "the end of nothing"],
)
def test_who_breaks_the_rules_of_websockets_is_told(serve: Serve, talk: Talk, data: bytes) -> None:
    talker = talk(serve().port, "s")
    talker.raw(data)
    assert talker.closes().code == 1002


def test_a_connection_cut_in_the_middle_of_a_frame_leaves_no_trace(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=0.02)
    talker = talk(server.port, "s")
    talker.raw(talker.frame(Opcode.TEXT, b'[["bye",1,"s"]]')[:-5])
    talker.reset()
    wait_until(lambda: server.within(lambda core: not core.decider.book.sessions))
    assert server.within(lambda core: len(core.sessions)) == 0


def test_behind_a_closing_frame_nothing_is_carried_out(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit()
    lease = talker.held().id
    release = msgspec.json.encode([ReleaseItem(9, lease, "s")])
    talker.raw(talker.frame(Opcode.CLOSE, b"\x03\xe8") + talker.frame(Opcode.TEXT, release))
    talker.closes()
    assert isinstance(talk(server.port, "s", 2).renew(lease), HeldItem)


@pytest.mark.parametrize("lease_id", ["", "x" * 101, "a\nb", "\0", "é\u200b", "x" * 900_000])
def test_an_id_has_1_to_100_printable_characters(serve: Serve, talk: Talk, lease_id: str) -> None:
    talker = talk(serve().port, "s")
    talker.limit()
    commands: list[Up] = [
        AcquireItem(11, lease_id, (("db", 1),), LEASE_US),
        ReleaseItem(12, lease_id, "s"),
        RevokeItem(13, lease_id),
        HelloItem(14, 1, lease_id, 1, "renewer"),
    ]
    for command in commands:
        (refused,) = talker.ask(command)
        assert isinstance(refused, FailedItem)
        assert (refused.code, refused.transient) == ("invalid_request", False)
        assert len(refused.message) < 500
    assert isinstance(talker.acquire(lease_id="ü" * 100), HeldItem)


def test_what_is_out_of_range_is_refused_and_the_rest_of_the_message_carried_out(
    serve: Serve, talk: Talk
) -> None:
    talker = talk(serve().port, "s")
    talker.limit("db", 10)
    bad: list[dict[str, Any]] = [
        {"slots": {"db": 0}},
        {"slots": {"db": 1 << 52}},
        {"slots": {}},
        {"slots": {f"n{number}": 1 for number in range(101)}},
        {"slots": {"a/b": 1}},
        {"slots": {"x" * 500_000: 1}},
        {"slots": {"a" + "\u0315\u0300" * 90_000: 1}},
        {"duration_us": -1},
        {"duration_us": 1 << 52},
        {"priority": 1 << 40},
        {"labels": {"x" * 300: ""}},
        {"labels": {"x": "y" * 800_000}},
        {"labels": {str(number): "" for number in range(33)}},
    ]
    for fields in bad:
        began = time.monotonic()
        good = talker.acquire_item()
        first, second = talker.ask(talker.acquire_item(**fields), good)
        assert isinstance(first, FailedItem | RefusedItem), fields
        assert first.code in {"invalid_request", "invalid_limit"}
        assert isinstance(second, HeldItem)
        talker.release(good.id)
        assert time.monotonic() - began < SLOW_SECONDS


def test_a_name_that_takes_long_to_compare_is_simply_unknown(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    hostile = "a" + "\u0315\u0300" * 90_000
    began = time.monotonic()
    assert isinstance(talker.question(ReadLimit(hostile)), RefusedItem)
    assert isinstance(talker.delete(hostile), RefusedItem)
    assert isinstance(talker.question(ListLeases(hostile)), RefusedItem)
    assert time.monotonic() - began < SLOW_SECONDS


def test_numbers_may_repeat_and_each_item_has_its_answer(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port, "s")
    talker.limit("db", 3)
    talker.send(*(AcquireItem(5, f"lease-{number}", (("db", 1),), LEASE_US) for number in range(3)))
    answers = [talker.receive() for _ in range(3)]
    assert [(a.number, a.id) for a in answers if isinstance(a, HeldItem)] == [
        (5, f"lease-{number}") for number in range(3)
    ]


def test_a_connection_serves_a_thousand_sessions_and_no_more(serve: Serve, talk: Talk) -> None:
    talker = talk(serve().port)
    answers = talker.ask(*(talker.hello_item(f"s{number}", 1, role="renewer") for number in range(1001)))
    assert [type(answer) for answer in answers] == [DoneItem] * 1000 + [FailedItem]


# --- nobody else is slowed


def test_a_flood_of_pings_slows_nobody(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    flood = talker.frame(Opcode.PING, b"") * 20_000
    with bystander(server):
        for _ in range(3):
            talker.raw(flood)
        while talker.pongs < 60_000:
            talker._read(5)


def test_a_flood_of_empty_messages_slows_nobody(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    flood = talker.frame(Opcode.TEXT, b"[]") * 20_000
    with bystander(server):
        for _ in range(3):
            talker.raw(flood)
        assert isinstance(talker.limit("after", 1), DoneItem)


def test_messages_of_thousands_of_commands_slow_nobody(serve: Serve, talk: Talk) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 100_000)
    with bystander(server):
        for _ in range(3):
            items = [talker.acquire_item(lease_id=f"{talker.number}") for _ in range(5_000)]
            assert all(isinstance(answer, HeldItem) for answer in talker.ask(*items))


def test_a_client_that_asks_much_and_reads_nothing_slows_nobody_and_costs_little(
    serve: Serve, talk: Talk
) -> None:
    server = serve()
    talker = talk(server.port, "s")
    talker.limit("db", 1_000)
    talker.ask(*(talker.acquire_item() for _ in range(1_000)))
    with bystander(server):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        talker.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):  # the server takes no more of it
            for number in range(10_000):
                talker.send(*(AskItem(number, ListLeases("db")) for _ in range(1_000)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 100_000, f"{grown} KiB"


def test_a_client_that_never_reads_while_much_is_pushed_loses_its_connection(
    serve: Serve, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ebbgate.server.socket.UNREAD_MAX", 1 << 17)
    server = serve()
    deaf, holder = talk(server.port, "deaf", buffer=4096), talk(server.port, "holder")
    holder.limit("db", 1_000)
    held = holder.held({"db": 1_000})

    def keep_little(core: Core) -> None:
        line: Any = core.sessions._present["deaf"].main
        line._socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    server.within(keep_little)
    leases = [deaf.acquire_item(lease_id=f"{number}-{'x' * 90}") for number in range(1_000)]
    with bystander(server):
        deaf.send(*leases)
        wait_until(lambda: server.within(lambda core: core.decider.book.names["db"].waiting) >= 500)
        holder.release(held.id)
        holder.ask(*(RevokeItem(holder.next(), item.id) for item in leases))
        wait_until(lambda: server.within(lambda core: "deaf" not in core.sessions._present))
    assert isinstance(talk(server.port, "deaf", 2).greeting, DoneItem)


# --- whatever comes


class _Socket:
    """What a connection writes to."""

    is_clogged = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended: list[tuple[int, str]] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def end(self, code: int, reason: str) -> None:
        assert len(reason.encode()) <= 123, "a closing frame holds no more"
        self.ended.append((code, reason))

    def adjust(self) -> None:
        """Nothing is read here."""


kinds = st.sampled_from(
    ["hello", "bye", "acquire", "renew", "release", "revoke", "put", "delete", "ask", "open"]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=120)
    | st.sampled_from(["main", "renewer", "s", "create", "update", "put", "db"])
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
likely = st.one_of(
    st.tuples(st.just("hello"), st.integers(0, 9), st.integers(0, 2), st.sampled_from(["s", "t", "", "rest"]),
              st.integers(-1, 9), st.sampled_from(["main", "renewer"]), scalars),
    st.tuples(st.just("acquire"), st.integers(0, 9), scalars, st.lists(st.tuples(scalars, scalars), max_size=3),
              scalars),
    st.tuples(st.just("release"), st.integers(0, 9), st.text(max_size=9), st.sampled_from(["s", "t", "u"])),
    st.tuples(st.just("bye"), st.integers(0, 9), st.sampled_from(["s", "t", "u"])),
    st.tuples(st.just("put"), st.integers(0, 9), scalars, st.sampled_from(["create", "update"]), scalars, scalars),
    st.tuples(st.just("ask"), st.integers(0, 9), st.tuples(st.sampled_from(["limit", "leases", "sizes"]), values)),
)  # fmt: skip
items = likely | st.builds(lambda kind, rest: [kind, *rest], kinds, st.lists(values, max_size=9))
messages = st.lists(items, max_size=6).map(lambda found: json.dumps(found).encode()) | st.binary(max_size=200)


@settings(max_examples=100)
@given(st.lists(messages, max_size=5))
def test_whatever_comes_is_answered_or_ends_the_connection_and_never_the_loop(found: list[bytes]) -> None:
    async def story() -> None:
        errors: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        decider, socket = EmbeddedDecider(MemoryStore(), None), _Socket()
        await decider.start()
        connection = Connection(decider, Sessions(decider), socket, "")  # type: ignore[arg-type]  # no network
        for message in found:
            connection.received(message)
            await asyncio.sleep(0)
        for _ in range(8):
            await asyncio.sleep(0)
        connection.ended(certain=True)
        await decider.close()
        assert not errors, errors
        assert not connection._held
        for data in socket.written:
            decode_down(data)

    asyncio.run(story())


@pytest.mark.parametrize("item", [["cool", 1, "db", 10**30], ["cool", -1, "db", 1]])
def test_no_number_is_longer_than_every_language_can_count(item: list[object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_up(json.dumps([item]).encode())


@settings(max_examples=100)
@given(st.binary(max_size=300) | messages)
def test_the_decoder_knows_three_ways_to_refuse(data: bytes) -> None:
    with suppress(msgspec.MsgspecError, RecursionError, ValueError):
        decode_up(data)


def test_waiting_items_of_a_lost_connection_are_not_carried_out(serve: Serve, talk: Talk) -> None:
    server = serve(away_grace_seconds=0.02)
    holder = talk(server.port, "holder")
    holder.limit("db", 1)
    holder.held()
    talker = talk(server.port, "s")
    talker.send(*(talker.acquire_item() for _ in range(5_000)))
    talker.reset()
    wait_until(lambda: server.within(lambda core: "s" not in core.decider.book.sessions))
    assert server.within(lambda core: core.decider.book.names["db"].waiting) == 0
    assert isinstance(holder.acquire(), WaitingItem)
