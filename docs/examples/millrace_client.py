#!/usr/bin/env python3
"""A client of the admin API. It creates a channel, waits for a push, records it and lists the recordings.

It needs only Python 3.11. Run it and give the printed address to an encoder:

    MILLRACE_TOKEN=… python millrace_client.py --seconds 20

Copy the class `Millrace` into your own program, or import it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any, Literal, NotRequired, TypedDict, cast
from urllib.parse import quote, urlencode


class Channel(TypedDict):
    """A channel to push to. `pushUrls` has an address for each protocol, `playUrls` for each output that is on."""

    id: str
    key: str
    outdate: str
    expired: bool
    pushUrl: str
    obsServer: str
    obsKey: str
    pushUrls: dict[str, str]
    playUrls: dict[str, str]
    videoname: NotRequired[str]


class Output(TypedDict):
    name: str
    enabled: bool
    state: str
    error: str | None


class Session(TypedDict):
    """The live session of a channel. bitrate: media bits a second; viewers: by protocol."""

    id: str
    state: Literal["live", "lingering", "idle"]
    since: str | None
    bitrate: int
    viewers: dict[str, int]
    outputs: list[Output]


class Recording(TypedDict):
    """A stored file. size: bytes; seconds: of media, None if not known."""

    key: str
    kind: str
    start: str
    seconds: float | None
    size: int
    url: str


class MillraceError(Exception):
    """A refusal, or no answer (status 0). field: the wrong field of the request; retry_after: seconds."""

    def __init__(self, status: int, reason: str, field: str = "", retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status, self.field, self.retry_after = status, field, retry_after


class Millrace:
    """The admin API at `base`, such as `http://127.0.0.1:8000`. Every method raises MillraceError."""

    def __init__(self, base: str, token: str, timeout: float = 15.0) -> None:
        if not base.startswith(("http://", "https://")):
            raise ValueError(f"{base!r} is no http:// or https:// address")
        self._base = base.rstrip("/")
        self._token = token
        self._timeout = timeout

    def create(self, name: str, until: datetime, **fields: Any) -> Channel:
        """Creates a channel that may be pushed until `until`. fields: `isHls=True`, `isVideo=True` and so on."""
        body = {"videoname": name, "isFlv": True, "outdate": until.astimezone(UTC).isoformat(), **fields}
        return cast(Channel, self._ask("POST", "/videostream", body))

    def channels(self) -> list[Channel]:
        return cast(list[Channel], self._ask("GET", "/videostream"))

    def delete(self, id: str, media: str = "keep") -> None:
        """Deletes the channel, revokes its key and ends its push.

        media: "keep" keeps the recordings with their protection, "delete" deletes them.
        """
        self._ask("DELETE", f"/videostream/{quote(id)}?{urlencode({'media': media})}")

    def media(self, id: str, limit: int = 50) -> list[Recording]:
        """The kept media of a deleted channel, the newest first."""
        return cast(list[Recording], self._ask("GET", f"/media?{urlencode({'channel': id, 'limit': limit})}"))

    def delete_media(self, id: str) -> None:
        """Deletes the kept media of a deleted channel. Large deletions continue in the background."""
        self._ask("DELETE", f"/media?{urlencode({'channel': id})}")

    def session(self, id: str) -> Session:
        return cast(Session, self._ask("GET", f"/videostream/{quote(id)}/session"))

    def wait_until_live(self, id: str, seconds: float, every: float = 1.0) -> Session:
        """Waits until somebody pushes and returns the session. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while (session := self.session(id))["state"] != "live":
            if time.monotonic() >= end:
                raise TimeoutError(f"nobody pushed to {id} within {seconds:g} s")
            time.sleep(min(every, max(0.0, end - time.monotonic())))
        return session

    def switch(self, id: str, output: str, enabled: bool) -> None:
        """Switches an output of a live stream, until the stream ends.

        output: `video` records MP4, `image` takes snapshots, `ondemand` records HLS.
        """
        self._ask("POST", f"/videostream/{quote(id)}/outputs/{quote(output)}", {"enabled": enabled})

    def recordings(self, id: str, limit: int = 50) -> list[Recording]:
        """The recordings of a channel, the newest first."""
        return cast(
            list[Recording], self._ask("GET", f"/videostream/{quote(id)}/recordings?{urlencode({'limit': limit})}")
        )

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise _error(refusal) from None
        except (OSError, HTTPException, ValueError) as trouble:
            raise MillraceError(0, f"{self._base} does not answer as it should: {trouble}") from trouble


def _error(refusal: urllib.error.HTTPError) -> MillraceError:
    try:
        said = json.loads(refusal.read())
    except (OSError, HTTPException, ValueError):
        said = None  # the answer of a proxy
    if not isinstance(said, dict):
        said = {}
    wait = refusal.headers.get("Retry-After", "")
    reason = str(said.get("error", refusal.reason))
    return MillraceError(refusal.code, reason, str(said.get("field", "")), float(wait) if wait.isdecimal() else None)


def demonstrate(millrace: Millrace, seconds: float, patience: float) -> int:
    """Creates a channel, records its push and deletes it. Returns 0 if there is a recording."""
    channel = millrace.create("Example", datetime.now(UTC) + timedelta(hours=1), isHls=True, isCMAF=True)
    id = channel["id"]
    try:
        print(f"push to   {channel['pushUrl']}", flush=True)
        print(f"or to     {channel['pushUrls']['srt']}", flush=True)
        for name, address in channel["playUrls"].items():
            print(f"{name:9} {address}", flush=True)
        print("waiting for the push …", flush=True)
        session = millrace.wait_until_live(id, patience)
        print(f"live since {session['since']}; recording for {seconds:g} s …", flush=True)
        millrace.switch(id, "video", True)
        time.sleep(seconds)
        millrace.switch(id, "video", False)
        found = _recorded(millrace, id)
        for recording in found:
            length = f"{recording['seconds']:.1f} s" if recording["seconds"] is not None else "?"
            print(f"recorded  {length}, {recording['size']} bytes: {recording['url']}", flush=True)
        return 0 if found else 1
    finally:
        millrace.delete(id)
        print("the channel is deleted", flush=True)


def _recorded(millrace: Millrace, id: str) -> list[Recording]:
    """The recordings, once their files are finished and stored. Waits up to 30 s."""
    end = time.monotonic() + 30
    while not (found := millrace.recordings(id)) and time.monotonic() < end:
        time.sleep(0.5)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Create a channel, record what is pushed to it, and delete it.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the admin listener (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to record (%(default)s)")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to wait for the push (%(default)s)")
    options = parser.parse_args()
    token = os.environ.get("MILLRACE_TOKEN", "")
    if not token:
        print("set MILLRACE_TOKEN to the admin token", file=sys.stderr)
        return 2
    try:
        return demonstrate(Millrace(options.url, token), options.seconds, options.patience)
    except MillraceError as error:
        print(f"refused ({error.status}): {error}" if error.status else str(error), file=sys.stderr)
    except (TimeoutError, ValueError) as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
