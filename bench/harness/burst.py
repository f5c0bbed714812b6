"""A burst: many connections that ask the same thing in the same moment."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.harness.procs import BenchError


@dataclass(frozen=True, slots=True)
class Burst:
    """What came back: answers by status, different bodies, milliseconds until each answer's end."""

    statuses: Counter[int]
    bodies: int
    milliseconds: list[float]


def burst(url: str, n: int, seconds: float = 30) -> Burst:
    """Opens n connections, then sends the request on all of them at once."""
    return asyncio.run(_burst(url, n, seconds))


async def _burst(url: str, n: int, seconds: float) -> Burst:
    u = urlsplit(url)
    target = u.path + (f"?{u.query}" if u.query else "")
    request = f"GET {target} HTTP/1.1\r\nHost: {u.netloc}\r\nConnection: close\r\n\r\n".encode()
    ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for first in range(0, n, 200):  # a listener's backlog is not what is asked about
        some = (asyncio.open_connection(u.hostname, u.port, limit=1 << 24) for _ in range(min(200, n - first)))
        ends += await asyncio.gather(*some)
    began = time.monotonic()
    for _, writer in ends:
        writer.write(request)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, int, float]:
        try:
            async with asyncio.timeout(seconds):
                whole = await reader.read(-1)
        except TimeoutError:
            raise BenchError(f"GET {target} was not answered within {seconds:.0f} s") from None
        finally:
            writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), hash(body), (time.monotonic() - began) * 1e3

    answers = await asyncio.gather(*(answer(*end) for end in ends))
    return Burst(Counter(a[0] for a in answers), len({a[1] for a in answers}), [a[2] for a in answers])
