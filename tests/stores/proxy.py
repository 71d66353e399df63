"""A network that can be broken: a proxy in front of a database server, in threads of its own."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Address = tuple[str, int] | str

PATIENCE_S = 30.0


class Proxy:
    """Carries bytes between clients and one server until it is told otherwise."""

    def __init__(self, server: Address) -> None:
        self.trips = 0  # how often a request followed an answer
        self._is_answered = True
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._refuses = False
        self._flows = threading.Event()
        self._flows.set()
        self._lose = ""
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def lose_answer(self) -> None:
        """Cut the connection after the next request reached the server and was answered, before the answer arrives."""
        self._lose = "answer"

    def lose_request(self) -> None:
        """Cut the connection when the next request comes; it does not reach the server."""
        self._lose = "request"

    def stall(self) -> None:
        """Carry nothing any more, but leave everything open."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()
        self._refuses = False

    def refuse(self) -> None:
        """Cut all connections, and every new one."""
        self._refuses = True
        self.cut()

    def lead_to(self, server: Address) -> None:
        """Lead to another server from now on."""
        self._server = server
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        for pair in list(self._pairs):
            self._cut(pair)

    def close(self) -> None:
        self.refuse()
        self._flows.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            if isinstance(self._server, str):
                server = socket.socket(socket.AF_UNIX)
            else:
                server = socket.socket()
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                server.close()
                continue
            pair = (client, server)
            self._pairs.add(pair)
            for source, sink, way in ((client, server, "request"), (server, client, "answer")):
                thread = threading.Thread(target=self._carry, args=(pair, source, sink, way), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket, way: str
    ) -> None:
        try:
            while data := source.recv(1 << 16):
                self._flows.wait()
                self.trips += way == "request" and self._is_answered
                self._is_answered = way == "answer"
                if self._lose == way:
                    self._lose = ""
                    break
                sink.sendall(data)
        except OSError:
            pass
        self._cut(pair)

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def proxy(server: Address) -> Iterator[Proxy]:
    """Have a proxy before the server at `server`; a path is a socket of this machine."""
    made = Proxy(server)
    try:
        yield made
    finally:
        made.close()


def socket_of(folder: Path) -> str:
    """Where a PostgreSQL server in `folder` listens."""
    return str(folder / ".s.PGSQL.5432")
