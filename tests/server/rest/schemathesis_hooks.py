"""What schemathesis is told beside the document."""

from typing import Any

import schemathesis

WAIT_SECONDS = 0.05

# Of these the document cannot say when they are refused: it depends on the limits.
REASONS = {"never_fits", "no_slot_decay"}


@schemathesis.hook
def before_call(context: object, case: Any, kwargs: object) -> None:  # noqa: ANN401 - as schemathesis has it
    """Have it wait, but not long."""
    for part in (case.body, case.query):
        if isinstance(part, dict) and "wait_seconds" in part:
            try:
                seconds = float(part["wait_seconds"])
            except (TypeError, ValueError):
                continue
            if WAIT_SECONDS < seconds <= 60 and not isinstance(part["wait_seconds"], str | bool):
                part["wait_seconds"] = WAIT_SECONDS


@schemathesis.check
def refused_for_a_reason(context: object, response: Any, case: Any) -> None:  # noqa: ANN401 - as schemathesis has it
    """Let what is valid be refused only for what the limits are."""
    if response.status_code != 422 or not case.meta or not case.meta.generation.mode.is_positive:
        return
    if case.operation.definition.raw.get("operationId") in {"acquireLease", "spend"}:
        problem = response.json()
        named_twice = "named twice" in problem["detail"]
        assert problem["code"] in REASONS or named_twice, response.text
