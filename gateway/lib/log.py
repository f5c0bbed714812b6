"""Logs: one line per event, for people or machines. Secrets are masked. A channel may have its own level."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.exceptions import DropEvent

from gateway.lib.redact import mask, masked

Format = Literal["auto", "console", "json"]
EventDict = MutableMapping[str, Any]

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_NUMBER: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_MAX_FRAMES = 12
_MAX_TEXT = 4000


class Levels:
    """The levels from which lines are printed: one for all lines, and others for some channels.

    `floor` is the lowest of them. Each call is compared with it first, to be cheap.
    """

    def __init__(self) -> None:
        self._general = logging.INFO
        self._channels: dict[str, int] = {}
        self.floor = logging.INFO

    def general(self, name: str) -> None:
        """Sets the level of lines without a channel level. Raises KeyError for an unknown name."""
        self._general = LEVELS[name]
        self._settle()

    @property
    def name(self) -> str:
        """The general level, one of LEVELS."""
        return next(name for name, level in LEVELS.items() if level == self._general)

    def channel(self, id: str, name: str | None) -> None:
        """Sets the level of a channel while it is live. None or an unknown name: the general level."""
        level = LEVELS.get(name) if name else None
        if level is None:
            self._channels.pop(id, None)
        else:
            self._channels[id] = level
        self._settle()

    def of(self, event: Mapping[str, Any]) -> int:
        """Returns the level for a line: that of its `channel`, or of the channel of its `stream`."""
        if not self._channels:
            return self._general
        name = event.get("channel") or event.get("stream")
        if not isinstance(name, str):
            return self._general
        return self._channels.get(name.partition("@")[0], self._general)

    def _settle(self) -> None:
        self.floor = min(self._general, *self._channels.values()) if self._channels else self._general


levels = Levels()


class Logger(structlog.BoundLoggerBase):
    """The class that `structlog.get_logger` returns. A call below the floor costs one comparison."""

    def debug(self, event: str, **words: Any) -> Any:
        return self._proxy_to_logger("debug", event, **words) if levels.floor <= logging.DEBUG else None

    def info(self, event: str, **words: Any) -> Any:
        return self._proxy_to_logger("info", event, **words) if levels.floor <= logging.INFO else None

    def warning(self, event: str, **words: Any) -> Any:
        return self._proxy_to_logger("warning", event, **words) if levels.floor <= logging.WARNING else None

    def error(self, event: str, **words: Any) -> Any:
        return self._proxy_to_logger("error", event, **words) if levels.floor <= logging.ERROR else None

    def exception(self, event: str, **words: Any) -> Any:
        """Logs an error with the exception that is being handled."""
        words.setdefault("exc_info", True)
        return self.error(event, **words)


class _Lines:
    """Writes lines to the configured stream. A failure to write (disk full, reader gone) is ignored."""

    out: TextIO | None = None

    def __init__(self, *names: object) -> None:
        pass

    def msg(self, line: str) -> None:
        out = _Lines.out or sys.stderr
        try:
            out.write(line + "\n")
            out.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed; the failure cannot be logged either
            return

    debug = info = warning = error = critical = msg


_processors: list[Any] = []  # changed in place: loggers cached on first use keep a reference


def configure(
    level: str = "info",
    format: Format = "auto",
    out: TextIO | None = None,
    words: Mapping[str, str] | None = None,
) -> None:
    """Sets where and how lines are printed. It may be called again.

    level: one of LEVELS.
    format: auto is console on a terminal, json elsewhere.
    out: default stderr, looked up for each line.
    words: fields for every line.
    Standard logging is printed in the same way.
    """
    fixed = dict(words or {})
    levels.general(level)
    _Lines.out = out
    stream = out or sys.stderr
    terminal = stream.isatty()
    people = format == "console" or (format == "auto" and terminal)
    colour = terminal and not os.environ.get("NO_COLOR")
    _processors[:] = [
        structlog.contextvars.merge_contextvars,
        drop_below_level,
        *([lambda logger, method, event: {**event, **fixed}] if fixed else []),
        shorten_exception,
        mask_secrets,
        partial(for_people, colour=colour) if people else for_machines,
    ]
    structlog.configure(
        processors=_processors, wrapper_class=Logger, logger_factory=_Lines, cache_logger_on_first_use=True
    )
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, LibraryLogHandler)]:
        root.removeHandler(handler)
    root.addHandler(LibraryLogHandler())
    # Libraries log from warning on: lower levels do not help operators, and boto prints credentials there.
    root.setLevel(max(logging.WARNING, LEVELS[level]))


class LibraryLogHandler(logging.Handler):
    """Prints the log records of libraries (asyncio, aiohttp …) as lines of the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        words: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            words["exc_info"] = record.exc_info
        try:
            event: Any = {"event": record.getMessage(), **words}
            for processor in _processors:
                event = processor(None, level if level in _NUMBER else "info", event)
        except DropEvent:
            return
        except Exception as error:  # a broken format string of a library must not fail here
            event = f"unprintable log record of {record.name}: {type(error).__name__}"
        _Lines().msg(event)


