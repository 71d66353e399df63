"""`select.poll`, also in programs in which it is missing: eventlet removes it from `select`."""

import select
from collections.abc import Sequence
from typing import Protocol


class _Descriptor(Protocol):
    def fileno(self) -> int:
        """Return the number of the descriptor."""


class Poll(Protocol):
    """The part of `select.poll` that is used here."""

    def register(self, fd: int | _Descriptor, eventmask: int, /) -> None:
        """Wait for these events of a descriptor."""

    def poll(self, timeout: float | None, /) -> Sequence[tuple[int, int]]:
        """Return the descriptors that are ready and their events, within so many milliseconds."""


def new_poll() -> Poll:
    """Return a poll object that waits in the way that this program waits."""
    make = getattr(select, "poll", _SelectPoll)  # at each call: a program may be patched after this import
    poll: Poll = make()
    return poll


class _SelectPoll:
    """A poll object that waits with `select.select`, which eventlet replaces by its own."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(self, fd: int | _Descriptor, eventmask: int, /) -> None:
        self._events[fd if isinstance(fd, int) else fd.fileno()] = eventmask

    def poll(self, timeout: float | None, /) -> Sequence[tuple[int, int]]:
        readers = [fd for fd, events in self._events.items() if events & select.POLLIN]
        writers = [fd for fd, events in self._events.items() if events & select.POLLOUT]
        seconds = None if timeout is None else timeout / 1_000
        readable, writable, _ = select.select(readers, writers, [], seconds)
        ready = dict.fromkeys(readable, select.POLLIN)
        for fd in writable:
            ready[fd] = ready.get(fd, 0) | select.POLLOUT
        return list(ready.items())
