"""What the command line's exit codes mean, and which error leads to which."""

import signal
from typing import Final

from ebbgate import errors

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
NOT_AUTHORIZED: Final = 5
NO_SLOT_FREE: Final = 75  # EX_TEMPFAIL of sysexits.h: asked again later, it may pass
TIMED_OUT: Final = 124  # as coreutils' `timeout` says it; the next two as every shell says them
NOT_EXECUTABLE: Final = 126
COMMAND_NOT_FOUND: Final = 127
BY_SIGNAL: Final = 128  # and the number of the signal that ended it


class UsageError(errors.EbbgateError):
    """The command line cannot be understood, or asks for two things that exclude each other."""

    code = "usage"


class CommandNotFound(errors.EbbgateError):
    """The command that `run` is to run is not there."""

    code = "command_not_found"


class NotExecutable(errors.EbbgateError):
    """The command that `run` is to run cannot be executed."""

    code = "not_executable"


class LostSlots(errors.EbbgateError):
    """`run` ended its command because the lease was lost."""

    code = errors.LeaseLost.code


class Interrupted(BaseException):
    """A signal came while nothing was run yet."""

    def __init__(self, number: int) -> None:
        """Name the signal."""
        self.number = number
        super().__init__(f"{signal.strsignal(number)}: nothing was run")


_CODES: Final[tuple[tuple[type[errors.EbbgateError], int], ...]] = (
    (UsageError, USAGE),
    (CommandNotFound, COMMAND_NOT_FOUND),
    (NotExecutable, NOT_EXECUTABLE),
    (errors.LimitNotFound, NOT_FOUND),
    (errors.LeaseNotFound, NOT_FOUND),
    (errors.LimitExists, CONFLICT),
    (errors.LimitInUse, CONFLICT),
    (errors.NotAuthorized, NOT_AUTHORIZED),
    (errors.NoSlotFree, NO_SLOT_FREE),
    (errors.InvalidRequest, USAGE),
    (errors.InvalidLimit, USAGE),
    (errors.NeverFits, USAGE),  # asked again it fails again, so it is no 75
    (errors.NoSlotDecay, USAGE),
)


def exit_code(error: errors.EbbgateError) -> int:
    """Return the exit code that tells a script what `error` tells a person."""
    if isinstance(error, errors.AcquireTimeout):
        return TIMED_OUT if error.timeout_seconds > 0 else NO_SLOT_FREE
    return next((code for kind, code in _CODES if isinstance(error, kind)), ERROR)
