"""What PostgreSQL says went wrong, in plain sentences that tell what to do. All mapping is here."""

from typing import Final

import psycopg

from ebbgate.errors import StoreUnavailable
from ebbgate.stores.postgres_url import PostgresPlace

_BY_CODE: Final = {
    "28P01": "refuses the password; check user and password in its URL",
    "28000": "refuses this user; check the user in its URL and pg_hba.conf on the server",
    "3D000": "has no such database; create it (createdb), or correct the URL",
    "42501": (
        "may not be used by this user; the first start needs CREATE on the database, later ones USAGE on the schema, "
        "and SELECT, INSERT, UPDATE, DELETE and EXECUTE in it"
    ),
    "25006": "is read-only; is this a standby? Name the primary, or several hosts and target_session_attrs=read-write",
    "53100": "cannot grow: its disk is full; make room, nothing was written",
    "53200": "has no memory left",
    "53300": "has no connection left; raise max_connections, or use a pooler",
    "53400": "has reached a limit of its configuration",
    "55P03": "is being written by another server for too long; is one stopped in the middle of a commit?",
    "57014": "took too long for its statement_timeout",
    "57P01": "shuts down",
    "57P02": "crashed and starts again",
    "57P03": "starts, stops or recovers and takes no connections yet",
    "57P05": "closed a connection that was idle",
    "42P01": "holds other tables than ebbgate expects; restore a backup, or name another schema",
    "42883": "holds other functions than ebbgate expects; restore a backup, or name another schema",
}
_BY_CLASS: Final = {
    "08": "is out of reach; is the server running, and is the URL right?",
    "53": "lacks a resource",
    "58": "has trouble with its system",
    "XX": "reports damage; look into its log, and restore a backup if need be",
}

# While connecting, libpq tells no code.
_BY_TEXT: Final = (
    ("password", "28P01"),
    ("pg_hba.conf", "28000"),
    ('role "', "28000"),
    ('database "', "3D000"),
    ("permission denied", "42501"),
    ("too many", "53300"),
    ("connection slots", "53300"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
    ("recovery", "57P03"),
    ("read-only", "25006"),
)


def unavailable(error: BaseException | None, place: PostgresPlace, doing: str) -> StoreUnavailable:
    """Return what to raise from `error`, or from too long a wait (None) for `doing`."""
    if error is None:
        return StoreUnavailable(f"the store {place} is out of reach: it took too long to get {doing}")
    said = _said(error)
    code = getattr(error, "sqlstate", None) or ""
    if not code:
        code = next((code for text, code in _BY_TEXT if text in said), "08")
    advice = _BY_CODE.get(code) or _BY_CLASS.get(code[:2], "cannot be used")
    return StoreUnavailable(f"the store {place} {advice} (PostgreSQL says: {said})")


def _said(error: BaseException) -> str:
    """Return the first line that tells something; where several hosts failed, that of the first."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    lines = (primary or str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
