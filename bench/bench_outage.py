"""What viewers, publishers and recordings notice while the database of a fleet is down.

    python -m bench.bench_outage [--minutes 5] [--pushes 20] [--viewers 1000] [--json FILE]

Two gateways share one PostgreSQL. RTMP pushes with numbered pictures go to both in turn; every second one is recorded.
HTTP-FLV viewers, and one HLS player for twenty of them, play each stream at both gateways. The database is stopped
like `pg_ctl stop -m immediate` stops it, for --minutes, and started again. Meanwhile publishers are cut and return at
once, a push of a channel that is not live is tried, and viewers join. Every picture is counted: at each viewer, and
in the recorded files.

The exit status is 1 if anything was lost: a viewer, a publisher, a picture, a playlist, an event of a recording.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.crowd import Crowd, viewer
from bench.harness.hls_players import HlsPlayer, report
from bench.harness.limits import set_limits
from bench.harness.numbered import Encoder, FlvPictures, dropped, pushing, recorded
from bench.harness.procs import BenchError, usage
from bench.harness.servers import TOKEN, Gateway, Urls
from bench.harness.verdict import conclude
from tests.support.postgres import Postgres, postgres_server
from tests.support.rtmp import connected

SECRETS = {"MILLRACE_CLUSTER__SECRET": "what all nodes share", "MILLRACE_SIGNING__SECRET": "what keys are signed with"}
CUT_SECONDS = 30.0  # between two rounds of cuts
FIRST_CUT = 3.0
CUTS = 4  # of each this many publishers, one is cut in a round
HLS_EACH = 20  # of so many viewers, one plays HLS
HEALED_WITHIN = 60.0


@dataclass
class Fleet:
    """Both gateways with their streams. urls: of the channels, in turn those of the first and of the second gateway."""

    database: Postgres
    gateways: list[Gateway]
    urls: Urls
    ids: list[str]
    encoders: list[Encoder]

    def port(self, index: int, name: str = "http") -> int:
        found = self.gateways[index % 2].ports[name]
        assert found is not None
        return found

    def recording(self, index: int) -> bool:
        return index // 2 % 2 == 0

    def targets(self, count: int) -> list[dict[str, Any]]:
        """Viewers of all streams in turn, at both gateways."""
        at = ((self.port(n // len(self.encoders)), self.ids[n % len(self.encoders)]) for n in range(count))
        return [viewer("127.0.0.1", port, f"/{id}/live.flv") for port, id in at]


@contextlib.contextmanager
def fleet(a: argparse.Namespace) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres_server())
        shared = {"MILLRACE_DATABASE": database.new_database(), **SECRETS}
        gateways = [Gateway(), Gateway()]
        for gateway in gateways:
            stack.callback(gateway.stop)
            gateway.settings |= shared
            gateway.start(packaged=True)
        first = gateways[0]
        channels = []
        for n in range(a.pushes + 1):  # the last one is for a new push during the outage
            first.channel = {"isVideo": n // 2 % 2 == 0 and n < a.pushes, "video_time": "60", "hls_list_size": "6"}
            channels.append(first.streams(1, packaged=True).push[0])
        keys = [url.rpartition("/")[2] for url in channels]
        ids = [key.partition("?")[0] for key in keys]
        ports = [gateway.ports["rtmp"] or 0 for gateway in gateways]
        encoders = [Encoder(ports[n % 2], key, a.fps, a.bytes, a.fps) for n, key in enumerate(keys[:-1])]
        yield Fleet(database, gateways, Urls(channels, [], [], [], [], []), ids, encoders)


@dataclass
class Outage:
    """One measurement. stopped, started: when the database went and came; 0 before."""

    fleet: Fleet
    seconds: float
    stopped: float = 0.0
    started: float = 0.0
    returns: list[float] = field(default_factory=list)  # seconds from a cut until the push is accepted
    joined: list[float] = field(default_factory=list)  # seconds until the first picture of viewers that came
    not_joined: list[str] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    healed: dict[str, float] = field(default_factory=dict)  # seconds after the start of the database

    async def run(self) -> None:
        await asyncio.sleep(5)  # quiet: everything is as it should be
        self.stopped = time.monotonic()
        await asyncio.to_thread(self.fleet.database.stop)
        try:
            await self._during()
        finally:
            await asyncio.to_thread(self.fleet.database.start)
        self.started = time.monotonic()
        await self._heal()
        await asyncio.sleep(5)

    # ---- while it is down ----

    async def _during(self) -> None:
        end = self.stopped + self.seconds
        await asyncio.sleep(FIRST_CUT)
        self.said = await self._states()
        self.said["new push"] = await self._new_push()
        self.said["a held stream's push at the other gateway"] = await self._push_elsewhere()
        for turn in itertools.count():
            await self._cut(turn)
            await self._join(turn)
            if time.monotonic() + CUT_SECONDS > end:
                break
            await asyncio.sleep(CUT_SECONDS)
        await asyncio.sleep(max(0.0, end - time.monotonic()))

    async def _cut(self, turn: int) -> None:
        """Cuts a part of the publishers. Each returns at once to its gateway."""

        async def cut(encoder: Encoder) -> None:
            cut_at = time.monotonic()
            push = await asyncio.wait_for(encoder.cut(reset=False), 30)
            self.returns.append(push.accepted - cut_at)

        await asyncio.gather(*(cut(encoder) for encoder in self.fleet.encoders[turn % CUTS :: CUTS]))

    async def _join(self, turn: int) -> None:
        """Two viewers come to each gateway, to streams that it holds and to those that it does not."""
        for n in range(4):
            port, id = self.fleet.port(n), self.fleet.ids[(turn + n // 2) % len(self.fleet.encoders)]
            try:
                self.joined.append(await _first_picture(port, id))
            except (OSError, EOFError, TimeoutError, BenchError) as error:
                self.not_joined.append(str(error) or type(error).__name__)

    async def _states(self) -> dict[str, Any]:
        """What both gateways say of themselves."""
        found: dict[str, Any] = {}
        for listener, path in (("http", "/healthcheck"), ("http", "/ready"), ("admin", "/videostream")):
            found[path] = [await asyncio.to_thread(_ask, gateway, listener, path) for gateway in self.fleet.gateways]
        _, text = await asyncio.to_thread(_ask, self.fleet.gateways[0], "admin", "/status")
        found["/status"] = {name: json.loads(text)[name] for name in ("ready", "missing")}
        metrics = await asyncio.to_thread(_ask, self.fleet.gateways[0], "admin", "/metrics")
        found["metrics"] = re.findall(r"^millrace_registry_failing.*$", metrics[1], re.MULTILINE)
        return found

    async def _new_push(self) -> list[str]:
        key = self.fleet.urls.push[-1].rpartition("/")[2]
        return [await _try_push(self.fleet.port(n, "rtmp"), key) for n in (0, 1)]

    async def _push_elsewhere(self) -> str:
        return await _try_push(self.fleet.port(1, "rtmp"), self.fleet.encoders[0].key)

    # ---- after it has returned ----

    async def _heal(self) -> None:
        waits: dict[str, Callable[[], Awaitable[bool]]] = {
            "both gateways are ready": self._all_ready,
            "a new push is accepted": self._accepted,
            "both gateways know each other": self._know_each_other,
        }
        await asyncio.gather(*(self._until(what, holds) for what, holds in waits.items()))
        moved = self.fleet.encoders[0]
        began = time.monotonic()
        await asyncio.wait_for(moved.cut(reset=False, port=self.fleet.port(1, "rtmp")), 30)
        self.said["ms until a publisher returned through the other gateway"] = round((time.monotonic() - began) * 1000)

    async def _until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        while not await holds():
            if time.monotonic() - self.started > HEALED_WITHIN:
                self.healed[what] = float("inf")
                return
            await asyncio.sleep(0.1)
        self.healed[what] = round(time.monotonic() - self.started, 2)

    async def _all_ready(self) -> bool:
        answers = [await asyncio.to_thread(_ask, gateway, "http", "/ready") for gateway in self.fleet.gateways]
        return all(status == 200 for status, _ in answers)

    async def _accepted(self) -> bool:
        return "NetStream.Publish.Start" in (await self._new_push())[:1]

    async def _know_each_other(self) -> bool:
        for gateway in self.fleet.gateways:
            status, text = await asyncio.to_thread(_ask, gateway, "admin", "/nodes")
            if status != 200 or sum(bool(node["answers"]) for node in json.loads(text)) != 2:
                return False
        return True


async def _first_picture(port: int, id: str) -> float:
    """Seconds from connect() to the first picture of a new viewer. Raises BenchError with the status."""
    seen: list[int] = []
    reader = FlvPictures(seen.append)
    began = time.monotonic()
    source, sink = await asyncio.open_connection("127.0.0.1", port)
    try:
        sink.write(f"GET /{id}/live.flv HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(10):
            while not seen:
                if not (data := await source.read(65536)):
                    raise BenchError(f"{reader.status}: ended before a picture")
                reader.receive(data)
        return time.monotonic() - began
    finally:
        await dropped(sink)


async def _try_push(port: int, key: str) -> str:
    """The code of the answer to a push, which ends at once."""
    try:
        async with connected(port) as peer:
            answer = await peer.publish(key)
            described = answer.info.get("description", "")
            return answer.code if answer.code == "NetStream.Publish.Start" else f"{answer.code}: {described}"
    except (OSError, EOFError, TimeoutError) as error:
        return type(error).__name__


def _ask(gateway: Gateway, listener: str, path: str) -> tuple[int, str]:
    """Status and body of an answer of the playback or the admin listener."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.ports[listener]}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


