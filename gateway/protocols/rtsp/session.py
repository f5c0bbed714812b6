"""The state of a server's RTSP session (RFC 2326 appendix A.2), and which methods it allows."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

PUBLIC: Final = "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
TIMEOUT: Final = 60  # seconds without a sign of life, after which a session over UDP ends (§12.37)
_TRACK: Final = re.compile(r"[/?&;]?trackID=([0-9])\b")
_MAX_URL: Final = 2_048
_MAX_FIELDS: Final = 16


class State(Enum):
    """INIT: nothing is agreed. DESCRIBED, ANNOUNCED: a play or a push was allowed. READY: tracks are set up.

    PAUSED: a player that gets nothing, and keeps its tracks.
    """

    INIT = auto()
    DESCRIBED = auto()
    ANNOUNCED = auto()
    READY_TO_PLAY = auto()
    READY_TO_RECORD = auto()
    PLAYING = auto()
    PAUSED = auto()
    RECORDING = auto()


# The state after an accepted request. PLAY of a player that plays changes nothing: some repeat it as a sign of life.
TRANSITIONS: Final = {
    State.INIT: {"DESCRIBE": State.DESCRIBED, "ANNOUNCE": State.ANNOUNCED, "SETUP": State.READY_TO_PLAY},
    State.DESCRIBED: {"DESCRIBE": State.DESCRIBED, "SETUP": State.READY_TO_PLAY},
    State.ANNOUNCED: {"SETUP": State.READY_TO_RECORD},
    State.READY_TO_PLAY: {"SETUP": State.READY_TO_PLAY, "PLAY": State.PLAYING},
    State.READY_TO_RECORD: {"SETUP": State.READY_TO_RECORD, "RECORD": State.RECORDING},
    State.PLAYING: {"PLAY": State.PLAYING, "PAUSE": State.PAUSED},
    State.PAUSED: {"SETUP": State.READY_TO_PLAY, "PLAY": State.PLAYING},
    State.RECORDING: {"RECORD": State.RECORDING},
}
KEEP_ALIVES: Final = frozenset({"OPTIONS", "GET_PARAMETER", "SET_PARAMETER"})
_KNOWN: Final = KEEP_ALIVES.union(*TRANSITIONS.values(), ("TEARDOWN",))


def refusal(state: State, method: str) -> str:
    """Returns the status for a method that this state does not allow; "": it is allowed.

    `PAUSE` is allowed, but not offered: ffmpeg asks for it when no packet came over UDP, and sets up its tracks anew.
    """
    if method not in _KNOWN:
        return "501 Not Implemented"
    if method in KEEP_ALIVES or method == "TEARDOWN" or method in TRANSITIONS[state]:
        return ""
    if method == "PAUSE":
        return "405 Method Not Allowed: only a player that plays can pause"
    return "455 Method Not Valid in This State"


@dataclass(frozen=True, slots=True)
class RtspTarget:
    """The stream and the track of a request. name: of the stream. track: its number; None: the whole session.

    base: the address without query and track, to which clients append the track.
    """

    name: str
    query: dict[str, str]
    track: int | None
    base: str


def read_target(url: str) -> RtspTarget | None:
    """Reads the address of a request: `rtsp://host:8554/<id>[@<rendition>][?sign=…]`; None if it is malformed.

    Clients append `trackID=…` behind the path or behind the query. A folder `stream` before the name is allowed, as in
    addresses of RTMP. So is `live`, the folder of other servers.
    """
    if len(url) > _MAX_URL or not url.isprintable():
        return None
    found = _TRACK.search(url)
    track = int(found[1]) if found else None
    if found:
        url = url[: found.start()] + url[found.end() :]
    try:
        parts = urlsplit(url)
        fields = dict(parse_qsl(parts.query.strip("/"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        return None
    if parts.scheme.lower() not in ("rtsp", "rtsps") or not parts.netloc:
        return None
    path = parts.path.strip("/")
    name = unquote(path.removeprefix("stream/").removeprefix("live/"))
    host = parts.netloc.rpartition("@")[2]
    return RtspTarget(name, fields, track, f"{parts.scheme}://{host}/{path}")
