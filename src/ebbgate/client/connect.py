"""From a URL to the gate of this process that serves it: one for all clients, threads and loops.

There must be one gate a file and process: the presence lock of a process ends when any descriptor of its file
is closed, so two gates would take each other's life.
"""

import atexit
import errno
import logging
import os
import re
import threading
from typing import Final
from urllib.parse import urlsplit

from ebbgate.client.gate import Gate
from ebbgate.core.model import Settings
from ebbgate.errors import InvalidRequest, StoreUnavailable
from ebbgate.settings import DEFAULT_PORT

_Key = tuple[str, str | None]
_gates: Final[dict[_Key, Gate]] = {}
_opening = threading.Lock()
_is_exiting = False
_log: Final = logging.getLogger("ebbgate")

SERVER_SCHEMES: Final = frozenset({"ebbgate", "ebbgates", "http", "https"})
_STORE_SCHEMES: Final = frozenset({
    "memory", "sqlite", "postgresql", "postgres", "redis", "rediss", "valkey", "valkeys"
})  # fmt: skip
"""Of stores; all but the first two are refused, with a word on what they are for."""


def gate_for(url: str, api_key: str | None = None, settings: Settings | None = None) -> Gate:
    """Return the gate of this process for `url`, opened on first use.

    Args:
        url: names a file, or one or several servers.
        api_key: for the servers.
        settings: of a file that is opened for the first time.

    Raises:
        InvalidRequest: `url` names nothing to connect to.
        StoreUnavailable: the store cannot be opened.
    """
    key = _key(url, api_key)
    gate = _gates.get(key)
    if gate is None:
        with _opening:
            gate = _gates.get(key)
            if gate is None:
                # Exit handlers of the main thread run to their end; other threads are cut off anywhere, and what
                # they acquired over a new connection would stay held.
                if _is_exiting and threading.current_thread() is not threading.main_thread():
                    raise StoreUnavailable("the interpreter exits, so nothing can be acquired any more")
                gate = _gates[key] = _open(key, settings)
    return gate


def gate_if_open(url: str, api_key: str | None = None) -> Gate | None:
    """Return the gate of this process for `url` if it is open; costs no I/O worth mentioning."""
    return _gates.get(_key(url, api_key)) if _gates else None


def is_remote(url: str) -> bool:
    """Tell whether `url` names servers."""
    return urlsplit(url).scheme in SERVER_SCHEMES


def _key(url: str, api_key: str | None) -> _Key:
    """Return one key for all addresses of the same store."""
    if is_remote(url):
        from ebbgate.client.remote.addresses import canonical as canonical_of_servers

        return canonical_of_servers(url), api_key
    if urlsplit(url).scheme not in _STORE_SCHEMES:
        from ebbgate.wire.words import without_secrets

        shown = without_secrets(url)
        raise InvalidRequest(f"{shown!r} is no address of limits; {_meant(shown)}")
    from ebbgate.client.embedded.opening import canonical

    return canonical(url), None


def _meant(url: str) -> str:
    """Return what somebody perhaps wanted to write."""
    from difflib import get_close_matches

    scheme, separator, rest = url.partition("://")
    near = get_close_matches(scheme, sorted(SERVER_SCHEMES | {"memory", "sqlite"}), 1) if separator else []
    if near:
        return f"did you mean {near[0]}://{rest}?"
    if re.fullmatch(r"\[?[\w.:-]+\]?:\d+/?", url):
        return f"did you mean ebbgate://{url}?"
    if not separator and (url.startswith(("/", ".")) or url.endswith(".db")):
        return f"did you mean sqlite:///{url}?"
    return f"write ebbgate://host:{DEFAULT_PORT} for a server, or sqlite:////absolute/path.db for a file"


def _open(key: _Key, settings: Settings | None) -> Gate:
    try:
        return _opened(key, settings)
    except OSError as error:
        hint = "; allow more open files: ulimit -n" if error.errno in {errno.EMFILE, errno.ENFILE} else ""
        raise StoreUnavailable(f"the store cannot be opened ({error}){hint}") from error


def _opened(key: _Key, settings: Settings | None) -> Gate:
    url, api_key = key
    if is_remote(url):
        from ebbgate.client.remote.addresses import addresses_of
        from ebbgate.client.remote.gate import RemoteGate

        return RemoteGate(addresses_of(url), api_key)
    from ebbgate.client.embedded.opening import open_gate
    from ebbgate.client.owned.opening import owner_gate

    return owner_gate(url, settings) or open_gate(url, settings)


def close_gate(url: str, api_key: str | None = None) -> None:
    """Close the gate for `url`, if it is open; leases it still holds are released."""
    with _opening:
        gate = _gates.pop(_key(url, api_key), None)
    if gate is not None:
        gate.close()


def _close_all(*, at_exit: bool = True) -> None:
    """Close every gate, as when the interpreter exits; an error of one does not keep the others open."""
    global _is_exiting  # noqa: PLW0603 - it happens once
    with _opening:
        _is_exiting = at_exit
        gates = list(_gates.values())
        _gates.clear()
    for gate in gates:
        try:
            gate.close(at_exit=at_exit)
        except Exception:  # noqa: BLE001 - the handlers of others come after this one
            _log.exception("a connection could not be closed at exit")


def _after_fork() -> None:
    """Start anew in the child: it owns nothing of what its parent holds."""
    global _opening  # noqa: PLW0603 - another thread of the parent may have held it
    _opening = threading.Lock()
    for gate in _gates.values():
        gate.abandon()
    _gates.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
