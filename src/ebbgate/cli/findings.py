"""What `ebbgate doctor` tells a person."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Something a person should know: a problem, or a mere note."""

    code: str
    what: str
    next: str  # the next command or step
