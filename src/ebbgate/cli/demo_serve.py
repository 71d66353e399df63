"""The server process of `ebbgate demo`: `ebbgate serve` that ends when its parent is gone, however that died."""

import os
import sys
import threading

from ebbgate.cli.main import main


def end_with_parent() -> None:
    """Wait until nobody holds the other end of the standard input, then end at once."""
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.argv = ["ebbgate", "serve", *sys.argv[1:]]
    main()