# ---- processors, in their order ----


def drop_below_level(logger: object, method: str, event: EventDict) -> EventDict:
    """Drops lines below the level of their channel. The channel is known only here."""
    if _NUMBER[method] < levels.of(event):
        raise DropEvent
    event["level"] = method
    return event


def shorten_exception(logger: object, method: str, event: EventDict) -> EventDict:
    """Replaces `exc_info` with `exception`: the error and its places, innermost first, on one line."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = compact(error)
    return event


def mask_secrets(logger: object, method: str, event: EventDict) -> EventDict:
    """Masks secrets in every name and value."""
    return {mask(str(name)): masked(str(name), value) for name, value in event.items()}


def for_machines(logger: object, method: str, event: EventDict) -> str:
    """Returns one JSON object, with the time first."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    first = {"time": now, "level": event.pop("level", method), "event": event.pop("event", "")}
    return json.dumps({**first, **_finite(event)}, default=str, ensure_ascii=True, separators=(",", ":"))


def for_people(logger: object, method: str, event: EventDict, *, colour: bool = False) -> str:
    """Returns a line such as `12:30:01 info     publisher taken over  stream=… peer=…`."""
    level = str(event.pop("level", method))
    what = _plain(str(event.pop("event", "")), quote=False)
    words = " ".join(f"{_plain(str(name))}={_plain(_text(value))}" for name, value in event.items())
    shown = f"\x1b[{_COLOURS.get(level, '0')}m{level:<8}\x1b[0m" if colour else f"{level:<8}"
    return f"{datetime.now().astimezone():%H:%M:%S} {shown} {what}" + (f"  {words}" if words else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _plain(text: str, quote: bool = True) -> str:
    """Escapes control characters. Clients choose parts of a line: they must not start a line or control a terminal."""
    if text.isprintable() and not (quote and (not text or " " in text or '"' in text or "=" in text)):
        return text
    escaped = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return '"' + escaped.replace('"', '\\"') + '"' if quote else escaped


def _finite(value: Any) -> Any:
    """Replaces NaN and infinity with text. JSON has neither, and log collectors would refuse the line."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def compact(error: BaseException) -> str:
    """Returns `KeyError: 'x' (live/hub.py:12 publish < http/server.py:80 receive)`, then the cause. One line,
    bounded.
    """
    parts: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen and len(parts) < 4:
        seen.add(id(cause))
        said = " ".join(str(cause).split())
        what = f"{type(cause).__name__}: {said}" if said else type(cause).__name__
        if isinstance(cause, BaseExceptionGroup) and cause.exceptions:
            what += f" [{'; '.join(compact(e) for e in cause.exceptions[:4])}]"
        if places := _places(cause.__traceback__):
            what += f" ({places})"
        parts.append(what)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " from ".join(parts)[:_MAX_TEXT]


def _places(traceback: TracebackType | None) -> str:
    places: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{'/'.join(PurePath(code.co_filename).parts[-2:])}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return " < ".join(reversed(places[-_MAX_FRAMES:]))
