"""Being told of waits, holds and losses, for metrics, traces or logs of one's own.

>>> class Print:
...     def asks(self, acquisition):
...         return Told(acquisition)  # with the methods of `Observation`
>>> add(Print())  # doctest: +SKIP
"""

from ebbgate.client.observing import Acquisition, Observation, Observer, observers

__all__ = ["Acquisition", "Observation", "Observer", "add", "remove"]


def add(observer: Observer) -> None:
    """Tell `observer` of every acquisition that begins from now on in this process."""
    if observer not in observers:
        observers.append(observer)


def remove(observer: Observer) -> None:
    """Tell it of no new ones."""
    if observer in observers:
        observers.remove(observer)
