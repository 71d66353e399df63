"""What stands between the provider and a server, and spoils what passes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What a request is answered with."""

    status: int
    body: bytes
    kind: str = "application/json"


Pass = Callable[[], Answer]
Spoil = Callable[[str, str, Pass], Answer | None]
"""Given method, path and what asks the server: what to answer; None: nothing, the connection is closed."""


@contextmanager
def between(url: str, spoil: Spoil) -> Iterator[str]:
    """Stand before the server at `url` meanwhile; yield where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name there
            pass

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))

            def ask() -> Answer:
                connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
                passed = {name: value for name, value in self.headers.items() if name != "Host"}
                connection.request(self.command, self.path, body, passed)
                said = connection.getresponse()
                answer = Answer(said.status, said.read(), said.headers.get_content_type())
                connection.close()
                return answer

            answer = spoil(self.command, self.path, ask)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 - names there

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
