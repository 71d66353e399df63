"""The REST routes as one ASGI application."""

from litestar import Litestar, get
from litestar.types import ASGIApp

from ebbgate.server.decider import Decider
from ebbgate.server.hearing import Hearing


@get("/livez", sync_to_thread=False)
def livez() -> dict[str, str]:
    """Say that the server runs."""
    return {"status": "alive"}


def rest_app(decider: Decider, hearing: Hearing) -> ASGIApp:
    """Return the application that serves every route but the stream."""
    del decider, hearing
    return Litestar([livez], openapi_config=None, logging_config=None)
