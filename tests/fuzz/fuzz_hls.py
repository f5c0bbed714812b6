"""HLS and DASH requests: any path and query get an answer that keeps the rules, and leave nothing behind."""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

from gateway.http.request import Request, RequestError
from gateway.http.response import Response
from gateway.playback import cmaf, hls
from tests.support import segmented
from tests.support.hls_rules import check, parse
from tests.support.segmented import Timetable

_LISTS = ("video/index.m3u8", "audio/index.m3u8", "master.m3u8", "manifest.mpd", "live.m3u8")
SEEDS = [
    b"\x00_HLS_msn=3&_HLS_part=1",
    b"\x00_HLS_msn=7&_HLS_part=0&_HLS_skip=YES&sign=1670371200-abc",
    b"\x01_HLS_skip=v2&_HLS_msn=99999999999",
    b"\x01_HLS_part=1&_HLS_msn=%31&a=b&_HLS_msn=2",
    b"\x02Policy=a-b_c~&Signature=%22%0a<>&Key-Pair-Id=K",
    b"\x03sign=1-a&x=%26amp;&y=]]>",
    b"\x04_HLS_msn=1&q=\"'\\",
    b"\x05video/1700000000-part-3.m4s",
    b"\x05audio/1700000000-init-1.mp4",
    b"\x051700000000000.ts",
]


class _Outputs:
    """Both packagers, always on, like `Outputs` once they run."""

    def __init__(self) -> None:
        ts, parts = segmented.ts(1.0, 4), segmented.cmaf(1.0, 4, 0.25)
        table = Timetable(seconds=7.4, gop=(30,))
        for packager in (ts, parts):
            segmented.feed(packager, table, end=False)
        self.made: dict[str, Any] = {"hls": ts, "cmaf": parts}

    def enabled(self, name: str) -> bool:
        return name in self.made

    def get(self, name: str) -> Any:
        return self.made[name]


_outputs = _Outputs()
_stream: Any = SimpleNamespace(name="c1", outputs=_outputs, output=_outputs.get, has_output=_outputs.enabled)


def fuzz(data: bytes) -> None:
    """The first byte chooses a playlist (the rest is its query) or a path of the rest."""
    text = data[1:].decode("latin-1")
    choice = data[0] if data else 0
    path, query = (_LISTS[choice % 6], text) if choice % 6 < 5 else (text.partition("?")[0], text.partition("?")[2])
    try:
        request = Request("GET", f"/c1/{path}", query, {"host": "a"})
    except RequestError:
        return
    rest = request.path.removeprefix("/c1/")
    ask = hls.hls if rest.endswith((".ts", "live.m3u8")) else cmaf.cmaf
    answer = ask(request, _stream, rest)
    if inspect.iscoroutine(answer):
        answer.close()  # a request that waits for what is to come
    elif isinstance(answer, Response):
        _judge(answer, query)
    assert len(_outputs.made["cmaf"].cache) < 100
    assert len(_outputs.made["hls"].cache) < 100


def _judge(answer: Response, query: str) -> None:
    assert answer.status in (200, 400, 404, 414), answer.status
    if answer.status != 200 or not isinstance(answer.body, bytes):
        return
    if "dash" in answer.content_type:
        ElementTree.fromstring(answer.body)
    if "mpegurl" not in answer.content_type:
        return
    assert len(answer.body) < 100_000 + 300 * len(query)
    playlist = answer.body.decode("ascii")
    assert all(c >= " " or c == "\n" for c in playlist)
    for uri in re.findall(r'^[^#\n].*|(?<=URI=")[^"]*', playlist, re.M):
        assert re.fullmatch(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]+", uri), uri
        assert not any(part.startswith("_HLS_") for part in uri.partition("?")[2].split("&")), uri
    if "#EXT-X-STREAM-INF" not in playlist:
        check(parse(playlist))
