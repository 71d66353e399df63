"""What the server logs: short lines for a person at a terminal, one JSON object a line for everything else.

No API key is ever logged: what looks like an `Authorization` header is blotted out, and libraries that would
show headers are kept quiet.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec

from ebbgate.server.options import LogLevel
from ebbgate.wire.words import clean

_LEVELS: Final[dict[LogLevel, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_CHATTY: Final = ("uvicorn", "uvicorn.access", "websockets", "litestar", "asyncio")
_SECRET: Final = re.compile(r"\b(bearer|basic)([ :=]+)[!-~]+", re.IGNORECASE)
_SHOWN_SECONDS: Final = 60.0
_PLACES_MAX: Final = 1_000
_ERROR_LENGTH_MAX: Final = 500
_Place = tuple[type[BaseException], str, int]
_COLOURS: Final = {logging.DEBUG: "2", logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31"}


def configure(level: LogLevel, *, is_json: bool | None = None, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to `stream`, stderr by default.

    Args:
        level: what is logged.
        is_json: whether it is for programs; None: unless `stream` is a terminal.
        stream: takes it.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    is_json = not stream.isatty() if is_json is None else is_json
    handler.setFormatter(JsonFormatter() if is_json else TerminalFormatter())
    logging.basicConfig(handlers=[handler], level=_LEVELS[level], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(_LEVELS[level], logging.WARNING))
    # It warns of every request that it cannot read: anybody could fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


class _Formatter(logging.Formatter):
    """Formatter that shows the traceback of one defect at most once a minute.

    A client that provokes a defect with every request cannot fill the log with tracebacks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[_Place, float] = {}  # when each traceback was last shown
        self._omitted: dict[_Place, int] = {}  # how many were not, since then

    def error_of(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the fields `error`, `traceback` and `tracebacks_omitted` of a record, as far as it has them."""
        if not record.exc_info or record.exc_info[1] is None:
            return {}
        error, place = record.exc_info[1], _place_of(record.exc_info[1])
        fields: dict[str, object] = {
            "error": _discreet(f"{type(error).__name__}: {error}")[:_ERROR_LENGTH_MAX]
        }
        if 0 <= record.created - self._shown.get(place, -_SHOWN_SECONDS) < _SHOWN_SECONDS:
            self._omitted[place] = self._omitted.get(place, 0) + 1
            return fields
        if len(self._shown) >= _PLACES_MAX:
            self._shown.clear()
            self._omitted.clear()
        self._shown[place] = record.created
        fields["traceback"] = _discreet(self.formatException(record.exc_info))
        omitted = self._omitted.pop(place, 0)
        return {**fields, "tracebacks_omitted": omitted} if omitted else fields


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, object] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _discreet(record.getMessage()),
        }
        entry |= {name: value for name, value in _fields(record).items() if name not in entry}
        entry |= {name: value for name, value in self.error_of(record).items() if name not in entry}
        return msgspec.json.encode(entry, enc_hook=str).decode()


class TerminalFormatter(_Formatter):
    """Time, level and message, and the fields after it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        colour = _COLOURS.get(record.levelno, "31")
        told = self.error_of(record) | _fields(record)
        traceback = told.pop("traceback", None)
        fields = " ".join(f"{name}={value}" for name, value in told.items() if value != "")
        said = clean(_discreet(record.getMessage()))
        line = f"\033[2m{_time(record).astimezone():%H:%M:%S}\033[0m "
        line += f"\033[{colour}m{record.levelname.lower():7}\033[0m {said}"
        if fields:
            line += f"  \033[2m{clean(fields)}\033[0m"
        return line if traceback is None else f"{line}\n{traceback}"


def _place_of(error: BaseException) -> _Place:
    """Return the type of an error, and where it was raised: two errors that agree are taken for one defect."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error), "", 0
    return type(error), trace.tb_frame.f_code.co_filename, trace.tb_lineno


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _discreet(text: str) -> str:
    return _SECRET.sub(r"\1\2***", text)
