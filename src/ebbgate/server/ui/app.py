"""Serves the pages and their files, and logs people in and out."""

import asyncio
import logging
from typing import Final

import msgspec

from ebbgate.server.front import KEY, Receive, Scope, Send
from ebbgate.server.ui.files import SITE, File
from ebbgate.server.ui.logins import LOGINS, SESSION_PATH, Logins, cookie_header

_log: Final = logging.getLogger("ebbgate.server")

_BODY_BYTES_MAX: Final = 4_096
_REFUSED_SECONDS: Final = 0.3
"""How long a wrong key takes, so that trying many takes longer."""

_JSON: Final = (b"content-type", b"application/json")
_NO_STORE: Final = (b"cache-control", b"no-store")


class LoginBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person logs in with."""

    key: str


class LoginInfo(msgspec.Struct, frozen=True):
    """Whether a browser may go on."""

    needs_key: bool
    key: str | None  # the id of the key with which it has logged in


async def ui_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request for a page, a file, or a log-in."""
    path, method = scope["path"], scope["method"]
    if path == SESSION_PATH:
        await _session(scope, receive, send)
        return
    file = SITE.files.get(path)
    if file is None:
        await _answer(send, 404, b"There is no such page.\n", ((b"content-type", b"text/plain"), _NO_STORE))
    elif method not in {"GET", "HEAD"}:
        await _answer(send, 405, b"", ((b"allow", b"GET, HEAD"),))
    else:
        await _file(scope, send, file)


async def _file(scope: Scope, send: Send, file: File) -> None:
    sent = dict(scope["headers"])
    known = {tag.strip().removeprefix(b"W/") for tag in sent.get(b"if-none-match", b"").split(b",")}
    if file.etag in known:
        await _answer(send, 304, b"", file.headers)
        return
    body, headers = file.body, file.headers
    accepted = {part.partition(b";")[0].strip() for part in sent.get(b"accept-encoding", b"").split(b",")}
    if b"gzip" in accepted and file.compressed is not file.body:
        body, headers = file.compressed, (*headers, (b"content-encoding", b"gzip"))
    await _answer(send, 200, body, headers, is_head=scope["method"] == "HEAD")


async def _session(scope: Scope, receive: Receive, send: Send) -> None:
    logins: Logins | None = scope.get(LOGINS)
    cookies = next((value for name, value in scope["headers"] if name == b"cookie"), b"")
    match scope["method"]:
        case "GET" | "HEAD":
            key_id = logins.id_of(scope, cookies) if logins else None
            await _tell(send, LoginInfo(logins is not None, key_id), is_head=scope["method"] == "HEAD")
        case "POST":
            await _log_in(scope, receive, send, logins)
        case "DELETE":
            if logins:
                logins.close(scope, cookies)
            await _answer(send, 204, b"", (_NO_STORE, (b"set-cookie", cookie_header(scope, ""))))
        case _:
            await _answer(send, 405, b"", ((b"allow", b"DELETE, GET, HEAD, POST"),))


async def _log_in(scope: Scope, receive: Receive, send: Send, logins: Logins | None) -> None:
    if logins is None:
        await _tell(send, LoginInfo(needs_key=False, key=None))
        return
    body = await _body(receive)
    try:
        asked = msgspec.json.decode(body, type=LoginBody)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        await _problem(send, 400, "malformed", 'a log-in is JSON: {"key": "..."}')
        return
    opened = logins.open(asked.key.strip())
    if opened is None:
        _log.warning("a log-in was refused", extra={"fields": {"client": _client(scope)}})
        await asyncio.sleep(_REFUSED_SECONDS)
        await _problem(send, 403, "not_authorized", "this server knows no such API key")
        return
    secret, key_id = opened
    scope[KEY] = key_id
    _log.info("logged in", extra={"fields": {"client": _client(scope), "key": key_id}})
    await _tell(send, LoginInfo(needs_key=True, key=key_id), (b"set-cookie", cookie_header(scope, secret)))


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _body(receive: Receive) -> bytes:
    """Return a request's body; b"" if it is too long, or never comes."""
    body = bytearray()
    more = True
    while more and len(body) <= _BODY_BYTES_MAX:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body) if len(body) <= _BODY_BYTES_MAX else b""


async def _tell(send: Send, content: LoginInfo, *more: tuple[bytes, bytes], is_head: bool = False) -> None:
    await _answer(send, 200, msgspec.json.encode(content), (_JSON, _NO_STORE, *more), is_head=is_head)


async def _problem(send: Send, status: int, code: str, detail: str) -> None:
    problem = {"type": f"urn:ebbgate:problem:{code}", "status": status, "code": code, "detail": detail}
    headers = ((b"content-type", b"application/problem+json"), _NO_STORE)
    await _answer(send, status, msgspec.json.encode(problem), headers)


async def _answer(
    send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...], *, is_head: bool = False
) -> None:
    if status not in {204, 304}:
        headers = (*headers, (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
