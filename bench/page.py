"""Write a run down for readers: `python -m bench --json FILE`, then `python -m bench.page FILE >PAGE`."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.__main__ import WORKLOADS
from bench.report import digits

HEAD = """\
# Benchmarks

The last full run of `make bench`, written down by `bench/page.py`. Each number is the median of its repeats, with the
lowest and the highest beside it; a target is what the project wants of this 2-core machine. The machine is shared:
ratios within one run say more than values, and a number says nothing about another disk.

A *pair* is one acquire and one release. A *hand-over* runs from the holder's call to release until the next waiter's
acquire, in another process, returns. FULL: every answer leaves after its commit is on the disk (a server's default);
NORMAL: after it is with the operating system (embedded use). Redis keeps nothing on a disk here.

To measure a part: `python -m bench server.stream`, or `server`, or `peers`; `make bench ARGS="server.rest"` is the
same. Peers are installed in environments of their own, in the folder that `BENCH_CACHE` names.
"""


def _rows(document: Mapping[str, Any]) -> Iterator[str]:
    yield HEAD
    yield "| condition | |\n|---|---|"
    for what, value in document["conditions"].items():
        yield f"| {what} | {value} |"
    for name, what in WORKLOADS.items():
        lines = [line for line in document["lines"] if line["workload"] == name]
        reason = document["not_here"].get(name) or document["failed"].get(name)
        if not lines and not reason:
            continue
        yield f"\n## `{name}`\n\n{what[0].upper()}{what[1:]}.\n"
        remarks = [remark["text"] for remark in document["remarks"] if remark["workload"] == name]
        if reason:
            remarks.append(f"Not measured: {reason}")
        yield from (f"- {remark}" for remark in remarks)
        if remarks and lines:
            yield ""
        if lines:
            yield "| what | measured | lowest to highest | target | |\n|---|--:|--:|--:|---|"
            yield from map(_row, lines)


def _row(line: Mapping[str, Any]) -> str:
    values = line["values"]
    spread = f"{digits(min(values))} to {digits(max(values))}" if len(values) > 1 else ""
    what = line["name"].replace("|", "\\|")
    verdict = {"ok": "ok", "MISS": "**missed**"}.get(line["verdict"], "")
    return (
        f"| {what} | {digits(line['value'])} {line['unit']} | {spread} | {line['target'] or ''} | {verdict} |"
    )


if __name__ == "__main__":
    print("\n".join(_rows(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
