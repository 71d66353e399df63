"""The sockets that a server listens on, and the certificate that it shows."""

import errno
import os
import resource
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from ebbgate.errors import EbbgateError, InvalidRequest
from ebbgate.neighbours.owner import socket_path
from ebbgate.server.crowd import SPARE_MAX
from ebbgate.server.options import Options

BACKLOG: Final = 2_048
FILES_SPARE: Final = 200 + SPARE_MAX
"""Descriptors that are not regular connections: the store, its files, and spare slots for health."""

FILES_MIN: Final = 512
_FILES_WANTED: Final = 1 << 20

# A connection whose other end is gone without a word ends after 25 s; one that is merely silent never does.
# Accepted connections inherit this from their listener.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPALIVE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def bind(host: str, port: int) -> list[socket.socket]:
    """Return bound sockets for every address that `host` stands for, all with one port.

    Raises:
        EbbgateError: the port is taken, or may not be used.
        InvalidRequest: `host` is no address of this machine.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InvalidRequest(
            f"--host {host} is unknown here ({error}); give an address of this machine"
        ) from error
    bound: list[socket.socket] = []
    failed: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        chosen = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_bound(family, (address[0], chosen, *address[2:])))
        except OSError as error:
            failed = error
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                break
    if not bound or (failed is not None and failed.errno == errno.EADDRINUSE):
        close_all(bound)
        assert failed is not None, "a name stands for an address, or for none"
        raise _explained(failed, host, port) from failed
    return bound


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def listen(listeners: list[socket.socket], host: str) -> None:
    """Let connections in; only here does the system say that somebody else was faster.

    Raises:
        EbbgateError: the port is taken.
    """
    for listener in listeners:
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            raise _explained(error, host, listener.getsockname()[1]) from error


def _explained(error: OSError, host: str, port: int) -> EbbgateError:
    if error.errno == errno.EADDRINUSE:
        return EbbgateError(
            f"port {port} of {host or 'this machine'} is taken by another program; stop it (ss -ltnp 'sport = :{port}' "
            "tells which), or choose another port: ebbgate serve --port N"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return EbbgateError(
            f"port {port} needs rights that this user has not; choose one above 1023: --port N"
        )
    return InvalidRequest(f"--host {host} is no address of this machine ({error.strerror})")


def address_of(listener: socket.socket, *, is_tls: bool) -> str:
    """Return the URL of a listener, as this machine reaches it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what is replaced
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{shown}:{port}"


def bind_beside(store_path: Path) -> tuple[socket.socket, Path]:
    """Return a Unix socket beside the store's file, for its user alone; the caller owns the file.

    Raises:
        EbbgateError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        path = socket_path(store_path)
        path.unlink(missing_ok=True)  # a dead owner's
        listener.bind(str(path))
        path.chmod(0o600)  # before `listen`: until then nobody gets in
    except OSError as error:
        listener.close()
        raise EbbgateError(
            f"no socket can be made beside the store {store_path} ({error}); "
            "its folder must be writable for this user and on a disk that allows sockets"
        ) from error
    return listener, path


def close_all(listeners: list[socket.socket]) -> None:
    """Close sockets."""
    for listener in listeners:
        listener.close()


def raise_file_limit() -> int:
    """Raise the limit of open files as far as the system allows; return how many connections that is enough for.

    Raises:
        EbbgateError: it is not enough for a server.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = _FILES_WANTED if soft == resource.RLIM_INFINITY else soft
    if files < FILES_MIN:
        raise EbbgateError(
            f"this process may open {files} files (ulimit -n), but a server needs at least {FILES_MIN}; raise it: "
            f"ulimit -n {FILES_MIN}, or LimitNOFILE= of systemd, or --ulimit nofile= of Docker"
        )
    return files - FILES_SPARE


def tls_context(options: Options) -> ssl.SSLContext | None:
    """Return what TLS needs, None without it.

    Raises:
        InvalidRequest: a file is missing or is not what it should be.
    """
    if options.tls_cert is None or options.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, options)
    if options.tls_client_ca is not None:
        try:
            context.load_verify_locations(options.tls_client_ca)
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequest(
                f"--tls-client-ca {options.tls_client_ca} cannot be used: {error}"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificate(context: ssl.SSLContext, options: Options) -> None:
    """Read certificate and key, at the start or anew: connections that are there keep the old one.

    Raises:
        InvalidRequest: they cannot be used; nothing has changed.
    """
    assert options.tls_cert is not None, "TLS was asked for"
    for flag, path in (("cert", options.tls_cert), ("key", options.tls_key)):
        assert path is not None, "both or none"
        if not os.access(path, os.R_OK):
            raise InvalidRequest(f"--tls-{flag} {path} is not there, or this user may not read it")
    try:
        # A key with a password would be asked for at the terminal.
        context.load_cert_chain(options.tls_cert, options.tls_key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"--tls-cert {options.tls_cert} and --tls-key {options.tls_key} cannot be used: {error}; "
            "both must be PEM, the key without a password and made for the certificate"
        ) from error


def _no_password() -> str:
    raise OSError("the key has a password")
