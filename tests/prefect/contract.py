"""Requests to the limits of a Prefect server, in order, and what one of Prefect's own answers to them.

Its answers are kept in `contract.json`. They were recorded from the server that `requirements/newest.txt` names:
`python -m tests.prefect.contract http://127.0.0.1:4200` records them anew, against an empty one.
"""

import http.client
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEPT = Path(__file__).with_suffix(".json")

LIMITS = "/api/v2/concurrency_limits"
NOBODY = "00000000-0000-4000-8000-000000000000"
VARIES = {"id", "created", "updated", "lease_id", "token", "expiration"}


@dataclass(frozen=True, slots=True)
class Case:
    """One request; `ours` tells why we answer otherwise, if we mean to."""

    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    ours: str = ""

    def __str__(self) -> str:
        """Show it as it is sent."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body)
        return f"{self.method} {self.path} {body!s:.300} {dict(self.headers)}"


@dataclass(frozen=True, slots=True)
class Said:
    """What was answered."""

    status: int
    body: Any
    headers: dict[str, str]

    def comparable(self) -> list[Any]:
        """Return what must be alike: not ids and instants."""
        return [self.status, _without_what_varies(self.body)]


def _without_what_varies(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON with `*` for ids, instants, and what Python's `json` says, which differs between its versions."""
    if isinstance(value, dict):
        if value.get("type") == "json_invalid":
            where, at = value["loc"]
            assert isinstance(at, int), value
            assert isinstance(value["ctx"]["error"], str), value
            value = {**value, "loc": [where, "*"], "ctx": {**value["ctx"], "error": "*"}}
        return {
            key: "*" if key in VARIES else _without_what_varies(inner)
            for key, inner in value.items()
            if key != "url"
        }
    return [_without_what_varies(inner) for inner in value] if isinstance(value, list) else value


