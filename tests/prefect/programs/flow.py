"""A flow whose tasks hold slots and pass a rate limit, run by Prefect's own engine."""

import json
import threading
import time
import warnings
from typing import Any

warnings.simplefilter("ignore")

from prefect import flow, task  # type: ignore[import-not-found]  # noqa: E402
from prefect.concurrency.sync import concurrency, rate_limit  # type: ignore[import-not-found]  # noqa: E402


@task  # type: ignore[untyped-decorator, unused-ignore]
def piece(number: int) -> dict[str, float]:
    """Do some work with a slot."""
    rate_limit("api")
    with concurrency("database", strict=True):
        begun = time.monotonic()
        threading.Event().wait(0.1)
        return {"number": number, "begun": begun, "ended": time.monotonic()}


@flow(name="behind-a-proxy")  # type: ignore[untyped-decorator, unused-ignore]
def pieces() -> list[Any]:
    """Do all of it."""
    return [future.result() for future in [piece.submit(number) for number in range(6)]]


if __name__ == "__main__":
    for done in pieces():
        print(json.dumps(done), flush=True)
