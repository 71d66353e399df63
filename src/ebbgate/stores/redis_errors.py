"""What Redis says went wrong, in plain sentences that tell what to do. All mapping is here."""

from typing import Final

from redis import exceptions

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.redis_url import RedisPlace

_BY_WORD: Final = {
    "WRONGPASS": "refuses user or password; check them in its URL",
    "NOAUTH": "wants a password; give it in the URL: redis://:password@host",
    "NOPERM": (
        "does not allow this user all it needs; grant it ~ebbgate:* and "
        "+info +evalsha +eval +time +multi +exec +hmget +hgetall +hset +hdel +xadd +xrange +xrevrange +xread +xtrim"
    ),
    "READONLY": "is a replica, which cannot be written; name the primary",
    "OOM": "is full (maxmemory); give it more memory, nothing was written",
    "MISCONF": "refuses to write because it cannot save to its disk; look into its log",
    "LOADING": "is still loading its data",
    "MASTERDOWN": "is a replica that has lost its primary",
    "NOREPLICAS": "has too few replicas to write (min-replicas-to-write)",
    "BUSY": "is busy with somebody's script",
    "MOVED": "is a node of a cluster and another node has this namespace; name that one",
    "CLUSTERDOWN": "is a node of a cluster that is down",
    "WRONGTYPE": "has keys named ebbgate:* that are something else; take another database",
}


def unavailable(error: BaseException | None, place: RedisPlace, doing: str) -> StoreUnavailable:
    """Return what to raise from `error`, or from too long a wait (None) for `doing`."""
    if error is None or isinstance(error, exceptions.TimeoutError):
        return StoreUnavailable(f"the store {place} is out of reach: it took too long to get {doing}")
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    advice = next((advice for word, advice in _BY_WORD.items() if word in said.split(":")[0].split()), None)
    if advice is None:
        advice = _by_type(error)
    return StoreUnavailable(f"the store {place} {advice} (Redis says: {said})")


def _by_type(error: BaseException) -> str:
    for kind, word in (
        (exceptions.AuthenticationError, "WRONGPASS"),
        (exceptions.NoPermissionError, "NOPERM"),
        (exceptions.ReadOnlyError, "READONLY"),
        (exceptions.OutOfMemoryError, "OOM"),
        (exceptions.BusyLoadingError, "LOADING"),
    ):
        if isinstance(error, kind):
            return _BY_WORD[word]
    if isinstance(error, exceptions.ResponseError):
        return "cannot be used"
    return "is out of reach; is the server running, and is the URL right?"
