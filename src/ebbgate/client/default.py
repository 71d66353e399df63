"""The clients that module-level functions use: one for what the environment says."""

from ebbgate import settings
from ebbgate.client.client import Client

_clients: dict[tuple[str | None, str | None], Client] = {}


def default_client() -> Client:
    """Return the client for `EBBGATE_URL` as it is now."""
    key = (settings.configured_url(), settings.api_key())
    client = _clients.get(key)
    if client is None:
        client = _clients[key] = Client()
    return client
