"""Processes of one machine find each other by what lies beside the file."""

import tempfile
from pathlib import Path

from ebbgate.core.commands import Away
from ebbgate.neighbours.neighbours import Neighbours


def test_sessions_of_one_instant_have_sockets_of_their_own_and_outlive_each_other() -> None:
    # their ids begin alike, with the time
    ids = [f"019a8b7c-1234-7abc-aabc-{number:012x}" for number in range(3)]
    with tempfile.TemporaryDirectory(prefix="n-") as folder:
        several = [Neighbours(Path(folder) / "gate.db", session) for session in ids]
        assert len({one.mailbox.address for one in several}) == len(ids)
        several[0].clean_up_after([Away(ids[1], 1, certain=True)])
        there = [Path(one.mailbox.address).exists() for one in several]
        assert there == [True, False, True], "the dead one's, and nobody else's"
        for one in several:
            one.mailbox.close()
            one.close()
