"""What a server that was killed leaves behind."""

from pathlib import Path

from tests.faults.server_process import ServerProcess


def test_what_killed_servers_left_is_removed_by_the_next_one(folder: Path) -> None:
    with ServerProcess(folder) as server:
        server.kill()
        server.start()
        sockets = list(server.path.with_name("limits.db-wake").iterdir())
        assert len(sockets) == 1, sockets
        server.end()
    left = {path.name for path in server.path.parent.iterdir()}
    kept = {"limits.db", "limits.db-history", "limits.db-lock", "limits.db-owner", "limits.db-presence"}
    assert left <= kept, left
