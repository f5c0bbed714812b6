"""Logs: one line per event, for people or programs. Masks secrets. A channel may have its own level."""

import json
import logging
import math
import os
import select
import sys
import time
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.exceptions import DropEvent

from gateway.lib.log_rate_limiter import LogRateLimiter
from gateway.lib.redact import mask, masked
from gateway.lib.rfc3339 import rfc3339

Format = Literal["auto", "console", "json"]
EventDict = MutableMapping[str, Any]

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}  # as in the module logging
_NUMBER: Final = {**LEVELS, "critical": 50}
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
# Anybody can cause any number of these events: one connection or request causes one.
FROM_STRANGERS: Final = frozenset(
    (
        *("bearer token refused", "connection dropped", "connection refused", "play refused", "playback refused"),
        *("push refused", "sign-in refused", "WHEP viewer changes", "WHEP viewer joins", "WHEP viewer left"),
        *("MoQ viewer joins", "MoQ viewer left", "MoQ viewer refused", "a stream cannot be looked up"),
    )
)
_MAX_FROM_STRANGERS: Final = 20  # lines a second of each of these events
_MAX_FRAMES = 12
_MAX_TEXT = 4000


class Levels:
    """The minimum levels of printed lines: a general one, and others for some channels.

    floor: the lowest of them. Each call is compared with it first, because that is cheap.
    """

    def __init__(self) -> None:
        self._general = logging.INFO
        self._channels: dict[str, int] = {}
        self.floor = logging.INFO

    def set_general(self, name: str) -> None:
        """Sets the level of lines without a channel level. Raises KeyError if `name` is unknown."""
        self._general = LEVELS[name]
        self._update_floor()

    @property
    def name(self) -> str:
        """The general level: one of LEVELS."""
        return next(name for name, level in LEVELS.items() if level == self._general)

    def set_channel(self, id: str, name: str | None) -> None:
        """Sets the level of a live channel. None or an unknown name: the general level."""
        level = LEVELS.get(name) if name else None
        if level is None:
            self._channels.pop(id, None)
        else:
            self._channels[id] = level
        self._update_floor()

    def of(self, event: Mapping[str, Any]) -> int:
        """Returns the level for a line: of its `channel`, or of the channel of its `stream`."""
        if not self._channels:
            return self._general
        name = event.get("channel") or event.get("stream")
        if not isinstance(name, str):
            return self._general
        return self._channels.get(name.partition("@")[0], self._general)

    def _update_floor(self) -> None:
        self.floor = min(self._general, *self._channels.values()) if self._channels else self._general


levels = Levels()


class Logger(structlog.BoundLoggerBase):
    """The class of the loggers from `structlog.get_logger`. A call below the floor costs one comparison."""

    def debug(self, event: str, **fields: Any) -> Any:
        return self._proxy_to_logger("debug", event, **fields) if levels.floor <= logging.DEBUG else None

    def info(self, event: str, **fields: Any) -> Any:
        return self._proxy_to_logger("info", event, **fields) if levels.floor <= logging.INFO else None

    def warning(self, event: str, **fields: Any) -> Any:
        return self._proxy_to_logger("warning", event, **fields) if levels.floor <= logging.WARNING else None

    def error(self, event: str, **fields: Any) -> Any:
        return self._proxy_to_logger("error", event, **fields) if levels.floor <= logging.ERROR else None

    def exception(self, event: str, **fields: Any) -> Any:
        """Logs an error with the current exception."""
        fields.setdefault("exc_info", True)
        return self.error(event, **fields)


class _Lines:
    """Writes lines to the configured stream. Ignores write errors: disk full, reader closed.

    A line for which a pipe, a terminal or a disk has no room is dropped. A write to a pipe would wait for its reader,
    and all streams with it: a program that collects logs may hang, and a terminal may be paused.
    """

    out: TextIO | None = None
    unread = 0  # lines that were dropped
    rest = b""  # of a line whose begin is on the disk; without it, the next line would be no line of its own

    def __init__(self, *names: object) -> None:
        pass

    def msg(self, line: str) -> None:
        try:
            if not _write(_Lines.out or sys.stderr, line + "\n"):
                _Lines.unread += 1
                return
        except ValueError:  # the stream is closed. The log cannot report its own error
            return
        if _Lines.unread:
            unread, _Lines.unread = _Lines.unread, 0
            structlog.get_logger(__name__).warning("lines of the log could not be written", left_out=unread)
            if _Lines.unread:  # this line was dropped, too
                _Lines.unread = unread

    debug = info = warning = error = critical = msg


def _write(out: TextIO, line: str) -> bool:
    """Returns whether the line was written, or its begin: then the rest follows at the next call."""
    try:
        number = out.fileno()
    except OSError:  # it is in memory
        out.write(line)
        return True
    waiting = select.poll()
    waiting.register(number, select.POLLOUT)
    if not waiting.poll(0):
        return False
    for is_rest, data in (True, _Lines.rest), (False, line.encode(out.encoding, "backslashreplace")):
        unwritten = data
        try:
            while unwritten:
                unwritten = unwritten[os.write(number, unwritten) :]
        except OSError:
            if is_rest or unwritten != data:
                _Lines.rest = unwritten
            return not is_rest and unwritten != data
        _Lines.rest = b""
    return True