# ---- the measurement ----


async def measure(a: argparse.Namespace) -> dict[str, Any]:
    """Returns everything that was counted. Raises BenchError."""
    flv, hls = a.viewers - a.viewers // HLS_EACH, a.viewers // HLS_EACH
    with fleet(a) as site:
        async with pushing(site.encoders):
            # The playlists exist when the first segment is complete.
            await asyncio.gather(*(asyncio.to_thread(_wait_playable, site, n) for n in range(2 * len(site.encoders))))
            with Crowd(site.targets(flv), rate=a.rate) as crowd:
                await asyncio.to_thread(crowd.wait_joined)
                players = [
                    HlsPlayer(viewer("127.0.0.1", site.port(n // a.pushes), f"/{site.ids[n % a.pushes]}"))
                    for n in range(hls)
                ]
                playing = [asyncio.create_task(player.run()) for player in players]
                outage = Outage(site, a.minutes * 60)
                try:
                    cpu = [usage(gateway.pid).cpu for gateway in site.gateways]
                    began = time.monotonic()
                    await outage.run()
                    seconds = time.monotonic() - began
                    cpu = [usage(gateway.pid).cpu - old for gateway, old in zip(site.gateways, cpu, strict=True)]
                finally:
                    for task in playing:
                        task.cancel()
                seen = await asyncio.to_thread(crowd.finish)
        recordings = await asyncio.to_thread(_recordings, site)
    return {
        "pushes": a.pushes,
        "outage_s": round(outage.started - outage.stopped, 1),
        "flv": seen | {key: _times(seen[key], outage) for key in ("ends", "pauses")},
        "hls": report(players, outage.stopped),
        "publishers": _publishers(site.encoders, outage),
        "recordings": recordings,
        "new_viewers": {
            "joined": len(outage.joined),
            "refused": outage.not_joined,
            "first_picture_max_ms": _ms(max(outage.joined, default=0)),
        },
        "said": outage.said,
        "healed_s": outage.healed,
        "gateway_cpu_pct": [round(100 * used / seconds, 1) for used in cpu],
    }


def _wait_playable(site: Fleet, n: int) -> None:
    gateway, id = site.gateways[n // len(site.encoders)], site.ids[n % len(site.encoders)]
    end = time.monotonic() + 60
    while (answer := _ask(gateway, "http", f"/{id}/live.m3u8"))[0] != 200:
        if time.monotonic() > end:
            raise BenchError(f"{id} has no playlist: {answer[0]} {answer[1][:100]}")
        time.sleep(0.2)


def _recordings(site: Fleet) -> dict[str, Any]:
    """Ends the streams, waits for the recordings, and compares their pictures with those that were pushed."""
    for id in site.ids:
        for gateway in site.gateways:
            with contextlib.suppress(BenchError):
                gateway.api("DELETE", f"/videostream/{id}/session")
    pushed = missing = files = 0
    for n, encoder in enumerate(site.encoders):
        if site.recording(n):
            count, found = _recorded(site.gateways[n % 2], site.ids[n], set(range(encoder.number)))
            pushed, files = pushed + encoder.number, files + count
            missing += len(set(range(encoder.number)) - found)
    ready = "SELECT count(*) FROM events WHERE type = 'recording.ready'"
    database = site.gateways[0].settings["MILLRACE_DATABASE"].rpartition("/")[2]
    end = time.monotonic() + 45  # a gateway may wait 30 s before it tries to store events again
    while (told := int(site.database.sql(ready, database))) < files and time.monotonic() < end:
        time.sleep(0.2)
    return {"files": files, "events": told, "pushed": pushed, "missing": missing}


def _recorded(gateway: Gateway, id: str, wanted: set[int]) -> tuple[int, set[int]]:
    folder, end = gateway.folder / "data" / "media" / id, time.monotonic() + 30
    while True:
        count, found = recorded(folder)
        if wanted <= found or time.monotonic() > end:
            return count, found
        time.sleep(0.5)


def _times(events: list[list[Any]], outage: Outage) -> list[list[Any]]:
    """The same with seconds since the database was stopped."""
    return [[round(at - outage.stopped, 2), *rest] for at, *rest in events][:20]


def _publishers(encoders: list[Encoder], outage: Outage) -> dict[str, Any]:
    refused = [[at, text] for encoder in encoders for at, text in encoder.refused]
    return {
        "pictures": sum(encoder.number for encoder in encoders),
        "disconnected": sum(len(encoder.lost) for encoder in encoders),
        "cut": len(outage.returns),
        "refused": len(refused),
        "refusals": _times(sorted(refused), outage),
        "return_p50_ms": _ms(statistics.median(outage.returns)),
        "return_max_ms": _ms(max(outage.returns)),
        "late_max_ms": _ms(max(encoder.late for encoder in encoders)),
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def faults(result: dict[str, Any]) -> list[str]:
    """What was lost, one line each."""
    flv, hls, publishers, recordings = (result[key] for key in ("flv", "hls", "publishers", "recordings"))
    counts = {
        "viewers were disconnected": flv["disconnected"],
        "pictures did not reach a viewer": flv["missing"],
        "requests of HLS players failed": hls["failed"],
        "playlists went backward": hls["backward"],
        "pictures did not reach an HLS player": hls["missing"],
        "publishers were disconnected": publishers["disconnected"],
        "returning publishers were refused": publishers["refused"],
        "pictures are not in the recordings": recordings["missing"],
        "events of recordings were lost": recordings["files"] - recordings["events"],
        "viewers could not join": len(result["new_viewers"]["refused"]),
    }
    healed = [
        f"not within {HEALED_WITHIN:.0f} s: {what}" for what, s in result["healed_s"].items() if s == float("inf")
    ]
    return [f"{count} {what}" for what, count in counts.items() if count] + healed


def table(result: dict[str, Any]) -> str:
    """The counts, one line each."""
    lines = [f"pushes {result['pushes']}, the database was down for {result['outage_s']} s"]
    for part in ("flv", "hls", "publishers", "recordings", "new_viewers", "healed_s"):
        lines += [f"{part:12} {name:38} {value}" for name, value in result[part].items() if value != []]
    lines += [f"{'said':12} {what}: {answer}" for what, answer in result["said"].items()]
    return "\n".join([*lines, f"CPU of the gateways, % of a core: {result['gateway_cpu_pct']}"])


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--pushes", type=int, default=20)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--bytes", type=int, default=1500, help="of a picture; 1500 are 300 kbit/s at 25 a second")
    parser.add_argument("--rate", type=int, default=50, help="new viewers a second")
    parser.add_argument("--json", type=Path, help="a file for the result")
    return parser.parse_args(argv)


def main() -> int:
    a = arguments()
    set_limits(round(a.minutes * 60) + 900)
    return conclude(measure(a), faults, table, "nothing was lost", a.json)


if __name__ == "__main__":
    sys.exit(main())
