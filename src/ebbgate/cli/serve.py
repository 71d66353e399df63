"""`ebbgate serve`: the same limits for many machines and every language."""

import logging
import stat
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import quote

from cyclopts import Parameter

from ebbgate import settings
from ebbgate.cli.options import Output, Whole
from ebbgate.errors import EbbgateError, InvalidRequest
from ebbgate.version import requirement

if TYPE_CHECKING:
    from ebbgate.server.keys import Keys

_log: Final = logging.getLogger("ebbgate.server")

_LIBRARIES: Final = ("litestar", "uvicorn", "uvloop", "httptools", "websockets")


def _values(_type: Any, text: str, **_: object) -> list[str]:  # noqa: ANN401 - cyclopts' protocol
    """Read a variable: empty is as if unset."""
    return [text] if text.strip() else []


def option(variable: str, what: str) -> Parameter:
    """Return an option that has a variable, too."""
    return Parameter(help=what, env_var=variable, env_var_split=_values)


_Store = Annotated[
    str | None,
    option(
        "EBBGATE_STORE",
        "Where limits live: sqlite:////path.db, or for several servers postgresql://user@host/database or "
        "redis://host:6379/0, with ?namespace=NAME; unset: the file of this user.",
    ),
]
Namespace = Annotated[
    str | None,
    option(
        "EBBGATE_NAMESPACE", "Which set of limits in a shared store, unless its URL names it; else `default`."
    ),
]
_Upgrade = Annotated[
    Literal["auto", "never"],
    option(
        "EBBGATE_STORE_UPGRADE",
        "auto: bring an older schema of a shared store up at the start; never: refuse it, for `ebbgate store upgrade`.",
    ),
]
_AllowEmpty = Annotated[
    bool,
    option(
        "EBBGATE_ALLOW_EMPTY_STORE",
        "Open a store file that is empty although files that belong to it show that it lost its content.",
    ),
]
_Unknown = Annotated[
    Literal["allow", "refuse"],
    option(
        "EBBGATE_UNKNOWN_LIMITS",
        "allow: an acquisition that names a limit which does not exist runs without it, with a warning; refuse: it "
        "fails.",
    ),
]
_Host = Annotated[
    str, option("EBBGATE_HOST", "Address to listen on. Beyond this machine it needs keys and TLS.")
]
_Port = Annotated[int, option("EBBGATE_PORT", "Port to listen on; 0: any that is free."), Whole]
_Durability = Annotated[
    Literal["full", "normal"],
    option(
        "EBBGATE_DURABILITY",
        "full: what was answered survives a power cut; normal: the crash of the server only.",
    ),
]
_Hosts = Annotated[
    list[str] | None,
    option(
        "EBBGATE_ALLOWED_HOSTS", "A name that clients use for this server. Repeatable, or comma separated."
    ),
]
_Keys = Annotated[
    Path | None, option("EBBGATE_API_KEYS_FILE", "File with API keys, one a line: KEY or NAME=KEY.")
]
_Cert = Annotated[
    Path | None, option("EBBGATE_TLS_CERT", "Certificate, PEM, with those between it and its root.")
]
_Key = Annotated[Path | None, option("EBBGATE_TLS_KEY", "Its key, PEM, without a password.")]
_Ca = Annotated[
    Path | None,
    option("EBBGATE_TLS_CLIENT_CA", "Let only clients in that show a certificate signed by this one."),
]
_Proxies = Annotated[
    list[str] | None,
    option(
        "EBBGATE_TRUSTED_PROXIES",
        "Address or network of a proxy that does TLS and says who its client is. Repeatable, or comma separated.",
    ),
]
_Away = Annotated[
    float, option("EBBGATE_AWAY_GRACE", "Seconds in which a client whose connection broke may come back.")
]
_Recovery = Annotated[
    float, option("EBBGATE_RECOVERY_GRACE", "Seconds after the start in which nothing expires.")
]
_Shortest = Annotated[
    float, option("EBBGATE_LEASE_DURATION_MIN", "Seconds: the shortest lease that is allowed.")
]
_Prefect = Annotated[
    float,
    option("EBBGATE_PREFECT_WAIT", "Seconds that a client of Prefect's is held open before it asks again."),
]
_Drain = Annotated[float, option("EBBGATE_DRAIN_SECONDS", "Seconds for requests to finish after SIGTERM.")]
_Connections = Annotated[
    int, option("EBBGATE_CONNECTIONS_MAX", "How many streams may be open at once."), Whole
]
_LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], option("EBBGATE_LOG_LEVEL", "What to log.")
]


