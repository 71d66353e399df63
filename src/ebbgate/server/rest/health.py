"""Whether the server lives, and whether it can grant."""

from typing import Final

from litestar.types import ASGIApp

from ebbgate.errors import ServerUnavailable, StoreUnavailable
from ebbgate.server.decider import Decider
from ebbgate.server.hearing import Hearing
from ebbgate.server.rest.answers import Status, json_answer
from ebbgate.server.rest.describing import Asked

_ALIVE: Final = json_answer(200, Status("alive"))
_READY: Final = json_answer(200, Status("ready"))


class HealthRoutes:
    """What those ask who start, stop and balance servers."""

    def __init__(self, decider: Decider, hearing: Hearing) -> None:
        """Look at one decider."""
        self._decider = decider
        self._hearing = hearing

    async def livez(self, request: Asked) -> ASGIApp:
        """Say that the event loop runs."""
        del request
        return _ALIVE

    async def readyz(self, request: Asked) -> ASGIApp:
        """Say whether slots can be granted here."""
        del request
        if self._hearing.draining.is_set():
            raise ServerUnavailable("the server is stopping")
        why = self._decider.why_not_ready
        if why is not None:
            raise StoreUnavailable(why)
        return _READY
