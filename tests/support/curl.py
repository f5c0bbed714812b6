"""curl as the HTTP/2 client: a peer that is not ours, and says which version was spoken."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import need


@dataclass(frozen=True)
class Answer:
    """version: "2" or "1.1", as negotiated. headers: lower-case names; of a repeated one the last."""

    status: int
    version: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def command(url: str, authority: Path, *options: str) -> list[str]:
    """curl fetching `url` with TLS that this authority vouches for, unbuffered, to stdout."""
    need("curl")
    return ["curl", "--silent", "--show-error", "--no-buffer", "--cacert", str(authority), *options, url]


def fetch(url: str, authority: Path, *options: str, http2: bool = True) -> Answer:
    """One GET; http2: offered by ALPN beside HTTP/1.1."""
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
