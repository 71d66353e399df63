"""The stream: commands of the SDK in, outcomes out, many in one message, each answered when it is committed."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from ebbgate.core.commands import (
    Acquire,
    Away,
    Command,
    CoolDown,
    DeleteLimit,
    Done,
    Hello,
    Outcome,
    PutLimit,
    Refused,
    Release,
    Renew,
    Revoke,
    check_id,
    wanted,
)
from ebbgate.core.model import SERVER
from ebbgate.errors import EbbgateError, InvalidRequest
from ebbgate.server.decider import Decider, ignore
from ebbgate.server.doing import Doer
from ebbgate.server.sessions import Sessions
from ebbgate.server.socket import EXTENSION, StreamSocket
from ebbgate.wire.ids import is_canonical, new_id
from ebbgate.wire.questions import Answer
from ebbgate.wire.stream import (
    ITEMS_MAX,
    VERSION,
    AcquireItem,
    AnswerItem,
    AskItem,
    ByeItem,
    CoolItem,
    DeleteItem,
    Down,
    HelloItem,
    PutItem,
    ReleaseItem,
    RenewItem,
    RevokeItem,
    Up,
    decode_up,
    encode_down,
    failed_item,
    item_of,
)

_log: Final = logging.getLogger("ebbgate.server")
_encode: Final = msgspec.json.Encoder().encode

BAD_MESSAGE: Final = 4400
NOT_GREETED: Final = 4401
GREET_SECONDS: Final = 10.0
TURN_ITEMS: Final = 512
TURN_SECONDS: Final = 0.005
"""How much of what one client asks for is seen to before others get their turn."""
SESSIONS_MAX: Final = 1_000
HOST_LENGTH_MAX: Final = 200

_IMMEDIATE: Final = (HelloItem, ByeItem, AskItem)  # what is no command of the decider's
_RESERVED: Final = "rest"  # whoever comes over REST belongs to such sessions; servers have their own

# As ASGI has them.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Stream:
    """The ASGI application behind `/v1/stream`."""

    def __init__(self, decider: Decider, sessions: Sessions) -> None:
        """Serve the clients of one decider."""
        self._decider = decider
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it ends."""
        await receive()
        socket: StreamSocket = scope["extensions"][EXTENSION]
        await send({"type": "websocket.accept"})
        connection = Connection(self._decider, self._sessions, socket, scope.get("ebbgate.key", ""))
        socket.receiver = connection
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass  # what came before the receiver was set; nobody speaks before it was accepted
        finally:
            connection.ended(certain=socket.ended_certainly)


