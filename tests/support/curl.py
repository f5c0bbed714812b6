"""curl as an independent HTTP/2 client that reports the negotiated version."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import need


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. version: "2" or "1.1". headers: lower-case names; the last value of repeated ones."""

    status: int
    version: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def command(url: str, authority: Path, *options: str) -> list[str]:
    """The curl command that fetches `url` with this certificate authority, unbuffered, to stdout."""
    need("curl")
    return ["curl", "--silent", "--show-error", "--no-buffer", "--cacert", str(authority), *options, url]


def fetch(url: str, authority: Path, *options: str, http2: bool = True) -> Answer:
    """Sends one GET request. http2: offers HTTP/2 by ALPN."""
    told = "\\n%{json}\\n%{header_json}"
    offered = "--http2" if http2 else "--http1.1"
    options = (offered, "--max-time", "20", "--write-out", "%{stderr}" + told.replace("\\n", "\n"), *options)
    done = subprocess.run(command(url, authority, *options), capture_output=True, timeout=30, check=False)
    words = done.stderr.decode()
    assert done.returncode == 0, f"curl {url}: {words}"
    decoder = json.JSONDecoder()
    summary, end = decoder.raw_decode(words.lstrip())
    headers, _ = decoder.raw_decode(words.lstrip()[end:].lstrip())
    return Answer(
        int(summary["http_code"]),
        str(summary["http_version"]),
        {name: values[-1] for name, values in headers.items()},
        done.stdout,
    )
