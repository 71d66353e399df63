"""Measure named workloads; print each number beside its target."""

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench.report import Line, Options, Workload, conditions, load_average

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
}


def _workload(name: str) -> Workload:
    run: Workload = importlib.import_module(f"bench.{name}").run
    return run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument(
        "--quick", action="store_true", help="once and short: to see that it runs, not how fast"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    return parser.parse_args()


def _measure(name: str, options: Options) -> tuple[list[Line], str]:
    """Print the lines of a workload as they come; return them, and why it failed, if it did."""
    lines: list[Line] = []
    print(f"\n{name}: {WORKLOADS[name]}", flush=True)
    begun = time.monotonic()
    try:
        for line in _workload(name)(options):
            lines.append(line)
            print(line, flush=True)
    except Exception as error:
        traceback.print_exc()
        print(f"  {name} failed: {error}", flush=True)
        return lines, repr(error)
    print(f"  ({time.monotonic() - begun:.1f} s, load average then {load_average()})", flush=True)
    return lines, ""


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
    written: list[dict[str, Any]] = []
    missed: list[str] = []
    failed: dict[str, str] = {}
    for name in arguments.only or WORKLOADS:
        lines, failure = _measure(name, options)
        if failure:
            failed[name] = failure
        written += [_as_json(name, line) for line in lines]
        missed += [f"  {name}: {line.name}" for line in lines if line.verdict == "MISS"]
    judged = sum(1 for line in written if line["verdict"])
    reached = judged - len(missed)
    print(f"\n{reached} of {judged} at their target, {len(missed)} missed, {len(failed)} not measured")
    for text in missed:
        print(text)
    if arguments.json:
        known["load average at the end"] = load_average()
        document = {"conditions": known, "quick": options.quick, "lines": written, "failed": failed}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
