"""The OpenAPI document says what is so."""

import json
import re
import sys
import unicodedata
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from ebbgate.cli import limits_file
from ebbgate.core.decay import RATE_PATTERN, check_decay, parse_rate
from ebbgate.core.limits import check_name
from ebbgate.errors import InvalidLimit
from ebbgate.server import refusals
from ebbgate.server.rest.problems import STATUSES
from ebbgate.server.rest.requests import NAME_SCHEMA
from tests.server.rest.serving import Served

METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture
def document(rest: Served) -> dict[str, Any]:
    """Return the document that a server gives."""
    answer = rest.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_names_every_route_that_is_promised(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {path: set(methods) for path, methods in document["paths"].items()} == {
        "/livez": {"get"},
        "/readyz": {"get"},
        "/openapi.json": {"get"},
        "/v1/limits": {"get", "post"},
        "/v1/limits/{name_or_id}": {"get", "put", "patch", "delete"},
        "/v1/leases": {"get", "post"},
        "/v1/leases/renew": {"post"},
        "/v1/leases/{id}": {"get", "delete"},
        "/v1/leases/{id}/revoke": {"post"},
        "/v1/spends": {"post"},
        "/v1/events": {"get"},
        "/v1/limits/{name_or_id}/cool-down": {"post"},
        "/v1/limits/{name_or_id}/history": {"get"},
        "/v1/history": {"get"},
    }


def test_every_operation_has_its_own_id_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for link in document["components"]["links"].values():
        assert link["operationId"] in ids

    def check(part: object) -> None:
        if isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str):
                where: Any = document
                for name in reference.removeprefix("#/").split("/"):
                    where = where[name]
            for entry in part.values():
                check(entry)
        elif isinstance(part, list):
            for entry in part:
                check(entry)

    check(document)


def test_every_example_is_as_its_schema_says(document: dict[str, Any]) -> None:
    shown = 0

    def check(content: dict[str, Any]) -> None:
        nonlocal shown
        if "example" in content:
            schema = {**content["schema"], "components": document["components"]}
            jsonschema_rs.validate(schema, content["example"], validate_formats=True)
            shown += 1

    for _, _, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            check(content)
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                check(content)
        for parameter in operation.get("parameters", ()):
            check(parameter)
    assert shown > 15


def test_every_code_of_a_problem_is_named(document: dict[str, Any]) -> None:
    front = {refusal.code for refusal in refusals.ANYWHERE}
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == sorted(
        {*STATUSES, *front}
    )


def test_what_is_refused_before_any_route_is_a_problem_of_every_operation(
    document: dict[str, Any], rest: Served
) -> None:
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    for refusal in refusals.ANYWHERE:
        jsonschema_rs.validate(schema, json.loads(refusal.body))
        told = document["components"]["responses"][f"Problem{refusal.status}"]["description"]
        assert refusal.code in told
        for _, _, operation in operations(document):
            assert str(refusal.status) in operation["responses"]
    for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
        answer = rest.client.get("/v1/limits", headers=headers)
        assert answer.status_code == status
        jsonschema_rs.validate(schema, answer.json())


def test_the_least_lease_duration_is_that_of_this_server(document: dict[str, Any]) -> None:
    duration = document["components"]["schemas"]["AcquireBody"]["properties"]["lease_duration_seconds"]
    assert (duration["minimum"], duration["maximum"]) == (0.2, 86_400)


def test_the_pattern_of_names_allows_the_characters_that_names_may_have() -> None:
    pattern = re.compile(str(NAME_SCHEMA["pattern"]))
    strange = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zl", "Zp", "Zs", "Po", "Sm", "Mn"}
    ]
    assert len(strange) > 2_000
    for character in strange:
        name = f"x{character}x"
        try:
            check_name(name)
        except InvalidLimit:
            assert not pattern.search(name), ascii(name)
        else:
            assert pattern.search(name), ascii(name)


def rate_patterns(document: dict[str, Any]) -> set[str]:
    """Return the patterns of all rates in the document, and in the schema of limits as code."""
    found: set[str] = set()

    def look(part: object) -> None:
        if isinstance(part, dict):
            if "60/hour" in part.get("examples", ()):
                found.add(part["pattern"])
            for entry in part.values():
                look(entry)
        elif isinstance(part, list):
            for entry in part:
                look(entry)

    look(document["components"])
    look(msgspec.json.schema(limits_file.File))
    return found


def test_every_schema_has_the_same_pattern_of_rates(document: dict[str, Any]) -> None:
    assert rate_patterns(document) == {RATE_PATTERN}


def test_a_rate_that_matches_the_pattern_is_accepted() -> None:
    pattern = re.compile(RATE_PATTERN)
    for code in range(sys.maxunicode + 1):
        for text in (f"{chr(code)}5/s", f"5{chr(code)}/s", f"5/{chr(code)}s", f"5/s{chr(code)}"):
            if pattern.search(text):
                check_decay(parse_rate(text))
    for number in ("1", "999999.99999999999999999999", "0.0001", "0.9"):
        for period in ("", "1", "9999"):
            for unit in ("s", "min", "hours", "days"):
                text = f"{number} per {period} {unit}"
                if pattern.search(text):
                    check_decay(parse_rate(text))


def test_the_pattern_of_rates_allows_the_rates_that_people_write() -> None:
    for text in (
        "5/s", "60/hour", "1000/day", "900/15min", "0.5/s", "1.5 per second", "100000/h", "30/30d", "0.001/day",
    ):  # fmt: skip
        check_decay(parse_rate(text))
        assert re.search(RATE_PATTERN, text), text


@pytest.mark.parametrize("control", ["\x00", "\x0b", "\x1c", "\x85", "\xa0", "\u2028"])
def test_a_rate_with_a_control_character_is_refused_by_the_pattern_and_by_the_server(
    rest: Served, control: str
) -> None:
    for text in (f"{control}5/s", f"5{control}/s", f"5/s{control}"):
        assert not re.search(RATE_PATTERN, text), ascii(text)
        if control != "\x0b":
            answer = rest.client.post("/v1/limits", json={"name": "rated", "limit": 1, "rate": text})
            assert answer.status_code == 422, ascii(text)
