"""One GET as a player sends it: the answer whatever its status, and the seconds that it took."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. seconds: from the request to the last byte of the body; 0 as status: no answer came."""

    status: int
    headers: Message
    body: bytes
    seconds: float

    def header(self, name: str) -> str:
        return str(self.headers.get(name, ""))


def get(url: str, timeout: float = TIMEOUT_SECONDS, **headers: str) -> Answer:
    """Fetches a URL; header names are written with "_" for "-"."""
    send = {"Accept-Encoding": "identity", **{name.replace("_", "-"): value for name, value in headers.items()}}
    began = time.monotonic()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=send), timeout=timeout) as reply:
            return Answer(reply.status, reply.headers, reply.read(), time.monotonic() - began)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read(), time.monotonic() - began)
    except (OSError, ValueError) as error:
        return Answer(0, Message(), str(error).encode(), time.monotonic() - began)
