"""Dashboard, alerts and the page about them speak of what a real server really tells."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ebbgate import Client
from ebbgate.errors import AcquireTimeout, NoSlotFree
from tests.cli.support import wait_until
from tests.serving import ServedInThread, served

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "ebbgate.json"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning.yaml"
ALERTS = ROOT / "deploy" / "prometheus" / "ebbgate-alerts.yml"
PAGE = ROOT / "docs" / "how-to" / "monitor.md"

# What Prometheus itself adds to what it scrapes.
OF_PROMETHEUS = {"job", "instance"}
WORDS = {"by", "and", "or", "unless", "sum", "min", "max", "rate", "histogram_quantile", "label_values", "up"}

Seen = dict[str, set[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[ServedInThread]:
    with served("memory://", recovery_grace_seconds=0.0, lease_duration_min_seconds=0.2) as here:
        yield here


def post(server: ServedInThread, path: str, body: object) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def samples(server: ServedInThread) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a server tells after everything that it counts has happened."""
    with Client(server.url) as client:
        client.create_limit("a", 1)
        client.create_limit("b", 2, slot_decay_per_second=1000)
        client.rate_limit("b")
        with client.concurrency("a"):
            with pytest.raises(NoSlotFree), client.concurrency("a", max_retries=0):
                pass
            with (
                pytest.raises(AcquireTimeout),
                client.concurrency("a", timeout_seconds=0.05, suppress_warnings=True),
            ):
                pass
        post(server, "/v1/leases", {"limits": [{"name": "a"}], "lease_duration_seconds": 0.3})
        with client.concurrency("a", suppress_warnings=True):  # it waited until the one above had expired
            (held,) = client.list_leases("a", "held")
            client.revoke_lease(held.id)
        wait_until(lambda: ("a", "revoked") in ends(server), "the end is never counted")
    return scraped(server)


def scraped(server: ServedInThread) -> dict[str, list[tuple[dict[str, str], float]]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def ends(server: ServedInThread) -> dict[tuple[str, str], float]:
    told = scraped(server).get("ebbgate_ends_total", [])
    return {(labels["limit"], labels["why"]): value for labels, value in told}


def expressions() -> list[tuple[str, str]]:
    """Return every query of dashboard and alerts, and where it stands."""
    yaml = pytest.importorskip("yaml")
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    found += [
        (one["name"], one["definition"]) for one in dashboard["templating"]["list"] if "definition" in one
    ]
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return found + [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def used(expression: str) -> Seen:
    """Return the metrics of a query, each with the labels that it is asked for."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    found: Seen = {}
    for name, selector in re.findall(r"\b(ebbgate_\w+)(\{[^}]*\})?", bare):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
    for grouped in re.findall(r"\bby \(([^)]*)\)", bare):
        for labels in found.values():
            labels.update(label.strip() for label in grouped.split(","))
    return found


def test_every_metric_and_label_that_is_asked_for_is_told_by_a_server(samples: dict[str, Any]) -> None:
    missing = []
    asked = expressions()
    assert len(asked) > 20
    for place, expression in asked:
        for metric, labels in used(expression).items():
            told = {label for one, _ in samples.get(metric, []) for label in one}
            if metric not in samples or labels - told - OF_PROMETHEUS:
                missing.append(f"{place}: {metric} {sorted(labels - told)}")
    assert missing == []


def test_what_every_server_of_a_store_tells_alike_is_counted_once() -> None:
    """Three servers on one store tell of each grant three times; of durations, means and quantiles stay right."""
    alike = r"ebbgate_(limits|limit_\w+|sessions|grants_total|ends_total)\b"
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    bare = [re.sub(rf"\bmax ?(by \([^)]*\) )?\((rate\()?{alike}", "", expression) for expression in asked]
    assert len([one for one in zip(asked, bare, strict=True) if one[0] != one[1]]) > 10
    assert [expression for expression in bare if re.search(alike, expression)] == []


def test_values_of_labels_that_are_asked_for_are_told_or_known(samples: dict[str, Any]) -> None:
    known = {"expired", "lost_holder", "revoked", "released", "cancelled"}
    asked = {
        value
        for _, expression in expressions()
        for values in re.findall(r'why=~?"([^"]*)"', expression)
        for value in values.split("|")
    }
    assert asked <= known
    told = {labels["why"] for labels, _ in samples["ebbgate_ends_total"]}
    assert {"expired", "revoked", "released"} <= told <= known | {"refused"}


def test_expiries_revocations_and_refusals_are_each_counted_once(samples: dict[str, Any]) -> None:
    counted = {(one["limit"], one["why"]): value for one, value in samples["ebbgate_ends_total"]}
    assert counted["a", "expired"] == 1
    assert counted["a", "revoked"] == 1
    assert counted["a", "released"] == 1
    grants = {(one["limit"], one["kind"]): value for one, value in samples["ebbgate_grants_total"]}
    assert grants == {("a", "hold"): 3, ("b", "spend"): 1}
    assert {one["code"]: value for one, value in samples["ebbgate_refusals_total"]}["no_slot_free"] == 1


def test_who_waited_and_who_held_are_measured(samples: dict[str, Any]) -> None:
    waited = {one["limit"]: value for one, value in samples["ebbgate_wait_seconds_sum"]}
    held = {one["limit"]: value for one, value in samples["ebbgate_hold_seconds_sum"]}
    assert 0.1 < waited["a"] < 60, "one waited until a lease of 0.3 s had expired"
    assert waited["b"] == 0
    assert held["a"] >= 0.3
    assert "b" not in held, "nobody holds what is spent"


def test_the_dashboard_works_with_any_source_of_data() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert [one["name"] for one in dashboard["templating"]["list"]] == ["datasource", "instance", "limit"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    assert "__inputs" not in dashboard


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_alerts_say_what_to_do_and_the_page_has_each_of_them() -> None:
    yaml = pytest.importorskip("yaml")
    page = PAGE.read_text(encoding="utf-8")
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"| `{rule['alert']}` |" in page
    assert re.findall(r"^\| `(Ebbgate\w+)` \|", page, re.MULTILINE) == [rule["alert"] for rule in rules]


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("NOT TESTED WITH PROMTOOL: promtool is not installed; first: sudo make setup-system")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("what", "file"), [("check", ALERTS), ("test", ROOT / "tests/server/alerts.yml")])
def test_prometheus_accepts_the_rules_and_they_fire(what: str, file: Path) -> None:
    promtool(what, "rules", file)


def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    rules = [
        {
            "record": f"q{number}",
            "expr": re.sub(r"\$(instance|limit)\b", ".*", query).replace("$__rate_interval", "5m"),
        }
        for number, query in enumerate(asked)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", file)


def test_the_provisioning_file_has_what_grafana_wants() -> None:
    yaml = pytest.importorskip("yaml")
    parsed = yaml.safe_load(PROVISIONING.read_text())
    assert parsed["apiVersion"] == 1
    assert [one["type"] for one in parsed["providers"]] == ["file"]


def test_the_page_names_every_metric_and_no_other(samples: dict[str, Any]) -> None:
    named = set(re.findall(r"\bebbgate_\w+", PAGE.read_text(encoding="utf-8"))) - {"ebbgate_limit"}
    families = {
        re.sub(r"_(total|bucket|sum|count)$", "", name) for name in samples if not name.endswith("_created")
    }
    assert families - named == set()
    assert named - families == set()
