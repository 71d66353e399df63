"""Global concurrency limits and rate limits for any process on any machine.

>>> from ebbgate.sync import concurrency, rate_limit
>>> from ebbgate.asyncio import concurrency, rate_limit
"""

import sys
from typing import TYPE_CHECKING, Any

# pip says so before; whoever runs a copy of the sources hears it here.
if sys.version_info < (3, 11):  # noqa: UP036
    raise ImportError(  # type: ignore[unreachable]  # for the Python that checks the types
        f"ebbgate needs Python 3.11 or newer, this is {sys.version_info[0]}.{sys.version_info[1]}; "
        "make an environment with a newer one: python3.11 -m venv .venv"
    )

if TYPE_CHECKING:
    from ebbgate.client.async_client import AsyncClient
    from ebbgate.client.client import Client

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the types stand above; imported lazily to keep `ebbgate.sync` quick
    """Import a public name on first use."""
    if name == "Client":
        from ebbgate.client.client import Client

        return Client
    if name == "AsyncClient":
        from ebbgate.client.async_client import AsyncClient

        return AsyncClient
    if name == "__version__":
        from ebbgate.version import version

        return version()
    if name in {"sync", "asyncio", "errors"}:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    if name in {"concurrency", "rate_limit", "cool_down"}:
        # `from ebbgate import concurrency` would hide the words of an AttributeError.
        raise ImportError(
            f"{name!r} is there twice, for threads and for asyncio; write: "
            f"from ebbgate.sync import {name}, or: from ebbgate.asyncio import {name}"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
