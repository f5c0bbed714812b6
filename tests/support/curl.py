"""curl as an independent HTTP/2 client that reports the negotiated version."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.time_outs import at_most
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


async def received(url: str, authority: Path, *options: str) -> AsyncIterator[bytes]:
    """Yields the body of an answer as it arrives."""
    arguments = command(url, authority, *options)
    program = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert program.stdout is not None
    try:
        while data := await program.stdout.read(65536):
            yield data
    finally:
        program.kill()
        await program.wait()


def fetch(url: str, authority: Path, *options: str, http2: bool = True) -> Answer:
    """Sends one GET request. http2: offers HTTP/2 by ALPN."""
    told = "\\n%{json}\\n%{header_json}"
    offered = "--http2" if http2 else "--http1.1"
    options = (offered, "--max-time", "20", "--write-out", "%{stderr}" + told.replace("\\n", "\n"), *options)
    done = subprocess.run(command(url, authority, *options), capture_output=True, timeout=at_most(30), check=False)
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
