"""Transports for httpx that take a rate limit before each request.

>>> client = httpx.Client(transport=LimitedTransport("api"))  # doctest: +SKIP

A response 429 or 503 with `Retry-After` makes every process that uses the limit wait, in the same queue.
"""

from types import TracebackType
from typing import Self

from ebbgate.version import requirement

try:
    import httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}; install it: pip install {requirement('httpx')}", name=error.name
    ) from None

from ebbgate.client.terms import Names, Seconds
from ebbgate.integrations.pacing import Pace


class LimitedTransport(httpx.BaseTransport):
    """Another transport, whose requests keep to a rate limit."""

    def __init__(
        self,
        names: Names,
        transport: httpx.BaseTransport | None = None,
        *,
        timeout_seconds: Seconds | None = None,
        strict: bool = False,
        priority: int = 0,
        cool_down: bool = True,
    ) -> None:
        """Spend a slot before each request, also before each redirect and retry.

        Args:
            names: one rate limit, several, or a mapping of limit to slots.
            transport: sends the requests; None: a new one of httpx.
            timeout_seconds: the longest wait for the turn of one request; None: for ever.
            strict: an unknown limit is an error.
            priority: higher goes first.
            cool_down: whether a `Retry-After` of the other side makes everybody wait.
        """
        self._pace = Pace(names, timeout_seconds, strict, priority, cool_down)
        self._transport = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for the turn of this request and send it.

        Raises:
            ConcurrencySlotAcquisitionError: its turn did not come. It was not sent.
        """
        self._pace.take()
        response = self._transport.handle_request(request)
        try:
            self._pace.heed(response.status_code, response.headers, request.url.host)
        except BaseException:  # cancelled: nobody else can give its connection back
            response.close()
            raise
        return response

    def close(self) -> None:
        """Close the other transport."""
        self._transport.close()

    def __enter__(self) -> Self:
        """Enter the other transport."""
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the other transport."""
        self._transport.__exit__(exc_type, exc_value, traceback)


class AsyncLimitedTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`; see `LimitedTransport`."""

    def __init__(
        self,
        names: Names,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        timeout_seconds: Seconds | None = None,
        strict: bool = False,
        priority: int = 0,
        cool_down: bool = True,
    ) -> None:
        """Spend a slot before each request; see `LimitedTransport`."""
        self._pace = Pace(names, timeout_seconds, strict, priority, cool_down)
        self._transport = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for the turn of this request and send it.

        Raises:
            ConcurrencySlotAcquisitionError: its turn did not come. It was not sent.
        """
        await self._pace.take_async()
        response = await self._transport.handle_async_request(request)
        try:
            await self._pace.heed_async(response.status_code, response.headers, request.url.host)
        except BaseException:  # cancelled: nobody else can give its connection back
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        """Close the other transport."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        """Enter the other transport."""
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the other transport."""
        await self._transport.__aexit__(exc_type, exc_value, traceback)
