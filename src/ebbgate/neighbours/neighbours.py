"""The other processes that share a file: how they are told something, and how their death is noticed."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ebbgate.core.commands import Away
from ebbgate.core.model import Session
from ebbgate.errors import StoreUnavailable
from ebbgate.neighbours.presence import Presence
from ebbgate.neighbours.push import Mailbox, PrivateFolder, Pusher, remove_mailboxes, wake_folder

_log: Final = logging.getLogger("ebbgate")

_TAIL = 12  # characters of a session's id that name its sockets; its first ones only tell when it was made


class Neighbours:
    """This process among those that share a store's file; alone, if the store is in memory."""

    def __init__(self, path: Path | None, session: str) -> None:
        """Be present beside the file at `path`, under the id of this process's session.

        Raises:
            StoreUnavailable: no file can be made there.
        """
        self._session = session
        self._path = path
        self._boxes = 0
        self._private: PrivateFolder | None = None  # without a file
        self._presences: list[Presence] = []  # the newest last; others may still ask about an older one
        with _in_words():
            self._pusher = Pusher()
            try:
                self._folder = self._make_folder()
            except BaseException:
                self._pusher.close()
                raise
        try:
            if path is not None:
                with _in_words():
                    self._presences.append(Presence(_presence_file(path)))
            self.mailbox = self.new_mailbox()  # for what happens to held leases; the renewer listens
        except StoreUnavailable:
            self.close()
            raise

    @property
    def presence(self) -> int:
        """The byte of the presence file that this process keeps locked; -1: none."""
        return self._presences[-1].offset if self._presences else -1

    def rejoin(self) -> bool:
        """Join the new presence file if the file was removed or replaced, and return whether `presence` changed."""
        if self._path is None or not self._presences or self._presences[-1].is_current():
            return False
        try:
            self._presences.append(Presence(_presence_file(self._path)))
        except OSError as error:
            _log.info("the presence file %s cannot be joined yet: %s", _presence_file(self._path), error)
            return False
        _log.warning("the presence file %s was removed or replaced", _presence_file(self._path))
        return True

    def new_mailbox(self) -> Mailbox:
        """Return a new socket for pushes to this process.

        Raises:
            StoreUnavailable: none can be made.
        """
        self._boxes += 1
        name = f"{self._session[-_TAIL:]}-{self._boxes}"
        with _in_words():
            try:
                return Mailbox(self._folder, name)
            except FileNotFoundError:  # whoever closed last has just removed it
                self._folder = self._make_folder()
                return Mailbox(self._folder, name)

    def _make_folder(self) -> Path:
        if self._path is not None:
            return wake_folder(self._path)
        if self._private is not None:
            self._private.close()
        self._private = PrivateFolder()
        return self._private.path

    def push(self, address: str) -> None:
        """Tell whoever listens at `address` to look."""
        self._pusher.push(address)

    def find_dead(self, sessions: Iterable[Session]) -> list[Away]:
        """Return what is to be said of those whose process has died."""
        if not self._presences:
            return []
        presence = self._presences[-1]
        others = [s for s in sessions if s.presence >= 0 and s.presence != self.presence]
        return [Away(s.id, s.epoch, certain=True) for s in others if not presence.is_alive(s.presence)]

    def clean_up_after(self, dead: Iterable[Away]) -> None:
        """Remove the sockets that dead processes left behind."""
        for away in dead:
            remove_mailboxes(self._folder, away.session[-_TAIL:])

    def close(self) -> None:
        """Go away."""
        self.abandon()
        with suppress(OSError):
            self._folder.rmdir()  # the last one; whoever comes next makes it anew

    def abandon(self) -> None:
        """Close this process's copies after a fork; the parent stays present."""
        self._pusher.close()
        if self._private is not None:
            self._private.close()
        for presence in self._presences:
            presence.end()


def _presence_file(store: Path) -> Path:
    return store.with_name(store.name + "-presence")


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"no file or socket can be made beside the store ({error}); "
            "its folder must be writable for this user, with room for sockets and small files"
        ) from error
