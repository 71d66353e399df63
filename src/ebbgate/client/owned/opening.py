"""From the address of a file to the server that owns it, if there is one."""

from typing import TYPE_CHECKING

from ebbgate import settings
from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.client.embedded.heritage import Heritage
from ebbgate.client.embedded.opening import open_gate, path_of_file
from ebbgate.core.model import Settings
from ebbgate.neighbours.owner import owner_of

if TYPE_CHECKING:
    from ebbgate.client.owned.gate import OwnedGate


def owner_gate(url: str, store_settings: Settings | None) -> "OwnedGate | None":
    """Return a gate to the server that owns a file; None: nobody does.

    Args:
        url: of the file, as canonical.
        store_settings: for when the server has died, and the file is opened for the first time.

    Raises:
        StoreUnavailable: an owner is there and does not tell its address.
    """
    path = path_of_file(url)
    owner = owner_of(path) if path is not None else None
    if path is None or owner is None:
        return None
    from ebbgate.client.owned.gate import OwnedGate

    def open_file(heritage: Heritage, shortest_us: int) -> EmbeddedGate:
        wanted = store_settings or Settings()
        allowed = wanted._replace(lease_duration_min_us=min(wanted.lease_duration_min_us, shortest_us))
        return open_gate(url, allowed, heritage)

    return OwnedGate(
        owner,
        settings.api_key(),
        find_owner=lambda: owner_of(path),
        open_file=open_file,
    )
