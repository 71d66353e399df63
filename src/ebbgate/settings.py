"""Where the environment is read, and nowhere else but in `cli`."""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ebbgate.core.model import UnknownLimits
from ebbgate.errors import InvalidRequest, PrivateFileWarning, warn

DEFAULT_PORT: Final = 4220

_connect_timeout_default_seconds = 30.0


def url() -> str:
    """Return where to connect: `EBBGATE_URL`, or the file of this user on this machine."""
    configured = os.environ.get("EBBGATE_URL")
    if configured:
        return configured
    path = default_path()
    if not path.exists() and is_container():
        _warn_of_private_file(path)  # once in the life of the file, not with every command
    return f"sqlite:///{quote(str(path))}"


def is_container() -> bool:
    """Tell whether this process seems to run in a container, whose files are its own."""
    return (
        Path("/.dockerenv").exists()
        or Path("/run/.containerenv").exists()
        or bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    )


@lru_cache(maxsize=1)  # once a process
def _warn_of_private_file(path: Path) -> None:
    message = (
        f"{path} is private to this container, and so are its limits; "
        "set EBBGATE_URL to a file on a shared volume of this machine, or to a server"
    )
    logging.getLogger("ebbgate").warning("%s", message)
    warn(message, PrivateFileWarning)


def configured_url() -> str | None:
    """Return `EBBGATE_URL`, or None: cheaper than `url` for who asks at every call."""
    return os.environ.get("EBBGATE_URL") or None


def api_key() -> str | None:
    """Return `EBBGATE_API_KEY`."""
    return os.environ.get("EBBGATE_API_KEY") or None


def server_api_keys() -> str | None:
    """Return `EBBGATE_API_KEYS`: the keys that a server lets in, comma separated."""
    return os.environ.get("EBBGATE_API_KEYS") or None


def notify_socket() -> str | None:
    """Return where a service manager listens, as it says in `NOTIFY_SOCKET`."""
    return os.environ.get("NOTIFY_SOCKET") or None


def watchdog_seconds() -> float | None:
    """Return after how long a service manager takes this process for dead; None: it does not look."""
    microseconds, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (process and process != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 or None


def allow_empty_store() -> bool:
    """Return whether a file that lost its content may be opened: `EBBGATE_ALLOW_EMPTY_STORE`."""
    return os.environ.get("EBBGATE_ALLOW_EMPTY_STORE", "").strip().lower() in {"1", "true", "yes", "on"}


def unknown_limits() -> UnknownLimits:
    """Return what becomes of names of which there is no limit: `EBBGATE_UNKNOWN_LIMITS`, allow by default.

    Raises:
        InvalidRequest: it is neither.
    """
    configured = os.environ.get("EBBGATE_UNKNOWN_LIMITS", "").strip() or "allow"
    if configured == "allow":
        return "allow"
    if configured == "refuse":
        return "refuse"
    raise InvalidRequest(f"EBBGATE_UNKNOWN_LIMITS must be allow or refuse, got {configured!r}")


def ca_file() -> str | None:
    """Return the file of the certificates that a server's own is trusted by: `EBBGATE_CA_FILE`; None: the system's."""
    return os.environ.get("EBBGATE_CA_FILE") or None


def default_path() -> Path:
    """Return the file that all processes of this user on this machine share."""
    if os.uname().sysname == "Darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        data_home = os.environ.get("XDG_DATA_HOME", "")
        folder = Path(data_home) if data_home.startswith("/") else Path.home() / ".local" / "share"
    return folder / "ebbgate" / "ebbgate.db"


def set_connect_timeout_default(seconds: float) -> float:
    """Set how long to try where `EBBGATE_CONNECT_TIMEOUT` says nothing; return how long it was before."""
    global _connect_timeout_default_seconds
    before, _connect_timeout_default_seconds = _connect_timeout_default_seconds, seconds
    return before


def connect_timeout_seconds() -> float:
    """Return how long to try when nothing was ever answered: `EBBGATE_CONNECT_TIMEOUT`, 30 s by default."""
    configured = os.environ.get("EBBGATE_CONNECT_TIMEOUT")
    if not configured:
        return _connect_timeout_default_seconds
    try:
        seconds = float(configured)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise InvalidRequest(f"EBBGATE_CONNECT_TIMEOUT must be seconds from 0 to 86400, got {configured!r}")
    return seconds