_processors: list[Any] = []  # changed in place, because cached loggers refer to it


def configure(
    level: str = "info", format: Format = "auto", out: TextIO | None = None, fields: Mapping[str, str] | None = None
) -> None:
    """Sets the level, format and stream of the lines. It may be called again.

    level: one of LEVELS.
    format: auto is console on a terminal, otherwise json.
    out: default: the value of sys.stderr at each line.
    fields: added to every line.
    Records of the module logging are printed too.
    """
    constant = dict(fields or {})
    levels.set_general(level)
    _Lines.out = out
    stream = out or sys.stderr
    terminal = stream.isatty()
    people = format == "console" or (format == "auto" and terminal)
    colour = terminal and not os.environ.get("NO_COLOR")
    _processors[:] = [
        structlog.contextvars.merge_contextvars,
        drop_below_level,
        partial(limit_strangers, {name: LogRateLimiter(_MAX_FROM_STRANGERS) for name in FROM_STRANGERS}),
        *([lambda logger, method, event: {**event, **constant}] if constant else []),
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
    # Libraries log only warnings and errors: lower levels do not help operators, and boto prints credentials there.
    root.setLevel(max(logging.WARNING, LEVELS[level]))


class LibraryLogHandler(logging.Handler):
    """Prints the log records of libraries (asyncio, aiohttp …) as lines of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        try:
            event: Any = {"event": record.getMessage(), **fields}
            for processor in _processors:
                event = processor(None, level if level in _NUMBER else "info", event)
        except DropEvent:
            return
        except Exception as error:  # a broken format string of a library must not raise
            event = f"unprintable log record of {record.name}: {type(error).__name__}"
        _Lines().msg(event)


# ---- processors, in their order ----


def drop_below_level(logger: object, method: str, event: EventDict) -> EventDict:
    """Drops lines below the level of their channel. The channel may be a bound field, which is known only here."""
    if _NUMBER[method] < levels.of(event):
        raise DropEvent
    event["level"] = method
    return event


def limit_strangers(limiters: Mapping[str, LogRateLimiter], logger: object, method: str, event: EventDict) -> EventDict:
    """Drops lines of FROM_STRANGERS above their limit, so that they do not fill the disk. `left_out` counts them."""
    limiter = limiters.get(event.get("event", ""))
    if limiter is None:
        return event
    left_out = limiter.admit()
    if left_out is None:
        raise DropEvent
    return {**event, **left_out}


def shorten_exception(logger: object, method: str, event: EventDict) -> EventDict:
    """Replaces `exc_info` with `exception`: the error and its traceback, innermost call first, on one line."""
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
    first = {"time": rfc3339(time.time()), "level": event.pop("level", method), "event": event.pop("event", "")}
    return json.dumps({**first, **_finite(event)}, default=str, ensure_ascii=True, separators=(",", ":"))


def for_people(logger: object, method: str, event: EventDict, *, colour: bool = False) -> str:
    """Returns a line such as `12:30:01 info     publisher taken over  stream=… peer=…`."""
    level = str(event.pop("level", method))
    text = _plain(str(event.pop("event", "")), quote=False)
    fields = " ".join(f"{_plain(str(name))}={_plain(_text(value))}" for name, value in event.items())
    label = f"\x1b[{_COLOURS.get(level, '0')}m{level:<8}\x1b[0m" if colour else f"{level:<8}"
    return f"{datetime.now().astimezone():%H:%M:%S} {label} {text}" + (f"  {fields}" if fields else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _plain(text: str, quote: bool = True) -> str:
    """Escapes control characters. Clients choose parts of a line, but must not start lines or control a terminal."""
    if text.isprintable() and not (quote and (not text or " " in text or '"' in text or "=" in text)):
        return text
    escaped = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return '"' + escaped.replace('"', '\\"') + '"' if quote else escaped


def _finite(value: Any) -> Any:
    """Replaces NaN and infinity with text. They are not valid JSON, and log collectors would refuse the line."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def compact(error: BaseException) -> str:
    """Returns an error and its causes in one bounded line.

    Example: `KeyError: 'x' (live/hub.py:12 publish < http/server.py:80 receive)`.
    """
    parts: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen and len(parts) < 4:
        seen.add(id(cause))
        message = " ".join(str(cause).split())
        part = f"{type(cause).__name__}: {message}" if message else type(cause).__name__
        if isinstance(cause, BaseExceptionGroup) and cause.exceptions:
            part += f" [{'; '.join(compact(e) for e in cause.exceptions[:4])}]"
        if calls := _calls(cause.__traceback__):
            part += f" ({calls})"
        parts.append(part)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " from ".join(parts)[:_MAX_TEXT]


def _calls(traceback: TracebackType | None) -> str:
    calls: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        calls.append(f"{'/'.join(PurePath(code.co_filename).parts[-2:])}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return " < ".join(reversed(calls[-_MAX_FRAMES:]))
