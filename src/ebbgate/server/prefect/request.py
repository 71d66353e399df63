"""One request to the Prefect API, as its routes see it."""

import asyncio
from collections.abc import Mapping
from typing import Final

from ebbgate.server.front import KEY, Receive, Scope
from ebbgate.server.prefect.checking import body_of

CLIENT: Final = b"prefect-csrf-client"
"""The header that tells one queue of one process from all others, as long as the process lives."""


class Request:
    """A request whose body has arrived."""

    __slots__ = ("_receive", "_watch", "body", "headers", "scope")

    def __init__(self, scope: Scope, receive: Receive, body: bytes) -> None:
        """Take what ASGI gives."""
        self.scope = scope
        self.body = body
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    def json(self) -> object:
        """Return the body; None if there is none.

        Raises:
            AnsweredError: it is no JSON.
        """
        return body_of(self.body)

    def header(self, name: bytes) -> str:
        """Return a header, "" if it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def key(self) -> str:
        """The id of the API key that it came with, "" if none is needed."""
        key: str = self.scope.get(KEY, "")
        return key

    @property
    def address(self) -> str:
        """Where it came from, as far as is known."""
        client = self.scope.get("client")
        return client[0] if client else ""

    def watch(self) -> "asyncio.Task[None]":
        """Return what ends when the client goes away before it has its answer."""
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._until_gone())
        return self._watch

    def close(self) -> None:
        """Watch no longer."""
        if self._watch is not None:
            self._watch.cancel()

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
