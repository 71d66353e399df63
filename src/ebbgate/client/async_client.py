"""The async client: the methods of `Client`, awaited."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from ebbgate.background import call_in_thread
from ebbgate.client.async_blocks import AsyncBlock, spend
from ebbgate.client.client import Client
from ebbgate.client.misuse import NotPickled, site
from ebbgate.client.terms import Names, OnUnavailable, Seconds, hold_terms, spend_terms
from ebbgate.wire import LeaseInfo, LimitInfo, StatusInfo


class AsyncClient(NotPickled):
    """Limits, leases and their management, for asyncio. All clients of one URL share one connection.

    Args:
        url: where to connect, as `EBBGATE_URL`; None: as the environment says.
        api_key: authenticates with a server; None: as the environment says.
    """

    _instead: ClassVar[str] = "make a client in the process that uses it"

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        """Connect on first use; see the class."""
        self._client = Client(url, api_key)

    @property
    def url(self) -> str:
        """Where it connects."""
        return self._client.url

    def concurrency(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: Seconds | None = None,
        max_retries: int | None = None,
        lease_duration: Seconds = 300,
        strict: bool = False,
        raise_on_lease_renewal_failure: bool | None = None,
        suppress_warnings: bool = False,
        priority: int = 0,
        labels: Mapping[str, str] | None = None,
        holder: object = None,
        on_unavailable: OnUnavailable = "raise",
    ) -> AsyncBlock:
        """See `ebbgate.asyncio.concurrency`."""
        terms = hold_terms(
            names, occupy, timeout_seconds, max_retries, lease_duration, strict, raise_on_lease_renewal_failure,
            suppress_warnings, priority, labels, holder, on_unavailable,
        )  # fmt: skip
        return AsyncBlock(lambda: self._client, terms, site())

    async def rate_limit(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: Seconds | None = None,
        strict: bool = False,
        priority: int = 0,
        on_unavailable: OnUnavailable = "raise",
    ) -> None:
        """See `ebbgate.asyncio.rate_limit`."""
        terms = spend_terms(names, occupy, timeout_seconds, strict, priority, on_unavailable)
        await spend(lambda: self._client, terms)

    async def create_limit(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float | str = 0.0,
        active: bool = True,
        description: str = "",
    ) -> LimitInfo:
        """See `Client.create_limit`."""
        return await call_in_thread(
            self._client.create_limit,
            name,
            limit,
            slot_decay_per_second=slot_decay_per_second,
            active=active,
            description=description,
        )

    async def update_limit(
        self,
        name_or_id: str,
        *,
        name: str | None = None,
        limit: int | None = None,
        slot_decay_per_second: float | str | None = None,
        active: bool | None = None,
        description: str | None = None,
    ) -> LimitInfo:
        """See `Client.update_limit`."""
        return await call_in_thread(
            self._client.update_limit,
            name_or_id,
            name=name,
            limit=limit,
            slot_decay_per_second=slot_decay_per_second,
            active=active,
            description=description,
        )

    async def put_limit(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float | str = 0.0,
        active: bool = True,
        description: str = "",
    ) -> LimitInfo:
        """See `Client.put_limit`."""
        return await call_in_thread(
            self._client.put_limit,
            name,
            limit,
            slot_decay_per_second=slot_decay_per_second,
            active=active,
            description=description,
        )

    async def read_limit(self, name_or_id: str) -> LimitInfo:
        """See `Client.read_limit`."""
        return await call_in_thread(self._client.read_limit, name_or_id)

    async def list_limits(self, prefix: str = "") -> list[LimitInfo]:
        """See `Client.list_limits`."""
        return await call_in_thread(self._client.list_limits, prefix)

    async def status(self) -> StatusInfo:
        """See `Client.status`."""
        return await call_in_thread(self._client.status)

    async def delete_limit(self, name_or_id: str, *, force: bool = False) -> None:
        """See `Client.delete_limit`."""
        await call_in_thread(self._client.delete_limit, name_or_id, force=force)

    async def cool_down(self, names: str | Sequence[str], seconds: Seconds, why: str = "") -> None:
        """See `Client.cool_down`."""
        await call_in_thread(self._client.cool_down, names, seconds, why)

    async def list_leases(self, limit: str | None = None, state: str | None = None) -> list[LeaseInfo]:
        """See `Client.list_leases`."""
        return await call_in_thread(self._client.list_leases, limit, state)

    async def list_waiters(self, limit: str | None = None) -> list[LeaseInfo]:
        """See `Client.list_waiters`."""
        return await call_in_thread(self._client.list_waiters, limit)

    async def read_lease(self, lease_id: str) -> LeaseInfo:
        """See `Client.read_lease`."""
        return await call_in_thread(self._client.read_lease, lease_id)

    async def revoke_lease(self, lease_id: str) -> None:
        """See `Client.revoke_lease`."""
        await call_in_thread(self._client.revoke_lease, lease_id)

    async def close(self) -> None:
        """See `Client.close`."""
        await call_in_thread(self._client.close)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()
