"""From a URL to the gate of this process that serves it: one for all clients, threads and loops.

There must be one gate a file and process: the presence lock of a process ends when any descriptor of its file
is closed, so two gates would take each other's life.
"""

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ebbgate.core.model import Settings
from ebbgate.errors import InvalidRequest

if TYPE_CHECKING:
    from ebbgate.client.embedded.gate import EmbeddedGate

_gates: Final[dict[str, "EmbeddedGate"]] = {}
_opening = threading.Lock()

_SERVER_SCHEMES: Final = {"ebbgate", "ebbgates", "http", "https"}


def gate_for(url: str, settings: Settings | None = None) -> "EmbeddedGate":
    """Return the gate of this process for `url`, opened on first use.

    Raises:
        InvalidRequest: `url` names nothing to connect to.
        StoreUnavailable: the store cannot be opened.
    """
    key = _canonical(url)
    gate = _gates.get(key)
    if gate is None:
        with _opening:
            gate = _gates.get(key)
            if gate is None:
                gate = _gates[key] = _open(key, settings)
    return gate


def gate_if_open(url: str) -> "EmbeddedGate | None":
    """Return the gate of this process for `url` if it is open; costs no I/O worth mentioning."""
    return _gates.get(_canonical(url)) if _gates else None


def _canonical(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme in _SERVER_SCHEMES:
        raise InvalidRequest(
            f"{url!r} names a server; this release works on the file of one machine: sqlite:///file.db"
        )
    from ebbgate.client.embedded.opening import canonical

    return canonical(url)


def _open(key: str, settings: Settings | None) -> "EmbeddedGate":
    from ebbgate.client.embedded.opening import open_gate

    return open_gate(key, settings)


def close_gate(url: str) -> None:
    """Close the gate for `url`, if it is open; leases it still holds are released."""
    with _opening:
        gate = _gates.pop(_canonical(url), None)
    if gate is not None:
        gate.close()


def _close_all() -> None:
    for gate in list(_gates.values()):
        gate.close()
    _gates.clear()


def _after_fork() -> None:
    """Start anew in the child: it owns nothing of what its parent holds."""
    global _opening  # noqa: PLW0603 - another thread of the parent may have held it
    _opening = threading.Lock()
    for gate in _gates.values():
        gate.abandon()
    _gates.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
