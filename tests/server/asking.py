"""Talking to a server byte by byte, and a small service to talk to."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ebbgate.server.front import KEY, WAITS, Receive, Scope, Send
from ebbgate.server.keys import Keys
from ebbgate.server.options import Options

PATIENCE_SECONDS = 60.0
KEY_TEXT = "0123456789abcdef-first"
OTHER_KEY = "0123456789abcdef-other"
KEYS = Keys([f"ci={KEY_TEXT}", f"web={OTHER_KEY}"])


def told(tmp_path: Path, **more: Any) -> Options:  # noqa: ANN401 - whatever options take
    """Return options for a server on a file and a port of its own."""
    return Options(**{"store": f"sqlite:///{tmp_path / 'limits.db'}", "port": 0, **more})


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> str:
        """Return the code of a problem document, whose other fields are as they must be."""
        document = msgspec.json.decode(self.body)
        assert self.headers["content-type"] == "application/problem+json"
        assert document["status"] == self.status
        assert set(document) - {"exception_message"} == {"type", "title", "status", "code", "detail"}
        assert document["type"] == f"urn:ebbgate:problem:{document['code']}"
        return str(document["code"])

    def json(self) -> dict[str, object]:
        """Return what the body says."""
        return msgspec.json.decode(self.body, type=dict[str, object])


class Wire:
    """One connection, on which exactly these bytes are sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wrap both ends; see `connect`."""
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, url: str, context: ssl.SSLContext | None = None) -> "Wire":
        """Connect to the host and port of a URL, or to a Unix socket by its path."""
        if url.startswith("/"):
            return cls(*await asyncio.open_unix_connection(url))
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, ssl=context))

    async def send(self, *lines: str, body: bytes = b"") -> None:
        """Send a head and a body."""
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """Return the next answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            first = (await self.reader.readline()).decode()
            assert first.startswith("HTTP/1.1 "), first
            headers: dict[str, str] = {}
            while line := (await self.reader.readline()).decode("latin-1").strip():
                name, _, value = line.partition(":")
                assert name.lower() not in headers or name.lower() == "www-authenticate", f"{name} twice"
                headers[name.lower()] = value.strip()
            length = int(headers.get("content-length", "0"))
            return Answer(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def is_over(self) -> bool:
        """Wait for the other end to close; whatever it still says does not matter."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                while await self.reader.read(65_536):
                    pass
            return True

    async def close(self) -> None:
        """Close this end."""
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


async def ask(
    url: str,
    target: str = "/v1/limits",
    *headers: str,
    method: str = "GET",
    host: str | None = "127.0.0.1",
    body: bytes = b"",
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Ask once; without `host` no Host header is sent."""
    wire = await Wire.connect(url, context)
    try:
        own = [f"Host: {host}"] if host is not None else []
        length = [f"Content-Length: {len(body)}"] if body else []
        await wire.send(f"{method} {target} HTTP/1.1", *own, *headers, *length, body=body)
        return await wire.answer()
    finally:
        await wire.close()


class Probe:
    """A service that tells what the front let through."""

    def __init__(self) -> None:
        """Serve; `/held` answers when `let_go` is set or the service drains."""
        self.let_go = asyncio.Event()
        self.served = 0
        self.entered = asyncio.Event()
        self.life: list[str] = []

    async def start(self) -> None:
        """Note it."""
        self.life.append("start")

    def drain(self) -> None:
        """Let everybody go."""
        self.life.append("drain")
        self.let_go.set()

    async def close(self) -> None:
        """Note it."""
        self.life.append("close")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        self.served += 1
        if scope["type"] == "websocket":
            await self._echo(scope, receive, send)
            return
        if scope["path"].endswith("/boom"):
            raise RuntimeError("boom")
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] in {"/held", "/stuck"}:
            scope[WAITS] = True
            self.entered.set()
            await (self.let_go if scope["path"] == "/held" else asyncio.Event()).wait()
        seen = {"key": scope[KEY], "scheme": scope["scheme"], "bytes": len(body)}
        seen["client"] = scope["client"][0] if scope["client"] else None
        answer = msgspec.json.encode(seen)
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})

    async def _echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope[KEY]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