class Connection:
    """One client's connection."""

    def __init__(self, decider: Decider, sessions: Sessions, socket: StreamSocket, key: str) -> None:
        """Wait for its greeting.

        Args:
            decider: decides.
            sessions: knows who is connected.
            socket: carries the messages.
            key: the id of the API key that it came with.
        """
        self._decider = decider
        self._sessions = sessions
        self._socket = socket
        self._key = key
        self._main = ""  # the session that commands are carried out for
        self._epoch = 0
        self._served: dict[str, None] = {}  # sessions that have this connection
        self._greets = 0  # greetings that are not answered yet
        self._held: list[Up] = []  # waits for them, for its turn, or for the client to read
        self._planned = False  # somebody will see to it
        self._turn = -1  # of the decider, in which it has
        self._room = 0  # for so many items more
        self._outbox: list[Down] = []
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._greeting = self._loop.call_later(GREET_SECONDS, self.end, NOT_GREETED, "no greeting came")

    # --- down

    def send(self, item: Down) -> None:
        """See `Line`."""
        if not self._outbox:
            self._decider.lasts.add(self._flush)
        self._outbox.append(item)

    def _flush(self) -> None:
        items, self._outbox = self._outbox, []
        if items:
            self._socket.write(encode_down(self._decider.store.clock(), items))

    def end(self, code: int, reason: str) -> None:
        """See `Line`."""
        self._flush()
        self._held.clear()
        self._over = True
        self._socket.end(code, _brief(reason))

    def ended(self, *, certain: bool) -> None:
        """The connection is over: its sessions are away unless they have another one."""
        self._over = True
        self._held.clear()
        self._greeting.cancel()
        for session in self._served:
            self._sessions.detach(session, self, certain=certain)
        self._served.clear()

    # --- up

    @property
    def is_behind(self) -> bool:
        """See `Receiver`."""
        return bool(self._held)

    def received(self, data: bytes) -> None:
        """See `Receiver`."""
        if self._over:
            return
        try:
            items = decode_up(data)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            self.end(BAD_MESSAGE, f"not a message of this protocol: {error}")
            return
        if len(items) > ITEMS_MAX:
            self.end(BAD_MESSAGE, f"a message has at most {ITEMS_MAX} items")
        elif self._held:
            self._held += items
        else:
            self._see_to(items)

    def relieved(self) -> None:
        """See `Receiver`."""
        self._plan()

    def _plan(self) -> None:
        """Go on in the next turn of the loop, or after the next decision, unless there is a reason to wait."""
        if self._held and not (self._planned or self._greets or self._socket.is_clogged):
            self._planned = True
            if self._room > 0 or self._turn != self._decider.turn:
                self._loop.call_soon(self._go_on)
            else:
                self._decider.submit((), self._go_on)

    def _go_on(self, _: object = None) -> None:
        self._planned = False
        if not (self._greets or self._socket.is_clogged):
            items, self._held = self._held, []
            self._see_to(items)
            self._socket.adjust()

    def _see_to(self, items: list[Up]) -> None:
        """Have items carried out, in order; what is too much for one turn of the loop waits for the next."""
        if self._turn != self._decider.turn:
            self._turn, self._room = self._decider.turn, TURN_ITEMS
        commands: list[Command] = []
        numbers: list[int] = []
        until = time.monotonic() + TURN_SECONDS
        for place, item in enumerate(items):
            if self._greets or place >= self._room:
                self._hold(items, place)
                break
            if not (self._served or isinstance(item, HelloItem)):
                self.end(NOT_GREETED, "a connection begins with a greeting and ends with its last session")
                break
            if isinstance(item, _IMMEDIATE):
                if commands:
                    self._submit(numbers, commands)
                    commands, numbers = [], []
                if place and time.monotonic() > until:
                    self._hold(items, place)
                    break
            try:
                command = self._command_of(item)
            except EbbgateError as error:
                self.send(failed_item(item.number, error))
                continue
            if command is not None:
                commands.append(command)
                numbers.append(item.number)
            elif self._over:
                break
        if commands:
            self._submit(numbers, commands)
        self._room -= len(items) - len(self._held)
        self._plan()

    def _hold(self, items: list[Up], place: int) -> None:
        self._held = items[place:]
        self._socket.adjust()

    def _submit(self, numbers: Sequence[int], commands: Sequence[Command]) -> None:
        def answered(outcomes: Sequence[Outcome] | EbbgateError) -> None:
            if isinstance(outcomes, EbbgateError):
                for number in numbers:
                    self.send(failed_item(number, outcomes))
                return
            for number, outcome in zip(numbers, outcomes, strict=True):
                self.send(item_of(number, outcome))

        self._decider.submit(commands, answered)

    def _command_of(self, item: Up) -> Command | None:
        """Return the command that an item stands for; None: it is seen to."""
        match item:
            case AcquireItem():
                if not self._main:
                    raise InvalidRequest("a renewer's connection acquires nothing")
                if len(item.slots) == 1:
                    slots = wanted(*item.slots[0])
                else:
                    slots = wanted({name: slots for name, slots in item.slots})  # noqa: C416 - no mapping
                if len(slots) != len(item.slots) or not slots:
                    raise InvalidRequest("each limit stands once, and at least one is named")
                return Acquire(
                    check_id(item.id), self._main, self._epoch, slots, item.duration_us, item.spend, item.wait,
                    item.strict, item.priority, item.labels, self._decider.address,
                )  # fmt: skip
            case ReleaseItem():
                return Release(check_id(item.id), *self._speaking_for(item.session))
            case RenewItem():
                return Renew(
                    check_id(item.id), *self._speaking_for(item.session), item.duration_us, item.retake
                )
            case PutItem():
                self._note(item.target)
                return self._put(item)
            case DeleteItem():
                self._note(item.target)
                return DeleteLimit(item.target, item.force)
            case CoolItem():
                self._note(item.target)
                return CoolDown(item.target, item.duration_us, item.why)
            case RevokeItem():
                self._note(item.id)
                return Revoke(check_id(item.id))
            case HelloItem():
                self._greet(item)
            case AskItem():
                self._answer(item)
            case ByeItem():
                self._leave(item)
        return None

    def _note(self, target: str) -> None:
        known = self._decider.book.sessions.get(self._main)
        host, pid = (known.host, known.pid) if known else ("", 0)
        self._decider.doers.note(target, Doer(way="client", key=self._key, host=host, pid=pid))

    def _put(self, item: PutItem) -> PutLimit:
        if item.request_id:
            check_id(item.request_id, "request")
        if item.new_id and not is_canonical(item.new_id):
            raise InvalidRequest(f"the id of a limit is a UUID, got {item.new_id[:40]!r}")
        limit_id = item.new_id or new_id()
        if limit_id in self._decider.book.limits and item.request_id not in self._decider.book.requests:
            raise InvalidRequest(f"a limit has the id {limit_id} already; choose a new one")
        return PutLimit(
            item.request_id, item.mode, item.target, limit_id, item.name, item.limit, item.slot_decay_per_second,
            item.active, item.description,
        )  # fmt: skip

    def _speaking_for(self, session: str) -> tuple[str, int]:
        if session in self._served:
            return session, self._epoch if session == self._main else self._sessions.epoch_of(session)
        raise InvalidRequest(f"this connection has not greeted for session {session}")

    def _greet(self, item: HelloItem) -> None:
        if item.version != VERSION:
            self.end(BAD_MESSAGE, f"this server speaks version {VERSION} of the stream, not {item.version}")
            return
        check_id(item.session, "session")
        if item.session == _RESERVED or item.session.startswith((_RESERVED + "-", SERVER)):
            raise InvalidRequest(f"{item.session!r} is no session of a stream")
        if item.role == "main" and self._main:
            raise InvalidRequest("this connection has greeted before")
        if len(self._served) >= SESSIONS_MAX:
            raise InvalidRequest(f"a connection serves at most {SESSIONS_MAX} sessions")
        hello = self._hello(item)
        self._greets += 1

        def answered(outcomes: Sequence[Outcome] | EbbgateError) -> None:
            self._greets -= 1
            if isinstance(outcomes, EbbgateError):
                self.send(failed_item(item.number, outcomes))
            else:
                if isinstance(outcomes[0], Done):
                    self._greeted(item)
                self.send(item_of(item.number, outcomes[0]))
            self._plan()

        self._decider.submit((hello,), answered)

    def _hello(self, item: HelloItem) -> Hello:
        host = "".join(filter(str.isprintable, item.host[:HOST_LENGTH_MAX]))
        pid, labels = item.pid, item.labels
        known = self._decider.book.sessions.get(item.session)
        if known is not None and item.role == "renewer":
            host, pid, labels = host or known.host, pid or known.pid, labels or known.labels
        address = self._decider.address
        return Hello(
            item.session, item.epoch, host, pid, labels, -1, address, "spends", self._key, item.token
        )

    def _greeted(self, item: HelloItem) -> None:
        self._greeting.cancel()
        if item.role == "main":
            self._main, self._epoch = item.session, item.epoch
        self._served[item.session] = None
        self._sessions.attach(item.session, item.epoch, item.role, self)
        known = self._decider.book.sessions.get(item.session)
        if known is None or known.away_us >= 0:  # the other connection broke after this greeting was decided
            self._decider.submit((self._hello(item),), ignore)
        if self._over:  # it broke meanwhile
            self._sessions.detach(item.session, self, certain=False)

    def _answer(self, item: AskItem) -> None:
        def told(found: Answer | EbbgateError) -> None:
            if isinstance(found, EbbgateError):
                self.send(failed_item(item.number, found))
            elif isinstance(found, Refused):
                self.send(item_of(item.number, found))
            else:
                self.send(AnswerItem(item.number, msgspec.Raw(_encode(found))))

        self._decider.ask_for(item.question, told)

    def _leave(self, item: ByeItem) -> None:
        session, epoch = self._speaking_for(item.session)
        self._served.pop(session, None)
        self._sessions.forget(session)

        def answered(outcomes: Sequence[Outcome] | EbbgateError) -> None:
            if isinstance(outcomes, EbbgateError):
                self._sessions.missed(session, epoch, certain=True)
                self.send(failed_item(item.number, outcomes))
            else:
                self.send(item_of(item.number, outcomes[0]))

        self._decider.submit((Away(session, epoch, certain=True),), answered)


def _brief(text: str) -> str:
    """Return a reason that fits a closing frame."""
    return text.encode(errors="replace")[:120].decode(errors="ignore")
