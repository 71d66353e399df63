"""Twenty asyncio tasks in two processes call an API that refuses whoever calls too often; none is refused.

    python examples/rate_limited_api.py

The API is a real HTTP server on this machine. It answers 429 (too many requests) to calls above 50 a second,
however they are spread over its clients; a burst may be as large as what comes in 60 ms. With
`await rate_limit(...)` before each call nobody is refused, and the whole rate is used. Without it most are.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from ebbgate import Client
from ebbgate.asyncio import rate_limit

LIMIT = "example-api"
RATE = 50.0  # requests a second, for all clients together
BURST_SECONDS = 0.060
PROCESSES = 2
TASKS = 10  # in each process
CALLS = 10  # by each task
ALL_CALLS = PROCESSES * TASKS * CALLS
ATTEMPTS = 6


class Api(ThreadingHTTPServer):
    """Answers 200 as long as its bucket has a token, else 429."""

    daemon_threads = True
    request_queue_size = PROCESSES * TASKS

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.lock = threading.Lock()
        self.size = 1 + RATE * BURST_SECONDS
        self.tokens = self.size
        self.filled_at = time.monotonic()
        self.arrivals: list[float] = []

    def admit(self) -> bool:
        """Take a token if there is one; they come back at the rate, up to the size of the bucket."""
        with self.lock:
            now = time.monotonic()
            self.tokens = min(self.tokens + (now - self.filled_at) * RATE, self.size)
            self.filled_at = now
            self.arrivals.append(now)
            if self.tokens < 1:
                return False
            self.tokens -= 1
            return True


class Answer(BaseHTTPRequestHandler):
    """One connection; it stays open between calls."""

    protocol_version = "HTTP/1.1"
    server: Api

    def do_GET(self) -> None:
        self.send_response(200 if self.server.admit() else 429)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gave it
        """Keep quiet; the clients count."""


async def calls_of_a_task(port: int, polite: bool) -> Counter[int]:
    """Call the API a number of times and count its answers by status."""
    statuses: Counter[int] = Counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(CALLS):
        if polite:
            await rate_limit(LIMIT)
        writer.write(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        statuses[int(head.split()[1])] += 1
    writer.close()
    await writer.wait_closed()
    return statuses


async def client(port: int, polite: bool) -> None:
    """Be one of the two client processes: ten tasks at once. What they were answered goes to the output."""
    statuses = await asyncio.gather(*(calls_of_a_task(port, polite) for _ in range(TASKS)))
    total = sum(statuses, Counter[int]())
    print(total[200], total[429])


class Answered(NamedTuple):
    """What became of the calls of all clients."""

    fine: int
    refused: int
    seconds: float
    arrivals: list[float]  # when each call arrived, in seconds


def call_from_processes(*, polite: bool) -> Answered:
    """Run an API and two processes that call it."""
    api = Api()
    threading.Thread(target=api.serve_forever, args=(0.05,), daemon=True).start()
    command = [sys.executable, __file__, "client", str(api.server_port), "polite" if polite else "rude"]
    started = time.monotonic()
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    outputs = [process.communicate()[0].split() for process in clients]
    seconds = time.monotonic() - started
    api.shutdown()
    api.server_close()
    fine, refused = (sum(int(counted) for counted in column) for column in zip(*outputs, strict=True))
    return Answered(fine, refused, seconds, api.arrivals)


def lateness(management: Client, arrivals: list[float]) -> float:
    """Return by how many seconds some calls arrived later after their grants than others."""
    spends = management.list_leases(LIMIT, "ended")[: len(arrivals)]
    grants = sorted(spend.granted.timestamp() for spend in spends if spend.granted)
    late = [arrival - grant for arrival, grant in zip(arrivals, grants, strict=True)]
    return max(late) - min(late)


def polite_attempt(management: Client) -> bool:
    """Call politely and tell what came of it.

    Returns:
        False when this machine was too busy to send its calls in time, which proves nothing.
    """
    answered = call_from_processes(polite=True)
    late_ms, burst_ms = lateness(management, answered.arrivals) * 1000, BURST_SECONDS * 1000
    print(f"with rate_limit: {answered.fine} of {ALL_CALLS} answered, {answered.refused} refused with 429")
    print(f"  in {answered.seconds:.1f} s; the rate alone takes {(ALL_CALLS - 1) / RATE:.1f} s")
    print(f"  calls arrived up to {late_ms:.1f} ms after their turn; a burst covers {burst_ms:g} ms")
    if answered.refused and late_ms > 0.8 * burst_ms:
        print("  this machine is too busy to send its calls in time: once more")
        return False
    if answered.fine < ALL_CALLS:
        sys.exit("NOT PROVEN")
    return True


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        os.environ.setdefault("EBBGATE_URL", f"sqlite:///{folder}/gate.db")
        with Client() as management:
            management.put_limit(LIMIT, 1, slot_decay_per_second=RATE)
            proven = any(polite_attempt(management) for _ in range(ATTEMPTS))
    rude = call_from_processes(polite=False)
    print(f"without: {rude.fine} answered, {rude.refused} refused with 429")
    proven = proven and rude.refused > ALL_CALLS // 2
    print("proven" if proven else "NOT PROVEN")
    return 0 if proven else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        asyncio.run(client(int(sys.argv[2]), polite=sys.argv[3] == "polite"))
    else:
        sys.exit(main())
