"""The two faces are one: the same names, arguments and words."""

import inspect

import ebbgate.asyncio
import ebbgate.sync
from ebbgate import AsyncClient, Client


def parameters(function: object) -> list[tuple[str, object, object]]:
    """Return names, kinds and defaults of a function's arguments."""
    assert callable(function)
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values() if p.name != "self"]


def test_both_modules_export_the_same_names_with_the_same_arguments() -> None:
    """What one learns of one face holds for the other."""
    assert ebbgate.sync.__all__ == ebbgate.asyncio.__all__
    for name in ("concurrency", "rate_limit", "cool_down"):
        assert parameters(getattr(ebbgate.sync, name)) == parameters(getattr(ebbgate.asyncio, name))
        sync_words = inspect.getdoc(getattr(ebbgate.sync, name))
        async_words = inspect.getdoc(getattr(ebbgate.asyncio, name))
        assert sync_words is not None
        assert async_words is not None
        assert sync_words.splitlines()[0] == async_words.splitlines()[0]


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    """Management included."""
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if name.startswith("_") or name in {"open_gate", "connect"}:
            continue
        assert parameters(method) == parameters(getattr(AsyncClient, name)), name


def test_module_functions_and_client_methods_agree() -> None:
    """`client.concurrency(...)` takes what `concurrency(...)` takes."""
    for name in ("concurrency", "rate_limit", "cool_down"):
        assert parameters(getattr(ebbgate.sync, name)) == parameters(getattr(Client, name))


def test_the_promised_order_of_arguments_stands() -> None:
    """Code that was written for another system passes them by position."""
    names = [name for name, _, _ in parameters(ebbgate.sync.concurrency)]
    assert names[:10] == [
        "names", "occupy", "timeout_seconds", "max_retries", "lease_duration", "strict",
        "raise_on_lease_renewal_failure", "suppress_warnings", "priority", "labels",
    ]  # fmt: skip
    assert [name for name, _, _ in parameters(ebbgate.sync.rate_limit)][:5] == [
        "names", "occupy", "timeout_seconds", "strict", "priority",
    ]  # fmt: skip
