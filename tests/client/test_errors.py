"""Every error keeps its type, message and fields in another process and in a copy."""

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import pytest

import ebbgate
from ebbgate import errors
from ebbgate.errors import EbbgateError, EbbgateWarning

SAMPLES: Final[dict[str, EbbgateError]] = {
    "LimitNotFound": errors.LimitNotFound(["databse", "api"], suggestion="database"),
    "LimitExists": errors.LimitExists("database"),
    "LimitInUse": errors.LimitInUse("database", holders=1, waiters=2, who=["host-1"]),
    "NeverFits": errors.NeverFits("database", slots=3, limit=2),
    "NoSlotDecay": errors.NoSlotDecay(["api"]),
    "IdReused": errors.IdReused("lease", "was used"),
    "NoSlotFree": errors.NoSlotFree(["database"], 3),
    "AcquireTimeout": errors.AcquireTimeout(["database", "api"], 1.5),
    "LeaseLost": errors.LeaseLost("lease", ["database"], "revoked"),
    "WaiterRemoved": errors.WaiterRemoved("lease", ["database"], "revoked"),
    "LeaseNotFound": errors.LeaseNotFound("lease"),
    "StoreUnavailable": errors.StoreUnavailable("full", transient=False),
    "ServerUnavailable": errors.ServerUnavailable("away", transient=False),
}
"""The errors whose constructor takes more than a message."""


def _of(base: type[Exception]) -> list[type[Exception]]:
    """Return the classes of the package that derive from one, wherever they are defined."""
    for module in pkgutil.walk_packages(ebbgate.__path__, "ebbgate."):
        if module.name.startswith(
            ("ebbgate.cli", "ebbgate.client", "ebbgate.integrations", "ebbgate.stores")
        ):
            importlib.import_module(module.name)
    found, more = set[type[Exception]](), [base]
    while more:
        kind = more.pop()
        if kind not in found and kind.__module__.startswith("ebbgate"):
            found.add(kind)
            more.extend(kind.__subclasses__())
    return sorted(found, key=lambda kind: kind.__name__)


def _made() -> list[Exception]:
    kinds = _of(EbbgateError) + _of(EbbgateWarning)
    made = [SAMPLES.get(kind.__name__) or kind(f"what went wrong: {kind.__name__}") for kind in kinds]
    for number, error in enumerate(made):
        error.add_note(f"note {number}")
    return made


def _is_same(one: BaseException, other: BaseException) -> bool:
    return (
        type(one) is type(other)
        and one is not other
        and (str(one), one.args, vars(one)) == (str(other), other.args, vars(other))
        and getattr(one, "code", "") == getattr(other, "code", "")
    )


def test_every_error_and_warning_survives_pickle_and_copy() -> None:
    made = _made()
    assert {type(error).__name__ for error in made} >= SAMPLES.keys()
    for error in made:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert _is_same(pickle.loads(pickle.dumps(error, protocol)), error)
        assert _is_same(copy.copy(error), error)
        assert _is_same(copy.deepcopy(error), error)


def _fail(error: Exception) -> None:
    raise error


@pytest.mark.slow
def test_every_error_reaches_the_caller_of_a_pool_of_processes() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for error in _made():
            raised = pool.submit(_fail, error).exception()
            assert raised is not None
            assert _is_same(raised, error)
