"""Where Prefect's clients send their events: taken, so that they are content, and thrown away.

What happens to limits and leases is known here without them.
"""

from typing import Final

import msgspec

from ebbgate.server.front import Receive, Scope, Send
from ebbgate.server.socket import EXTENSION, StreamSocket

SUBPROTOCOL: Final = "prefect"
_UNAUTHORIZED: Final = 4001
_WELCOME: Final = '{"type":"auth_success"}'


async def swallow(scope: Scope, receive: Receive, send: Send) -> None:
    """Take in everything that is sent until the client goes.

    The front has seen the client's key. Its greeting holds it once more, or null.
    """
    if (await receive())["type"] != "websocket.connect":
        return
    offered = SUBPROTOCOL in scope.get("subprotocols", ())
    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if offered else None})
    if offered:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if not _is_greeting(message.get("text") or message.get("bytes") or ""):
            await send(
                {"type": "websocket.close", "code": _UNAUTHORIZED, "reason": "Expected 'auth' message"}
            )
            return
        await send({"type": "websocket.send", "text": _WELCOME})
    socket = scope.get("extensions", {}).get(EXTENSION)
    if isinstance(socket, StreamSocket):
        socket.receiver = _Sink()  # whole bursts at once, and not one message a turn of the loop
    while (await receive())["type"] != "websocket.disconnect":
        pass


class _Sink:
    """Takes events in and keeps nothing of them."""

    is_behind = False

    def received(self, data: bytes) -> None:
        """Throw an event away."""

    def relieved(self) -> None:
        """Take no notice: nothing is written."""


def _is_greeting(text: str | bytes) -> bool:
    try:
        said = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("type") == "auth"
