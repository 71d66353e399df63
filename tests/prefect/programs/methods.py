"""The methods of Prefect's client for global concurrency limits, each with what it promises."""

import asyncio
import sys

from prefect.client.orchestration import get_client  # type: ignore[import-not-found]
from prefect.client.schemas.actions import (  # type: ignore[import-not-found]
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect.exceptions import (  # type: ignore[import-not-found]
    ObjectAlreadyExists,
    ObjectNotFound,
    PrefectHTTPStatusError,
)


async def main(name: str) -> None:
    """Call every one of them."""
    async with get_client() as client:
        assert (await client.hello()).json() == "👋"
        assert await client.api_healthcheck() is None
        made = await client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=3, slot_decay_per_second=0.25)
        )
        assert not await is_made(client, name)
        found = await client.read_global_concurrency_limit_by_name(name)
        assert (found.id, found.limit, found.slot_decay_per_second, found.active) == (made, 3, 0.25, True), (
            found
        )
        await client.update_global_concurrency_limit(
            name, GlobalConcurrencyLimitUpdate(limit=4, active=False)
        )
        found = await client.read_global_concurrency_limit_by_name(name)
        assert (found.limit, found.active) == (4, False), found
        await client.upsert_global_concurrency_limit_by_name(name, 7)
        await client.upsert_global_concurrency_limit_by_name(f"{name}-2", 1)
        listed = {limit.name: limit.limit for limit in await client.read_global_concurrency_limits(limit=200)}
        assert (listed[name], listed[f"{name}-2"]) == (7, 1), listed
        assert len(await client.read_global_concurrency_limits(limit=1, offset=1)) == 1
        for each in (name, f"{name}-2"):
            await client.delete_global_concurrency_limit_by_name(each)
        for method in (
            client.read_global_concurrency_limit_by_name,
            client.delete_global_concurrency_limit_by_name,
        ):
            try:
                await method(name)
            except ObjectNotFound:
                continue
            raise AssertionError("found after it was deleted")
        await slots(client, f"{name}-3")
    print("all is well")


async def is_made(client: object, name: str) -> bool:
    """Tell whether a limit could be made; up to 3.4 the client says in another way that it could not."""
    try:
        await client.create_global_concurrency_limit(  # type: ignore[attr-defined]
            GlobalConcurrencyLimitCreate(name=name, limit=3)
        )
    except ObjectAlreadyExists:
        return False
    except PrefectHTTPStatusError as error:
        return bool(error.response.status_code != 409)
    return True


async def slots(client: object, name: str) -> None:
    """Take and give back slots by hand."""
    await client.create_global_concurrency_limit(  # type: ignore[attr-defined]
        GlobalConcurrencyLimitCreate(name=name, limit=2)
    )
    taken = await client.increment_concurrency_slots(names=[name], slots=2, mode="concurrency")  # type: ignore[attr-defined]
    assert taken.json()[0]["name"] == name
    read = await client.read_global_concurrency_limit_by_name(name)  # type: ignore[attr-defined]
    assert read.active_slots == 2, read
    await client.release_concurrency_slots(names=[name], slots=2, occupancy_seconds=0.5)  # type: ignore[attr-defined]
    read = await client.read_global_concurrency_limit_by_name(name)  # type: ignore[attr-defined]
    assert read.active_slots == 0, read


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