def ask(url: str, case: Case, timeout: float = 60) -> Said:
    """Send one request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    body = case.body if isinstance(case.body, str | bytes | None) else json.dumps(case.body)
    connection.request(case.method, case.path, body, dict(case.headers))
    answer = connection.getresponse()
    text = answer.read().decode()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    try:
        return Said(answer.status, json.loads(text), headers)
    except ValueError:
        return Said(answer.status, text, headers)


def _creating() -> list[Case]:
    path = f"{LIMITS}/"
    good = {"name": "x", "limit": 1}
    bodies: list[Any] = [
        {"name": "a", "limit": 2}, {"name": "a", "limit": 2},
        {"name": "r", "limit": 5, "slot_decay_per_second": 1.5, "active": False},
        {}, {"name": "x"}, {"name": "x", "limit": -1}, {"name": "x", "limit": "five"}, {"name": "x", "limit": 1.5},
        {"name": "x", "limit": None}, {"name": "x", "limit": []}, {"name": "a/b", "limit": 1},
        {"name": "", "limit": 1}, {"name": 5, "limit": 1}, {**good, "z": 2}, {**good, "slot_decay_per_second": -1},
        {**good, "slot_decay_per_second": "q"}, {**good, "slot_decay_per_second": None}, {**good, "active": "maybe"},
        {**good, "active": None}, {**good, "active": 7}, {**good, "active": 5.5},
        {**good, "active": []}, [1], "", "{bad", '{"a":1,}', "5",
        {**good, "active_slots": -1, "denied_slots": -2, "q": 1},
        {"name": "lax", "limit": "7", "active": "yes", "slot_decay_per_second": "0.5"},
        {"name": "lax2", "limit": 7.0, "active": 0},
    ]  # fmt: skip
    unread = "JSON that cannot be read has one status, 422, and says so as other invalid JSON does"
    live = "which slots are occupied is derived from leases, and never set"
    return [
        *[Case("POST", path, body) for body in bodies],
        Case("POST", path, {"name": "counted", "limit": 5, "active_slots": 3}, ours=live),
        Case("DELETE", f"{LIMITS}/counted"),
        Case(
            "POST",
            path,
            {"name": "denied", "limit": 5, "denied_slots": 3},
            ours="nothing is derived from them",
        ),
        Case("DELETE", f"{LIMITS}/denied"),
        Case("POST", path, b'{"name": "\xff", "limit": 1}', ours=unread),
        Case("POST", path, '{"name": "digits", "limit": ' + "1" * 4_301 + "}", ours=unread),
        Case("POST", LIMITS, {"name": "b", "limit": 1}),
    ]


def _reading() -> list[Case]:
    return [
        Case("GET", f"{LIMITS}/a"), Case("GET", f"{LIMITS}/nope"), Case("GET", f"{LIMITS}/{NOBODY}"),
        Case("GET", f"{LIMITS}/"), Case("PUT", f"{LIMITS}/a", {}), Case("GET", f"{LIMITS}/filter"),
        Case("GET", f"{LIMITS}/increment"), Case("GET", f"{LIMITS}/a/"), Case("GET", "/api/nothing"),
        Case("DELETE", f"{LIMITS}/filter"),
        *[
            Case("POST", f"{LIMITS}/filter", body)
            for body in (
                None, {}, {"limit": 1}, {"limit": 1, "offset": 1}, {"limit": -1}, {"limit": 201}, {"offset": -1},
                {"limit": "x"}, {"z": 1}, {"limit": None}, {"limit": 0}, {"offset": None}, [1],
            )
        ],
    ]  # fmt: skip


def _changing() -> list[Case]:
    return [
        *[
            Case("PATCH", f"{LIMITS}/a", body)
            for body in (
                {}, {"limit": 3}, {"name": "r"}, {"limit": -1}, {"limit": None}, {"active": None}, {"q": 1},
                {"name": "a&b"}, {"active_slots": 0}, {"active": "x"}, None, [1],
            )
        ],
        Case("PATCH", f"{LIMITS}/nope", {"limit": 1}),
        Case("PATCH", f"{LIMITS}/nope", {"limit": -1}),
        Case("DELETE", f"{LIMITS}/nope"),
    ]  # fmt: skip


def _taking() -> list[Case]:
    values: tuple[object, ...] = ("banana", "yes", 5, 0.5, 1.0, [], None)
    bodies: list[Any] = [
        None, {}, {"slots": 1}, {"names": ["a"]}, {"slots": 0, "names": ["a"]}, {"slots": -1, "names": ["a"]},
        {"slots": "x", "names": ["a"]}, {"slots": 1, "names": "a"}, {"slots": 1, "names": [1]},
        {"slots": 1, "names": []}, {"slots": 1, "names": ["nope"]}, {"slots": 1, "names": ["a"], "mode": "q"},
        {"slots": 9, "names": ["a"]}, {"slots": 1, "names": ["a"], "mode": "rate_limit"},
        {"slots": 1, "names": ["a", "a", "nope"], "mode": "rate_limit"}, [1], {"slots": 1, "names": ["r"]},
        {"slots": 1, "names": ["nope"], "mode": "rate_limit", "z": 1},
        {"slots": 1, "names": ["a"], "create_if_missing": True}, {"slots": 9, "names": ["r"]},
        {"slots": 9, "names": ["a"], "mode": "rate_limit"}, {"slots": 9, "names": ["r"], "mode": "rate_limit"},
        *[{"slots": 1, "names": ["nope"], "create_if_missing": value} for value in values],
        *[
            {"slots": slots, "names": ["nope"]}
            for slots in ("_1", "1__0", "1_0", "1.", "1.0", " +1 ", "\N{ARABIC-INDIC DIGIT THREE}", True, False)
        ],
    ]  # fmt: skip
    cases = []
    for route in ("increment", "increment-with-lease", "decrement"):
        for body in bodies:
            if route == "decrement" and isinstance(body, dict) and "mode" in body:
                continue
            cases.append(Case("POST", f"{LIMITS}/{route}", body))
    leased: tuple[dict[str, Any], ...] = (
        {"lease_duration": 59}, {"lease_duration": 86401}, {"lease_duration": "x"}, {"lease_duration": None},
        {"lease_duration": "nan"}, {"lease_duration": "inf"}, {"lease_duration": "-inf"},
        {"lease_duration": "\N{ARABIC-INDIC DIGIT SIX}0"},
        {"holder": {"type": "x", "id": NOBODY}}, {"holder": {"type": "flow_run", "id": "z"}},
        {"holder": {"type": "flow_run", "id": NOBODY, "q": 1}}, {"holder": 5}, {"holder": {}}, {"holder": None},
        {"holder": {"type": "flow_run", "id": NOBODY}},
    )  # fmt: skip
    path = f"{LIMITS}/increment-with-lease"
    return [*cases, *[Case("POST", path, {"slots": 1, "names": ["lax2"], **more}) for more in leased]]


def _keeping() -> list[Case]:
    why = "a client is told why its lease is gone"
    renew = f"{LIMITS}/leases/{NOBODY}/renew"
    give = {"slots": 1, "names": ["b"]}
    return [
        *[Case("POST", renew, body, ours=why) for body in (None, {}, {"lease_duration": 60})],
        *[Case("POST", renew, body) for body in ({"lease_duration": 1}, [1])],
        *[
            Case("POST", f"{LIMITS}/decrement-with-lease", body)
            for body in (
                None, {}, {"lease_id": "x"}, {"lease_id": 5}, {"lease_id": NOBODY}, {"lease_id": None}, [1],
                {"lease_id": "1-2"}, {"lease_id": NOBODY[:-1]}, {"lease_id": "12"},
            )
        ],
        Case("POST", f"{LIMITS}/leases/x/renew", {}),
        Case("POST", f"{LIMITS}/leases/{NOBODY[:-1]}/renew", {}),
        Case("GET", renew),
        *[
            Case("POST", f"{LIMITS}/decrement", {**give, "occupancy_seconds": seconds})
            for seconds in (0, None, "x", -1, 0.5)
        ],
    ]  # fmt: skip


def _asking_about() -> list[Case]:
    token = "every client gets a token, so that a queue can be told from another"
    return [
        *[
            Case("GET", f"{LIMITS}/b", None, (("X-PREFECT-API-VERSION", version),))
            for version in ("0.8.4", "0.7.9", "x", "1.0", "0.8.0")
        ],
        *[Case("GET", f"/api/{path}") for path in ("health", "ready", "hello", "version", "health/")],
        Case("GET", "/api/admin/version", ours="a higher one, which suits every client of its major version"),
        Case("GET", "/api/csrf-token?client=x", ours=token),
        Case("GET", "/api/csrf-token"),
        Case("DELETE", f"{LIMITS}/a"),
        Case("DELETE", f"{LIMITS}/a"),
    ]


CASES = [*_creating(), *_reading(), *_changing(), *_taking(), *_keeping(), *_asking_about()]


def main() -> None:
    """Record what a server answers."""
    url = sys.argv[1]
    answers = [[str(case), *ask(url, case).comparable()] for case in CASES]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in answers)
    KEPT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
