"""The stream: commands of the SDK in, outcomes out, many in one message, each answered when it is committed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from ebbgate.core.commands import (
    Acquire,
    Away,
    Command,
    DeleteLimit,
    Done,
    Hello,
    Outcome,
    PutLimit,
    Refused,
    Release,
    Renew,
    Revoke,
    wanted,
)
from ebbgate.errors import EbbgateError, InvalidRequest
from ebbgate.server.decider import Decider
from ebbgate.server.sessions import Sessions
from ebbgate.server.socket import EXTENSION, StreamSocket
from ebbgate.wire.stream import (
    ITEMS_MAX,
    VERSION,
    AcquireItem,
    AnswerItem,
    AskItem,
    ByeItem,
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
        socket.receiver = connection.received
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
        self._held: list[Up] = []  # what was said after them: carried out only if they are accepted
        self._outbox: list[Down] = []
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._greeting = self._loop.call_later(GREET_SECONDS, self.end, NOT_GREETED, "no greeting came")

    # --- down

    def send(self, item: Down) -> None:
        """See `Line`."""
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(item)

    def _flush(self) -> None:
        items, self._outbox = self._outbox, []
        if items:
            self._socket.write(encode_down(self._decider.store.clock(), items))

    def end(self, code: int, reason: str) -> None:
        """See `Line`."""
        self._flush()
        self._socket.end(code, reason)

    def ended(self, *, certain: bool) -> None:
        """The connection is over: its sessions are away unless they have another one."""
        self._over = True
        self._greeting.cancel()
        for session in self._served:
            self._sessions.detach(session, self, certain=certain)
        self._served.clear()

    # --- up

    def received(self, data: bytes) -> None:
        """Take in one message."""
        try:
            items = decode_up(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            self.end(BAD_MESSAGE, _brief(f"not a message of this protocol: {error}"))
            return
        if len(items) > ITEMS_MAX:
            self.end(BAD_MESSAGE, f"a message has at most {ITEMS_MAX} items")
            return
        self._held += items
        if not self._greets:
            self._carry_out_held()

    def _carry_out_held(self) -> None:
        items, self._held = self._held, []
        commands: list[Command] = []
        numbers: list[int] = []
        for place, item in enumerate(items):
            if self._greets:
                self._held = items[place:]
                break
            if not (self._served or isinstance(item, HelloItem)):
                self.end(NOT_GREETED, "a connection begins with a greeting")
                return
            try:
                command = self._command_of(item)
            except EbbgateError as error:
                self.send(failed_item(item.number, error))
                continue
            if command is None:
                continue
            commands.append(command)
            numbers.append(item.number)
        if commands:
            self._submit(numbers, commands)

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
                slots = wanted({name: slots for name, slots in item.slots})  # noqa: C416 - pairs, not a mapping
                if len(slots) != len(item.slots) or not slots:
                    raise InvalidRequest("each limit stands once, and at least one is named")
                return Acquire(
                    item.id, self._main, self._epoch, slots, item.duration_us, item.spend, item.wait, item.strict,
                    item.priority, item.labels, self._decider.address,
                )  # fmt: skip
            case ReleaseItem():
                return Release(item.id, *self._speaking_for(item.session))
            case RenewItem():
                return Renew(item.id, *self._speaking_for(item.session), item.duration_us, item.retake)
            case PutItem():
                return PutLimit(
                    item.request_id, item.mode, item.target, item.new_id, item.name, item.limit,
                    item.slot_decay_per_second, item.active, item.description,
                )  # fmt: skip
            case DeleteItem():
                return DeleteLimit(item.target, item.force)
            case RevokeItem():
                return Revoke(item.id)
            case HelloItem():
                self._greet(item)
            case AskItem():
                self._answer(item)
            case ByeItem():
                self._leave(item)
        return None

    def _speaking_for(self, session: str) -> tuple[str, int]:
        if session not in self._served:
            raise InvalidRequest(f"this connection has not greeted for session {session}")
        return session, self._epoch if session == self._main else self._sessions.epoch_of(session)

    def _greet(self, item: HelloItem) -> None:
        if item.version != VERSION:
            self.end(BAD_MESSAGE, f"this server speaks version {VERSION} of the stream, not {item.version}")
            return
        if item.role == "main" and self._main:
            raise InvalidRequest("this connection has greeted before")
        hello = Hello(
            item.session, item.epoch, item.host[:200], item.pid, item.labels, -1, self._decider.address,
            "spends", self._key,
        )  # fmt: skip
        self._greets += 1

        def answered(outcomes: Sequence[Outcome] | EbbgateError) -> None:
            self._greets -= 1
            if isinstance(outcomes, EbbgateError):
                self.send(failed_item(item.number, outcomes))
            else:
                if isinstance(outcomes[0], Done):
                    self._greeted(item)
                self.send(item_of(item.number, outcomes[0]))
            if self._held and not self._greets:
                self._carry_out_held()

        self._decider.submit((hello,), answered)

    def _greeted(self, item: HelloItem) -> None:
        self._greeting.cancel()
        if item.role == "main":
            self._main, self._epoch = item.session, item.epoch
        self._served[item.session] = None
        self._sessions.attach(item.session, item.epoch, item.role, self)
        if self._over:  # it broke meanwhile
            self._sessions.detach(item.session, self, certain=False)

    def _answer(self, item: AskItem) -> None:
        found = self._decider.ask(item.question)
        if isinstance(found, Refused):
            self.send(item_of(item.number, found))
        else:
            self.send(AnswerItem(item.number, msgspec.Raw(_encode(found))))

    def _leave(self, item: ByeItem) -> None:
        session, epoch = self._speaking_for(item.session)
        self._served.pop(session, None)
        self._decider.submit(
            (Away(session, epoch, certain=True),), lambda _: self.send(item_of(item.number, Done(session)))
        )
        self._sessions.detach(session, self, certain=True)


def _brief(text: str) -> str:
    """Return a reason that fits a closing frame."""
    return text.encode()[:120].decode(errors="ignore")
