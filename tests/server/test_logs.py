"""A defect that is provoked again and again does not fill the log with its traceback."""

import json
import logging
from collections.abc import Callable

import pytest

from ebbgate.server.logs import JsonFormatter, TerminalFormatter


def fail(text: str) -> None:
    raise ValueError(text)


def fail_elsewhere(text: str) -> None:
    raise ValueError(text)


def record_of(
    at: float, text: str = "Bearer secret", call: Callable[[str], None] = fail
) -> logging.LogRecord:
    with pytest.raises(ValueError, match=text) as raised:
        call(text)
    cause = (raised.type, raised.value, raised.tb)
    record = logging.LogRecord("x", logging.ERROR, "", 1, "a request failed", (), cause)
    record.created = at
    return record


def test_the_traceback_of_one_defect_is_logged_once_a_minute_and_the_others_are_counted() -> None:
    formatter = JsonFormatter()
    entries = [json.loads(formatter.format(record_of(1000.0 + tenth / 10))) for tenth in range(1201)]
    assert [number for number, entry in enumerate(entries) if "traceback" in entry] == [0, 600, 1200]
    assert {entry["error"] for entry in entries} == {"ValueError: Bearer ***"}
    counts = [entry["tracebacks_omitted"] for entry in entries if "tracebacks_omitted" in entry]
    assert counts == [599, 599]


def test_another_defect_is_logged_with_its_own_traceback() -> None:
    formatter = JsonFormatter()
    for call in (fail, fail_elsewhere):
        entry = json.loads(formatter.format(record_of(1000.0, call=call)))
        assert call.__name__ in entry["traceback"]
    assert "traceback" not in json.loads(formatter.format(record_of(1001.0)))


def test_a_clock_that_is_set_back_hides_no_traceback() -> None:
    formatter = JsonFormatter()
    formatter.format(record_of(1000.0))
    assert "traceback" in json.loads(formatter.format(record_of(10.0)))


def test_a_log_for_people_names_the_error_where_the_traceback_is_omitted() -> None:
    formatter = TerminalFormatter()
    first, second = formatter.format(record_of(1000.0)), formatter.format(record_of(1001.0))
    assert first.count("\n") > 2
    assert "Traceback" in first
    assert "secret" not in first
    assert "\n" not in second
    assert "error=ValueError: Bearer ***" in second


@pytest.mark.parametrize("formatter", [JsonFormatter(), TerminalFormatter()])
def test_a_record_without_an_error_has_no_field_about_one(formatter: logging.Formatter) -> None:
    line = formatter.format(logging.LogRecord("x", logging.ERROR, "", 1, "said", (), (None, None, None)))
    assert "error=" not in line
    assert "traceback" not in line
