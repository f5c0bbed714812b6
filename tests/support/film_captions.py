"""Films of a running gateway, and captions that are sent to them."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.gateway import Gateway, Reply
from tests.support.time_outs import at_most


def uploaded_film(gateway: Gateway, film: Path) -> str:
    """Uploads a film, and returns its key when it is ready."""
    offer = gateway.api("POST", "/uploads", {"name": "clip.mp4"}).json()
    sent = urllib.request.Request(
        offer["url"], data=film.read_bytes(), headers=offer["headers"], method=offer["method"]
    )
    with urllib.request.urlopen(sent, timeout=at_most(30)):
        pass
    key = str(offer["key"]).removesuffix(".mp4")
    end = time.monotonic() + at_most(90)
    while (shown := gateway.api("GET", f"/films/{key}").json()).get("state") != "READY":
        assert time.monotonic() < end, shown
        time.sleep(0.2)
    return key


def send_captions(gateway: Gateway, path: str, data: bytes) -> Reply:
    """Sends a file to `/filmcaptions/<path>`."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.ports['admin']}/filmcaptions/{path}",
        data=data, headers={"Authorization": f"Bearer {gateway.token}", "Content-Type": "text/vtt"}, method="PUT",
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=at_most(15)) as reply:
            return Reply(reply.status, {}, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, {}, error.read())
