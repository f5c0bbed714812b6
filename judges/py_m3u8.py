"""The PyPI parser `m3u8` on a channel's playlists; runs in the environment that `make judges` installs it into.

python -m judges.py_m3u8 BASE     prints `BROKEN rule: example` lines; exit 1 where there are any
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from typing import Any

import m3u8  # type: ignore[import-untyped]


def main(base: str) -> int:
    broken: list[str] = []
    addresses = [f"{base}/master.m3u8", f"{base}/live.m3u8"]
    read = 0
    while addresses:
        url = addresses.pop(0)
        try:
            with urllib.request.urlopen(url, timeout=20) as reply:
                text = reply.read().decode()
        except urllib.error.HTTPError as error:
            print(f"NOTE {url.rpartition('/')[2]}: {error.code}")
            continue
        playlist = parse(text, url, broken)
        read += playlist is not None
        if playlist is not None and playlist.is_variant:
            addresses += {one.absolute_uri for one in playlist.playlists}
            addresses += {one.absolute_uri for one in playlist.media if one.uri}
    if not read:
        broken.append("a playlist is available")
    print(f"NOTE playlists read: {read}")
    for line in broken:
        print(f"BROKEN {line}")
    return bool(broken)


def parse(text: str, url: str, broken: list[str]) -> Any:
    """Reads a playlist and what the parser writes of it: both list the same segments."""
    try:
        playlist = m3u8.loads(text, uri=url)
        again = m3u8.loads(playlist.dumps(), uri=url)
    except Exception as error:  # whatever the parser says of a playlist
        broken.append(f"m3u8 reads the playlist: {url} {error!r}")
        return None
    listed, kept = ([(segment.uri, segment.duration) for segment in one.segments] for one in (playlist, again))
    if listed != kept:
        broken.append(f"what m3u8 writes back lists the same segments: {url}")
    return playlist


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
