"""The base install stays small: what it brings along is counted, byte code apart."""

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

import ebbgate

MOST_BYTES = 25_000_000


def brought_along(name: str) -> set[str]:
    """Return every distribution that an install of `name` without extras brings along."""
    found: set[str] = set()
    open_ends = [name]
    while open_ends:
        for text in distribution(open_ends.pop()).requires or []:
            requirement = Requirement(text)
            is_wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if is_wanted and requirement.name not in found:
                found.add(requirement.name)
                open_ends.append(requirement.name)
    return found


def size_of(name: str) -> int:
    files = [Path(str(file.locate())) for file in distribution(name).files or []]
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.exists())


def test_the_base_install_stays_small() -> None:
    assert ebbgate.__file__ is not None
    own = sum(
        file.stat().st_size
        for file in Path(ebbgate.__file__).parent.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    )
    sizes = {name: size_of(name) for name in brought_along("ebbgate")}
    assert min(sizes.values()) > 0, sizes
    print({**sizes, "ebbgate": own})
    assert own + sum(sizes.values()) <= MOST_BYTES
