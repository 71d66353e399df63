"""Ends with 0 if the server of this container can grant slots: it asks /readyz as a client of this machine.

Known limit: a server that asks clients for certificates (EBBGATE_TLS_CLIENT_CA) does not answer it.
"""

import http.client
import os
import ssl
import sys

PORT = int(os.environ.get("EBBGATE_PORT") or 4220)
SECONDS = 2


def connection() -> http.client.HTTPConnection:
    """Return a connection to the server, over TLS if it talks TLS."""
    if not os.environ.get("EBBGATE_TLS_CERT"):
        return http.client.HTTPConnection("127.0.0.1", PORT, timeout=SECONDS)
    # The certificate names the machine as others know it, and nobody can stand between two ends of one.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", PORT, timeout=SECONDS, context=context)


try:
    asked = connection()
    asked.request("GET", "/readyz")
    answer = asked.getresponse()
    sys.exit(f"{answer.status} {answer.read(1000).decode()}" if answer.status != 200 else 0)
except OSError as error:
    sys.exit(f"no answer: {error}")
