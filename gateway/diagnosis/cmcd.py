"""Reads CMCD, the data that players send about their playback. No I/O.

CTA-5004 (version 1) and CTA-5004-B (version 2). Request mode: the query parameter `CMCD`, or the headers CMCD-Object,
CMCD-Request, CMCD-Session and CMCD-Status. Event mode: a line of the body of a POST.

Used keys: sid (session), sf (format), ot (kind of object), br and pb (kbit/s), bs and sta (the buffer was empty), bsd
(length of stalls since the last line), bsa and bsda (number and length of all stalls), su (start-up), msd (start-up
time), ltc (delay). Our own pages also send millrace-p (protocol), millrace-h (height) and millrace-page. All other keys
are ignored.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

MAX_CHARACTERS: Final = 1024  # of a line; a longer one is not read
_HEADERS: Final = ("cmcd-session", "cmcd-status", "cmcd-request", "cmcd-object")
_MAX_SESSION: Final = 64  # characters (CTA-5004-B)
# A string without an end reaches to the end of the line. Otherwise each quote would begin a search of the whole rest.
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)', re.DOTALL)
# The keys bs and su in a query. Hot path: a search for the plain letters comes first, which is faster.
_START_OR_STALL: Final = re.compile(r"(?:bs|su)(?:%2C|[,&]|\Z)")
_MAX_DIGITS: Final = 10
_TOKEN: Final = re.compile(r"[a-z]{1,16}", re.ASCII)


class Cmcd(NamedTuple):
    """The used values of one line. None: the player did not send it.

    session: a hash of the session id; the id itself is not kept. starting: the player still fills its buffer.
    starved: the buffer was empty since the last line. bitrate: of the picture, kbit/s. startup, latency: ms.
    stall_ms: of the stalls since the last line. stalls, stalled_ms: of the whole session.
    protocol, height, page: only from our own pages.
    """

    session: int
    format: str = ""  # h: HLS, d: DASH
    starting: bool = False
    starved: bool = False
    bitrate: int | None = None
    startup: int | None = None
    latency: int | None = None
    stall_ms: int | None = None
    stalls: int | None = None
    stalled_ms: int | None = None
    protocol: str = ""
    height: int | None = None
    page: str = ""


def is_start_or_stall(raw_query: str, headers: dict[str, str]) -> bool:
    """Returns whether a request reports a start or an empty buffer. Other requests only repeat values."""
    if "CMCD=" in raw_query:
        return ("bs" in raw_query or "su" in raw_query) and _START_OR_STALL.search(raw_query) is not None
    return "cmcd-status" in headers or "su" in headers.get("cmcd-request", "")


def read_query(raw_query: str) -> Cmcd | None:
    """Reads the parameter `CMCD` of a query as sent; None if it has none, or no session. Hot path."""
    start = raw_query.find("CMCD=")
    if start < 0 or (start and raw_query[start - 1] != "&"):
        return None
    end = raw_query.find("&", start)
    text = raw_query[start + 5 :] if end < 0 else raw_query[start + 5 : end]
    if len(text) > 3 * MAX_CHARACTERS:
        return None
    text = text.replace("%2C", ",").replace("%3D", "=").replace("%22", '"')
    if "%" in text:
        # Faster than unquote. No used value has other escapes.
        text = text.replace("%20", " ").replace("%3B", ";").replace("%28", "(").replace("%29", ")").replace("%5C", "\\")
        if 'sid="' not in text:
            text = unquote(text)
    return parse(text)


def read_headers(headers: dict[str, str]) -> Cmcd | None:
    """Reads the four headers; None if there is no session. headers: names are lower case. Hot path."""
    return parse(",".join([headers[name] for name in _HEADERS if name in headers]))


def parse(line: str) -> Cmcd | None:
    """Reads one line: keys and values, separated by commas. None if it has no session id or is too long. Hot path.

    It searches the few used keys, which is three times faster than to split the line.
    """
    if len(line) > MAX_CHARACTERS:
        return None
    text = f",{line},"
    if ", " in text:
        text = text.replace(", ", ",")
    start = text.find(',sid="')
    end = text.find('"', start + 6)
    if start < 0 or not 0 < end - start - 6 <= _MAX_SESSION:
        return None
    session = hash(text[start + 6 : end])
    text = text[:start] + text[end + 1 :]
    if '"' in text:  # other texts of the player (cid, nor) could look like keys
        text = _unquoted(text)
    is_picture = ",ot=a" not in text
    bitrate = _number(text, ",br=") if is_picture else None
    format = "h" if ",sf=h," in text else "d" if ",sf=d," in text else ""
    if ",v=" not in text:
        return Cmcd(session, format, ",su," in text, ",bs," in text, bitrate)
    playhead = _number(text, ",pb=")
    return Cmcd(
        session,
        format,
        ",su," in text or ",sta=s," in text,
        ",bs," in text,
        playhead if playhead is not None else bitrate,
        _number(text, ",msd="),
        _number(text, ",ltc="),
        _number(text, ",bsd="),
        _number(text, ",bsa="),
        _number(text, ",bsda="),
        _token(text, ",millrace-p="),
        _number(text, ",millrace-h="),
        _token(text, ",millrace-page="),
    )


def _number(text: str, key: str) -> int | None:
    """Returns the number after a key; the largest one of a list such as `(3000;v 128;a)`."""
    start = text.find(key)
    if start < 0:
        return None
    start += len(key)
    value = text[start : text.find(",", start)]
    if value.isdecimal():
        return int(value) if len(value) < _MAX_DIGITS else None
    if not value.startswith("("):
        value = value.partition(".")[0]
        return int(value) if value.isdecimal() and len(value) < _MAX_DIGITS else None
    found = [item.partition(";")[0] for item in value[1:-1].split(" ")]
    return max([int(item) for item in found if item.isdecimal() and len(item) < _MAX_DIGITS], default=None)


def _unquoted(text: str) -> str:
    """Returns the text without its strings."""
    if "\\" in text:
        return _QUOTED.sub("", text)
    parts = text.split('"')
    return "".join(parts[::2])


def _token(text: str, key: str) -> str:
    start = text.find(key)
    found = _TOKEN.match(text, start + len(key)) if start >= 0 else None
    return found[0] if found is not None else ""
