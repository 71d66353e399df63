"""What Prefect's clients ask besides limits: who is there, which version, and for a token."""

import os
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qs
from uuid import uuid4

from ebbgate.server.prefect.answers import Answer, AnsweredError, answer, complaint, detail, invalid
from ebbgate.server.prefect.request import Request

SERVER_VERSION: Final = "3.999.0"
"""A client refuses another major version and warns of a lower one; a higher one suits all of a major."""

API_VERSION: Final = "0.8.4"
_LEAST_VERSION: Final = "0.8.0"
_LEAST: Final = (0, 8, 0)

TOKEN_LIFE: Final = timedelta(days=1)

ready: Final = answer(200, {"message": "OK"})
not_ready: Final = answer(503, {"message": "Database is not available"})


def check_version(request: Request) -> None:
    """Go on if the client speaks a version of the API that is served, or does not say which.

    Raises:
        AnsweredError: it does not.
    """
    said = request.header(b"x-prefect-api-version")
    if not said or said == API_VERSION:
        return
    try:
        major, minor, patch = (int(part) for part in said.split("."))
    except ValueError:
        text = (
            "Invalid X-PREFECT-API-VERSION header format."
            f"Expected header in format 'x.y.z' but received {said}"
        )
        raise AnsweredError(detail(400, text)) from None
    if (major, minor, patch) < _LEAST:
        text = f"The request specified API version {said} but this server requires version {_LEAST_VERSION} or higher."
        raise AnsweredError(detail(400, text))


async def csrf_token(request: Request) -> Answer:
    """Give a token, so that a client names itself in every request.

    Nobody checks it: who may ask is decided before, by origin and key.
    """
    said = parse_qs(request.scope["query_string"].decode("latin-1")).get("client")
    if not said:
        return invalid([complaint("missing", ("query", "client"), "Field required", None)], None)
    now = datetime.now(UTC)
    token = {
        "id": str(uuid4()),
        "created": now,
        "updated": now,
        "token": os.urandom(32).hex(),
        "client": said[0],
        "expiration": now + TOKEN_LIFE,
    }
    return answer(200, token)


async def admin_version(_request: Request) -> Answer:
    """Tell the version of the server."""
    return answer(200, SERVER_VERSION)


async def admin_settings(_request: Request) -> Answer:
    """Tell that nothing is sent to anybody."""
    return answer(200, {"server": {"analytics_enabled": False}})


async def version(_request: Request) -> Answer:
    """Tell the version of the API."""
    return answer(200, API_VERSION)


async def health(_request: Request) -> Answer:
    """Tell that the server runs."""
    return answer(200, True)


async def hello(_request: Request) -> Answer:
    """Wave back."""
    return answer(200, "👋")
