"""Measure named workloads; print each number beside its target."""

import argparse
import importlib
import json
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.report import Line, NotHereError, Options, Remark, Workload, conditions, load_average

WORKLOADS = {
    "floors": "what the machine could do at best, in this run",
    "core": "the core alone, without a store",
    "intake": "taking in another process's change",
    "pairs": "acquire and release, no contention",
    "blocking": "an event loop while other processes use the file",
    "work": "100 pieces of 10 ms through 5 slots",
    "handover": "from a release to the next waiter in another process",
    "rate": "rate_limit",
    "imports": "import and first use in a new process",
    "server.stream": "acquire and release through a server, no contention; Redis beside it",
    "server.handover": "through a server, from a release to the next waiter in another process",
    "server.work": "100 pieces of 10 ms through 5 slots of a server",
    "server.rate": "rate_limit through a server",
    "server.rest": "acquire and release over REST, keep-alive connections",
    "server.viewers": "acquire and release through a server while people look at its pages",
    "server.size": "what waiting clients, waiters and leases cost a server",
    "server.life": "start, restart and idling of a server",
    "stores.pairs": "acquire and release through servers that share a database: one, and three on one namespace",
    "stores.handover": "from a release at one server to the next waiter at another one",
    "stores.failover": "a client whose server is killed, until it is served again",
    "stores.life": "start of a server on a store that holds many leases",
    "prefect": "Prefect's SDK, unmodified: its own server and ebbgate side by side",
    "peers.redis": "Redis with a semaphore in Lua, through redis-py",
    "peers.limits": "rate limits: the `limits` library on Redis, and ebbgate",
    "peers.dask": "Dask's Semaphore",
    "peers.prefect": "Prefect's server, over HTTP and through its SDK",
}


def _workload(name: str) -> Workload:
    run: Workload = importlib.import_module(f"bench.{name}").run
    return run


def _asked_for(name: str) -> list[str]:
    """Return the workloads that a name on the command line means: one, or all of a group."""
    found = [workload for workload in WORKLOADS if workload == name or workload.startswith(f"{name}.")]
    if not found:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(WORKLOADS)}, server, stores, peers")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = f"of {', '.join(WORKLOADS)}; `server`, `stores` and `peers` mean all of theirs; none: all"
    parser.add_argument("names", nargs="*", type=_asked_for, metavar="NAME", help=known)
    parser.add_argument(
        "--only", nargs="+", type=_asked_for, default=[], metavar="NAME", help="the same as NAME"
    )
    parser.add_argument(
        "--quick", action="store_true", help="once and short: to see that it runs, not how fast"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    return parser.parse_args()


@dataclass(slots=True)
class Run:
    """What came out of the workloads."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[dict[str, str]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    not_here: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, options: Options) -> None:
        """Run a workload; print its lines as they come."""
        print(f"\n{name}: {WORKLOADS[name]}", flush=True)
        begun = time.monotonic()
        try:
            for found in _workload(name)(options):
                print(found, flush=True)
                if isinstance(found, Remark):
                    self.remarks.append({"workload": name, "text": found.text})
                    continue
                self.lines.append(_as_json(name, found))
                if found.verdict == "MISS":
                    self.missed.append(f"  {name}: {found.name}")
        except NotHereError as reason:
            self.not_here[name] = str(reason)
            print(f"  not measured here: {reason}", flush=True)
        except Exception as error:
            traceback.print_exc()
            self.failed[name] = repr(error)
            print(f"  {name} failed: {error}", flush=True)
        print(f"  ({time.monotonic() - begun:.1f} s, load average then {load_average()})", flush=True)


def _as_json(workload: str, line: Line) -> dict[str, Any]:
    return {
        "workload": workload,
        "name": line.name,
        "value": line.value,
        "values": list(line.values),
        "judged": line.judged,
        "unit": line.unit,
        "target": str(line.target) if line.target else None,
        "verdict": line.verdict,
        "note": line.note,
    }


def main() -> int:
    """Run what was asked for; 1 if a workload could not be measured, 0 even when targets are missed."""
    arguments = _arguments()
    options = Options(quick=arguments.quick)
    known = conditions()
    for what, value in known.items():
        print(f"{what + ':':<14} {value}")
    thorough = (
        "once and short, do not quote" if options.quick else f"medians of {options.repeats} or more repeats"
    )
    print(f"{'measured:':<14} {thorough}; (lowest .. highest) of the repeats; MISS: not at its target")
    done = Run()
    asked = [name for names in [*arguments.names, *arguments.only] for name in names]
    for name in asked or WORKLOADS:
        done.measure(name, options)
    judged = sum(1 for line in done.lines if line["verdict"])
    reached = judged - len(done.missed)
    print(f"\n{reached} of {judged} at their target, {len(done.missed)} missed, {len(done.failed)} failed")
    for text in done.missed:
        print(text)
    for name, reason in done.not_here.items():
        print(f"  not measured here: {name}: {reason}")
    if arguments.json:
        known["load average at the end"] = load_average()
        document = {"conditions": known, "quick": options.quick, **asdict(done)}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if done.failed else 0


def _end(_signal: int, _frame: object) -> None:
    """Leave as after Ctrl-C, so that what was started is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
