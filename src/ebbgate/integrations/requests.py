"""An adapter for requests that takes a rate limit before each request.

>>> session = requests.Session()  # doctest: +SKIP
>>> session.mount("https://api.example.com/", LimitedAdapter("api"))  # doctest: +SKIP

A response 429 or 503 with `Retry-After` makes every process that uses the limit wait, in the same queue.
"""

from typing import Any
from urllib.parse import urlsplit

from ebbgate.version import requirement

try:
    import requests
    from requests.adapters import HTTPAdapter
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}; install it: pip install {requirement('requests')}", name=error.name
    ) from None

from ebbgate.client.terms import Names, Seconds
from ebbgate.integrations.pacing import Pace


class LimitedAdapter(HTTPAdapter):
    """An `HTTPAdapter` whose requests keep to a rate limit."""

    def __init__(
        self,
        names: Names,
        *,
        timeout_seconds: Seconds | None = None,
        strict: bool = False,
        priority: int = 0,
        cool_down: bool = True,
        **adapter: Any,  # noqa: ANN401 - what HTTPAdapter takes
    ) -> None:
        """Spend a slot before each request, also before each redirect.

        Args:
            names: one rate limit, several, or a mapping of limit to slots.
            timeout_seconds: the longest wait for the turn of one request; None: for ever.
            strict: an unknown limit is an error.
            priority: higher goes first.
            cool_down: whether a `Retry-After` of the other side makes everybody wait.
            **adapter: passed on to `HTTPAdapter`, such as `pool_maxsize`.
        """
        self._pace = Pace(names, timeout_seconds, strict, priority, cool_down)
        super().__init__(**adapter)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - as in requests
        """Wait for the turn of this request and send it.

        Raises:
            ConcurrencySlotAcquisitionError: its turn did not come. It was not sent.
        """
        self._pace.take()
        response = super().send(request, *args, **kwargs)
        host = urlsplit(response.url).hostname or "a server"
        try:
            self._pace.heed(response.status_code, response.headers, host)
        except BaseException:  # interrupted: nobody else can give its connection back
            response.close()
            raise
        return response