def serve(  # noqa: PLR0913 - one for each option
    *,
    store: _Store = None,
    namespace: Namespace = None,
    host: _Host = "127.0.0.1",
    port: _Port = settings.DEFAULT_PORT,
    durability: _Durability = "full",
    store_upgrade: _Upgrade = "auto",
    allow_empty_store: _AllowEmpty = False,
    unknown_limits: _Unknown = "allow",
    allowed_host: _Hosts = None,
    api_keys_file: _Keys = None,
    tls_cert: _Cert = None,
    tls_key: _Key = None,
    tls_client_ca: _Ca = None,
    trusted_proxy: _Proxies = None,
    away_grace: _Away = 10.0,
    recovery_grace: _Recovery = 30.0,
    lease_duration_min: _Shortest = 60.0,
    prefect_wait: _Prefect = 10.0,
    drain_seconds: _Drain = 10.0,
    connections_max: _Connections = 10_000,
    log_level: _LogLevel = "info",
    output: Output = "table",
) -> None:
    """Serve limits to many machines and every language, until it is told to end.

    It logs to stderr: lines for people at a terminal, otherwise (or with -o json) one JSON object a line.
    """
    _check_installed()
    from ebbgate.server import logs
    from ebbgate.server.notify import Notifier
    from ebbgate.server.options import Options
    from ebbgate.stores import in_namespace

    store = store or f"sqlite:///{quote(str(settings.default_path()))}"
    options = Options(
        store=in_namespace(store, namespace) if namespace else store,
        host=host,
        port=port,
        durability=durability,
        upgrade=store_upgrade == "auto",
        allow_empty_store=allow_empty_store,
        unknown_limits=unknown_limits,
        allowed_hosts=_split(allowed_host),
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        trusted_proxies=_split(trusted_proxy),
        keys=_keys(api_keys_file),
        read_keys=None if api_keys_file is None else partial(_keys, api_keys_file),
        away_grace_seconds=away_grace,
        recovery_grace_seconds=recovery_grace,
        lease_duration_min_seconds=lease_duration_min,
        prefect_wait_seconds=prefect_wait,
        drain_seconds=drain_seconds,
        connections_max=connections_max,
        log_level=log_level,
    )
    logs.configure(log_level, is_json=True if output == "json" else None)
    _warn_of_readers(api_keys_file)
    from ebbgate.server.serving import run

    run(options, notifier=Notifier(settings.notify_socket(), watchdog_seconds=settings.watchdog_seconds()))


def _split(texts: list[str] | None) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts or () for part in text.split(",") if part.strip())


def _keys(path: Path | None) -> "Keys":
    from ebbgate.server.keys import keys_from

    text = None
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"--api-keys-file {path} cannot be read: {error}") from error
    keys = keys_from(settings.server_api_keys(), text)
    if path is not None and not keys:
        raise InvalidRequest(f"--api-keys-file {path} holds no key; make one: openssl rand -hex 32")
    return keys


def _warn_of_readers(path: Path | None) -> None:
    """Warn if every user of this machine may read or change the API keys."""
    mode = 0 if path is None else stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        _log.warning(
            "every user of this machine may use --api-keys-file %s (mode %04o); run: chmod 600 %s",
            path,
            mode,
            path,
        )


def _check_installed() -> None:
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise EbbgateError(
            f"the server needs {', '.join(missing)}, not installed here; "
            f"install it: pip install {requirement('server')}"
        )
