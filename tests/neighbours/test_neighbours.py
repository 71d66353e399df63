"""Processes of one machine find each other by what lies beside the file."""

import os
import resource
import tempfile
from pathlib import Path

from ebbgate.core.commands import Away
from ebbgate.errors import StoreUnavailable
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


def test_who_has_too_few_descriptors_is_told_so_and_leaves_none_open() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = None
    with tempfile.TemporaryDirectory(prefix="n-") as folder:
        before = sorted(Path("/dev/fd").iterdir())
        lowest = os.dup(0)
        os.close(lowest)
        refusals = 0
        while found is None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + refusals, limits[1]))
            try:
                found = Neighbours(Path(folder) / "gate.db", "session")
            except StoreUnavailable:
                refusals += 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            if found is None:
                assert sorted(Path("/dev/fd").iterdir()) == before
        assert refusals >= 3
        found.mailbox.close()
        found.close()
