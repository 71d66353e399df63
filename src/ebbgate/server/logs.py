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


class JsonFormatter(logging.Formatter):
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
        if record.exc_info:
            entry["traceback"] = _discreet(self.formatException(record.exc_info))
        return msgspec.json.encode(entry, enc_hook=str).decode()


class TerminalFormatter(logging.Formatter):
    """Time, level and message, and the fields after it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        colour = _COLOURS.get(record.levelno, "31")
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items() if value != "")
        said = clean(_discreet(record.getMessage()))
        line = f"\033[2m{_time(record).astimezone():%H:%M:%S}\033[0m "
        line += f"\033[{colour}m{record.levelname.lower():7}\033[0m {said}"
        if fields:
            line += f"  \033[2m{clean(fields)}\033[0m"
        if record.exc_info:
            line += "\n" + _discreet(self.formatException(record.exc_info))
        return line


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _discreet(text: str) -> str:
    return _SECRET.sub(r"\1\2***", text)
