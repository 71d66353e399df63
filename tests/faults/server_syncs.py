"""`ebbgate serve`, which writes in the end into the file `syncs` how often SQLite synced its log to the disk.

    python -m tests.faults.server_syncs serve --store sqlite:////folder/store/limits.db ...

The file lies in the folder above the store's.
"""

import sys

from ebbgate.cli.main import main
from ebbgate.stores import path_of
from ebbgate.testing.power import installed


def run() -> None:
    with installed() as disk:
        try:
            main()
        finally:
            syncs = sum(done.what == "sync" and done.name.endswith("-wal") for done in disk.operations)
            store = path_of(sys.argv[sys.argv.index("--store") + 1])
            (store.parent.parent / "syncs").write_text(str(syncs))


if __name__ == "__main__":
    run()
