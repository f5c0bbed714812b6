"""Answers of the API and checks of pushes with many stored channels, in SQLite and in PostgreSQL.

    .venv/bin/python -m bench.bench_channels [--channels 10000] [--rounds 100] [--stores sqlite,postgres]

Prints milliseconds, median and p99, after a warm-up, with one client on loopback: the first and the last page of the
console, searches, a page with 500 live channels (in the store alone), the whole list, and the check of a push as
listeners make it. PostgreSQL is that of Debian, with `fsync = off`, which matters to writes only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from gateway.adapters.stores import open_stores
from gateway.channels.channel import create_item
from gateway.channels.channel_list import ChannelOrder, ChannelQuery
from gateway.channels.stores import ChannelStore
from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.admission import Admission, PushRequest
from gateway.lib.refusals import Refusals
from gateway.ports.events import Events
from gateway.settings.layers import load
from tests.support.gateway import Gateway, running
from tests.support.postgres import postgres_server

SECRETS: Final = SigningSecrets("a-secret-of-the-bench")
_PLACES: Final = ("Foyer", "Großer Saal", "Werkstatt", "Café", "大厅", "Pier", "Stadion", "Museum")
_PAGE: Final = "/videostreams?sort=state&limit=25"
_PATHS: Final = {
    "first page": _PAGE,
    "last page": "/videostreams?sort=name&limit=25&offset={last}",
    "search, one word": f"{_PAGE}&search=stadion",
    "search, three words": f"{_PAGE}&search=caf%C3%A9+camera+77",
    "search, nothing found": f"{_PAGE}&search=nothing+like+this",
    "all channels": "/videostream",
}


async def fill(channels: ChannelStore, n: int) -> list[str]:
    """Stores n channels and returns their ids."""
    chosen, ids = random.Random(5), []
    for number in range(n):
        name = f"{chosen.choice(_PLACES)} camera {number}"
        about = "A channel with a text of the usual length, as operators write it for their colleagues."
        fields = {"outdate": "2035-12-31", "videoname": name, "description": about, "isHls": True, "isCMAF": True}
        ids.append((await channels.add(create_item(fields, time.time(), SECRETS, 0))).id)
    return ids


def report(what: str, seconds: list[float]) -> None:
    taken = sorted(1000 * one for one in seconds)
    print(f"| {what} | {taken[len(taken) // 2]:.1f} | {taken[int(0.99 * (len(taken) - 1))]:.1f} |", flush=True)


def requests(gateway: Gateway, path: str, rounds: int) -> list[float]:
    """Returns the seconds of each request, from its first byte to the last byte of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["admin"], timeout=60)
    taken = []
    for _ in range(rounds + 5):
        began = time.monotonic()
        connection.request("GET", path, headers={"Authorization": f"Bearer {gateway.token}"})
        answer = connection.getresponse()
        body = answer.read()
        taken.append(time.monotonic() - began)
        assert answer.status == 200, body[:300]
    connection.close()
    return taken[5:]


async def calls(call: Callable[[], Awaitable[Any]], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds + 5):
        began = time.monotonic()
        await call()
        taken.append(time.monotonic() - began)
    return taken[5:]


async def in_process(channels: ChannelStore, ids: list[str], rounds: int) -> None:
    """Measures what needs live channels or a push."""
    admission = Admission(channels, SECRETS, Events(), publishers_per_address=0, refusals=Refusals(0))
    keys = {id: (await channels.get(id)).key for id in random.sample(ids, min(200, len(ids)))}

    async def push() -> None:
        id = random.choice(list(keys))
        await admission.admit(PushRequest(id, keys[id], "192.0.2.1", "rtmp"))

    live = dict.fromkeys(random.sample(ids, min(500, len(ids))), 0.0)
    query = ChannelQuery(int(time.time()), live, order=ChannelOrder.STATE, limit=25)
    report("store: first page, 500 live", await calls(lambda: channels.find(query), rounds))
    report("check of a push", await calls(push, 10 * rounds))


async def measure(gateway: Gateway, database: str, n: int, rounds: int) -> None:
    environ = {"MILLRACE_DATA": str(gateway.data), "MILLRACE_DATABASE": database}
    async with open_stores(load(environ=environ)) as stores:
        began = time.monotonic()
        ids = await fill(stores.channels, n)
        print(f"\n{n} channels stored in {time.monotonic() - began:.0f} s: {'PostgreSQL' if database else 'SQLite'}\n")
        print("| | median ms | p99 ms |\n|---|---|---|")
        began = time.monotonic()
        requests(gateway, _PAGE, 1)
        report("first page ever, with 5 more", [time.monotonic() - began])
        for what, path in _PATHS.items():
            asked = path.format(last=n - 25)
            report(what, await asyncio.to_thread(requests, gateway, asked, rounds))
        await in_process(stores.channels, ids, rounds)


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """Yields the URL of a new database; "": files."""
    if kind == "sqlite":
        yield ""
    else:
        with postgres_server() as server:
            yield server.new_database()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--stores", default="sqlite,postgres")
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        del os.environ[name]
    for kind in options.stores.split(","):
        with database(kind) as url, running(MILLRACE_DATABASE=url) as gateway:
            asyncio.run(measure(gateway, url, options.channels, options.rounds))


if __name__ == "__main__":
    main()
