"""Looking inside a client that needs no server."""

from ebbgate.client.embedded.gate import EmbeddedGate
from ebbgate.client.management import Management


def embedded(client: Management) -> EmbeddedGate:
    """Return the gate of a client that works on a file or in memory, for tests that look inside.

    Raises:
        TypeError: it is connected to a server.
    """
    gate = client.gate
    if not isinstance(gate, EmbeddedGate):
        raise TypeError(f"{client.url} is a server's address")
    return gate
