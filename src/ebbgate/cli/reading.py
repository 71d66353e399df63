"""The client of commands that create nothing: neither a limit nor the file that would hold it."""

from ebbgate import settings
from ebbgate.client.client import Client
from ebbgate.client.connect import is_remote
from ebbgate.client.default import default_client
from ebbgate.client.embedded.opening import path_of_file
from ebbgate.errors import StoreUnavailable


def existing_client() -> Client:
    """Return the default client; if nothing was ever stored for this user, one of an empty store.

    Raises:
        StoreUnavailable: `EBBGATE_URL` names a file that does not exist.
    """
    client = default_client()
    path = None if is_remote(client.url) else path_of_file(client.url)
    if path is None or path.exists():
        return client
    if not settings.configured_url():
        return Client("memory://")
    raise StoreUnavailable(
        f"the store {path} does not exist; correct EBBGATE_URL, or create it with its first limit: "
        "ebbgate limit create NAME --limit 5",
        transient=False,
    )
