"""Has a signal handler's exception arrive at any line of the package's own code, as Ctrl-C may."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import ebbgate


def interrupted(line: int, work: Callable[[], object], *places: str) -> bool:
    """Do `work` with a KeyboardInterrupt in the middle; return whether it got so far.

    Args:
        line: before the so manieth line that is run.
        work: what to do, in this thread.
        places: folders and files of the package in which lines count.
    """
    package = Path(ebbgate.__file__).parent
    counted = tuple(str(package / place) for place in places)
    left = line

    def trace(frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401 - one like itself, or None
        nonlocal left
        if not frame.f_code.co_filename.startswith(counted):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
