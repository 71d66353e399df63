"""`ebbgate serve` with a store whose clock is ahead by as many microseconds as the file `ahead` says.

    python -m tests.faults.server_shifted serve --store sqlite:////folder/store/limits.db ...

The file lies in the folder above the store's; it is looked at when the process starts, and every 5 ms from then on.
"""

import sys
import threading
from pathlib import Path

from ebbgate.cli.main import main
from ebbgate.stores import path_of, sqlite

LOOK_SECONDS = 0.005


def ahead_file(store_path: Path) -> Path:
    """Return the file that says by how much the clock of a store is ahead."""
    return store_path.parent.parent / "ahead"


def shift(store_path: Path) -> None:
    """Shift the clock of every store that this process opens, as the file says at any moment."""
    ahead_us = 0
    file = ahead_file(store_path)
    real = sqlite.SqliteStore.clock

    def look() -> None:
        nonlocal ahead_us
        ahead_us = int(file.read_text() or ahead_us) if file.exists() else 0

    def watch() -> None:
        while True:
            threading.Event().wait(LOOK_SECONDS)
            look()

    look()
    threading.Thread(target=watch, daemon=True).start()
    sqlite.SqliteStore.clock = lambda store: real(store) + ahead_us  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    shift(path_of(sys.argv[sys.argv.index("--store") + 1]))
    main()
