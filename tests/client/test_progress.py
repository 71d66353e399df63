"""What is said to somebody who waits long: one rule, in words."""

from datetime import UTC, datetime, timedelta

import pytest

from ebbgate.client.progress import Situation, next_moment_us, sentence
from ebbgate.core.model import SECOND
from ebbgate.wire.shapes import HolderInfo, LeaseInfo, LimitInfo, SlotsInfo

ASKED = datetime(2026, 1, 1, tzinfo=UTC)


def limit(**more: object) -> LimitInfo:
    fields = {
        "id": "l", "name": "db", "limit": 2, "slot_decay_per_second": 0.0, "active": True, "description": "",
        "active_slots": 2, "held_slots": 2, "spent_slots": 0.0, "waiting": 1, "created": ASKED, "updated": ASKED,
    }  # fmt: skip
    return LimitInfo(**{**fields, **more})  # type: ignore[arg-type]  # as the fields have them


def lease(**more: object) -> LeaseInfo:
    fields = {
        "id": "w", "state": "waiting", "kind": "hold", "limits": [SlotsInfo("db", 1)],
        "holder": HolderInfo(session="s", host="mars", pid=7, labels={}), "priority": 0, "arrival": 1,
        "asked": ASKED, "position": 3, "lacks": ["db"], "blocked_by": ["h"],
    }  # fmt: skip
    return LeaseInfo(**{**fields, **more})  # type: ignore[arg-type]  # as the fields have them


def holder(host: str = "venus", pid: int = 12, **labels: str) -> LeaseInfo:
    return lease(state="held", holder=HolderInfo(session="s", host=host, pid=pid, labels=labels))


SEE = "; see: ebbgate limit inspect 'db'"


@pytest.mark.parametrize(
    ("situation", "said"),
    [
        (
            Situation(("db",), lease(), holder(job="report"), limit()),
            "waiting for 'db' for 1min 5s, no. 3 in line: held by venus:12 (job=report)" + SEE,
        ),
        (
            Situation(
                ("db",), lease(position=1, blocked_by=["h", "i", "j"], estimate_seconds=7.2), holder(), limit()
            ),
            "waiting for 'db' for 1min 5s, next in line: held by venus:12 and 2 others; about 8s more" + SEE,
        ),
        (
            Situation(("db",), lease(blocked_by=["h", "i"]), holder(pid=0), limit()),
            "waiting for 'db' for 1min 5s, no. 3 in line: held by somebody and 1 other" + SEE,
        ),
        (
            Situation(
                ("db",), lease(blocked_by=[], position=1, estimate_seconds=3.0), None,
                limit(limit=60, slot_decay_per_second=1 / 60, spent_slots=60.0),
            ),
            "waiting for 'db' for 1min 5s, next in line: all slots are spent, 60/hour come back; about 3s more" + SEE,
        ),
        (
            Situation(
                ("db",), lease(blocked_by=[], position=1), None,
                limit(cool_down_until=ASKED + timedelta(seconds=75), cool_down_why="429 from the vendor"),
            ),
            "waiting for 'db' for 1min 5s, next in line: it cools down for 10s (429 from the vendor)" + SEE,
        ),
        (
            Situation(("db",), lease(blocked_by=[]), None, limit(limit=0)),
            "waiting for 'db' for 1min 5s, no. 3 in line: it is closed, its limit is 0" + SEE,
        ),
        (
            Situation(("api", "db"), lease(), holder(), limit()),
            "waiting for 'api' and 'db' for 1min 5s, no. 3 in line: 'db' held by venus:12" + SEE,
        ),
        (
            Situation(("db",), lease(blocked_by=[]), None, limit(held_slots=0)),
            "waiting for 'db' for 1min 5s, no. 3 in line: kept for who came before" + SEE,
        ),
        (
            Situation(("db",), lease(lacks=[], blocked_by=[], position=1), None, None),
            "waiting for 'db' for 1min 5s, next in line: its turn comes" + SEE,
        ),
        (
            Situation(("db",)),
            "waiting for 'db' for 1min 5s: nobody answers at the moment; the place in line is kept",
        ),
    ],
)  # fmt: skip
def test_each_reason_has_its_words(situation: Situation, said: str) -> None:
    assert sentence(situation, 65 * SECOND) == said


def test_what_others_wrote_cannot_play_with_the_terminal_and_is_not_long() -> None:
    bad = holder(host="a\x1b[2J", pid=1, **{f"key{i}": "\n" + "x" * 500 for i in range(20)})
    said = sentence(Situation(("d\tb",), lease(), bad, limit(name="d\nb")), 2 * SECOND)
    assert said.isprintable()
    assert len(said) < 300


def test_it_is_told_after_2_seconds_10_seconds_a_minute_and_then_every_ten_minutes() -> None:
    moments, waited_us = [], 0
    for _ in range(6):
        waited_us = next_moment_us(waited_us)
        moments.append(waited_us // SECOND)
    assert moments == [2, 10, 60, 600, 1200, 1800]
