"""What TLS viewers notice while the certificate of a fleet is renewed by one of its nodes.

    python -m bench.bench_certificates [--viewers 500] [--valid 120] [--renewals 2] [--share database|folder]

Three gateways with `tls.acme` have one name with three addresses, and share one PostgreSQL. An encoder pushes numbered
pictures by RTMPS to the first one. HTTPS-FLV viewers, and one HLS player for ten of them, watch at all three. They
trust only the authority (pebble). The certificates live for --valid seconds, so one node renews at two thirds of that.
Meanwhile new connections are made to each node four times a second.

share: `database`: the nodes share the certificate through the database. `folder`: they have one folder `acme`, as
processes of one machine have.

The exit status is 1 if anything was lost or refused, or if a node did not show the new certificate within 15 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from bench.harness.crowd import Crowd, viewer
from bench.harness.hls_players import HlsPlayer, report
from bench.harness.limits import set_limits
from bench.harness.numbered import Encoder, dropped, pushing
from bench.harness.procs import BenchError
from bench.harness.verdict import conclude
from tests.support.gateway import Channel, Gateway, http
from tests.support.pebble import running_pebble
from tests.support.postgres import postgres_server
from tests.support.rtmp import trusting_anyone

NAME = "live.example.com"
HOSTS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
HLS_EACH = 10  # of so many viewers, one plays HLS
PROBE_SECONDS = 0.25
SPREAD_SECONDS = 15.0  # for the new certificate to reach all nodes
FIRST_SECONDS = 60.0  # for the first certificate


@dataclass
class Node:
    """A gateway, and the certificates that new connections to it got: serial numbers with their first time."""

    host: str
    gateway: Gateway
    shown: dict[int, float] = field(default_factory=dict)
    connections: int = 0
    failed: list[tuple[float, str]] = field(default_factory=list)

    async def probe(self, tls: ssl.SSLContext) -> None:
        while True:
            try:
                async with asyncio.timeout(10):
                    self.shown.setdefault(await self.serial(tls), time.monotonic())
                self.connections += 1
            except (OSError, EOFError, TimeoutError) as error:
                self.failed.append((time.monotonic(), str(error) or type(error).__name__))
            await asyncio.sleep(PROBE_SECONDS)

    async def serial(self, tls: ssl.SSLContext) -> int:
        """The serial number of the certificate. Raises OSError, also for one that is not trusted."""
        _, writer = await asyncio.open_connection(self.host, self.gateway.ports["https"], ssl=tls, server_hostname=NAME)
        try:
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(der).serial_number
        finally:
            await dropped(writer)

    @property
    def requests(self) -> int:
        """How often this node asked the authority."""
        return self.gateway.log.count('"event":"requesting a certificate"')


@dataclass(frozen=True)
class Fleet:
    nodes: list[Node]
    roots: Path  # the authority's certificate, as PEM


@contextlib.contextmanager
def fleet(a: argparse.Namespace) -> Iterator[Fleet]:
    """Yields three gateways that show a certificate of the authority. Raises BenchError."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-certificates-")))
        (folder / "pebble").mkdir()
        pebble = stack.enter_context(running_pebble(folder / "pebble", valid_seconds=a.valid, refused_nonces=0))
        pebble.resolve(NAME, *HOSTS)
        database = stack.enter_context(postgres_server())
        shared = pebble.settings(NAME) | {
            "MILLRACE_DATABASE": database.new_database(),
            "MILLRACE_CLUSTER__SECRET": "what all nodes share",
            "MILLRACE_SIGNING__SECRET": "what keys are signed with",
            "MILLRACE_RTMPS__PORT": "0",
            "MILLRACE_LOG__FORMAT": "json",
        }
        shared |= {f"MILLRACE_LIMITS__{name}_PER_ADDRESS": "0" for name in ("PUBLISHERS", "PLAYBACK")}
        (folder / "acme").mkdir(mode=0o700)
        nodes = []
        for host in HOSTS:
            (own := folder / host / "data").mkdir(parents=True)
            if a.share == "folder":
                (own / "acme").symlink_to(folder / "acme")
            hosts = {f"MILLRACE_{name}__HOST": host for name in ("RTMP", "HTTP", "WS")}
            nodes.append(Node(host, Gateway(own.parent, **shared, **hosts)))
            stack.callback(_stop, nodes[-1].gateway)
        for node in nodes:
            node.gateway.wait_ready()
        roots = folder / "roots.pem"
        roots.write_bytes(_get(pebble.roots, pebble.ca))
        yield Fleet(nodes, roots)


def _stop(gateway: Gateway) -> None:
    with contextlib.suppress(AssertionError):
        gateway.stop(20)


def _get(url: str, ca: Path) -> bytes:
    with urllib.request.urlopen(url, timeout=10, context=ssl.create_default_context(cafile=ca)) as answer:
        found: bytes = answer.read()
        return found


async def _until(holds: Any, what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            raise BenchError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.2)


async def measure(a: argparse.Namespace) -> dict[str, Any]:
    """Returns everything that was counted. Raises BenchError."""
    with fleet(a) as site:
        tls = ssl.create_default_context(cafile=site.roots)
        await _until(lambda: _equal(site, tls), "all nodes show one certificate that clients trust", FIRST_SECONDS)
        first = site.nodes[0].gateway
        channel = first.channel(isCMAF=False, hls_list_size="6")
        secure = Encoder(first.ports["rtmps"], channel.obs_key, a.fps, a.bytes, a.fps, host=HOSTS[0])
        secure.tls = trusting_anyone()
        probing = [asyncio.create_task(node.probe(tls)) for node in site.nodes]
        try:
            async with pushing([secure]):
                watched = await _watch(a, site, channel, tls)
        finally:
            for task in probing:
                task.cancel()
        return watched | {
            "publisher": {"pictures": secure.number, "disconnected": len(secure.lost), "refused": len(secure.refused)},
            "connections": {
                "made": sum(node.connections for node in site.nodes),
                "failed": sum(len(node.failed) for node in site.nodes),
                "failures": [[node.host, why] for node in site.nodes for _, why in node.failed][:10],
            },
            "certificates": _spread(site.nodes),
        }


async def _equal(site: Fleet, tls: ssl.SSLContext) -> bool:
    try:
        return len({await node.serial(tls) for node in site.nodes}) == 1
    except OSError:
        return False


async def _watch(a: argparse.Namespace, site: Fleet, channel: Channel, tls: ssl.SSLContext) -> dict[str, Any]:
    """Lets the viewers watch until all renewals are over."""
    at = [site.nodes[n % len(site.nodes)] for n in range(a.viewers)]
    path = f"/{channel.id}"
    targets = [viewer(node.host, node.gateway.ports["https"], path, tls=True, name=NAME) for node in at]
    flv, hls = targets[a.viewers // HLS_EACH :], targets[: a.viewers // HLS_EACH]
    for node in site.nodes:
        await asyncio.to_thread(_wait_playable, node, path)
    with Crowd([{**one, "path": f"{path}/live.flv"} for one in flv], a.rate, str(site.roots)) as crowd:
        await asyncio.to_thread(crowd.wait_joined)
        players = [HlsPlayer(target, tls) for target in hls]
        playing = [asyncio.create_task(player.run()) for player in players]
        began = time.monotonic()
        known = set().union(*(node.shown for node in site.nodes))
        try:
            await _until(
                lambda: _renewed(site, known, a.renewals),
                f"{a.renewals} renewals at all nodes",
                a.valid * (a.renewals + 1) + FIRST_SECONDS,
            )
            await asyncio.sleep(5)
        finally:
            for task in playing:
                task.cancel()
        seen = await asyncio.to_thread(crowd.finish)
    return {"seconds": round(time.monotonic() - began, 1), "flv": seen, "hls": report(players, began)}


async def _renewed(site: Fleet, known: set[int], count: int) -> bool:
    return len(set.intersection(*(set(node.shown) for node in site.nodes)) - known) >= count


def _wait_playable(node: Node, path: str) -> None:
    end = time.monotonic() + 60
    url = f"http://{node.host}:{node.gateway.ports['http']}{path}/live.m3u8"
    while http("GET", url).status != 200:
        if time.monotonic() > end:
            raise BenchError(f"{url} is not there")
        time.sleep(0.2)


def _spread(nodes: list[Node]) -> dict[str, Any]:
    """How each certificate after the first one reached the nodes: seconds between the first and the last of them."""
    serials = sorted(set().union(*(node.shown for node in nodes)), key=lambda s: min(_times(nodes, s)))
    spreads = [max(at) - min(at) if len(at := _times(nodes, s)) == len(nodes) else float("inf") for s in serials[1:]]
    return {
        "renewals": len(spreads),
        "spread_s": [round(spread, 2) for spread in spreads],
        "asked the authority, by node": [node.requests for node in nodes],
    }


def _times(nodes: list[Node], serial: int) -> list[float]:
    return [node.shown[serial] for node in nodes if serial in node.shown]


def faults(result: dict[str, Any]) -> list[str]:
    """What was lost or refused, one line each."""
    counts = {
        "viewers were disconnected": result["flv"]["disconnected"],
        "pictures did not reach a viewer": result["flv"]["missing"],
        "requests of HLS players failed": result["hls"]["failed"],
        "pictures did not reach an HLS player": result["hls"]["missing"],
        "publishers were disconnected": result["publisher"]["disconnected"] + result["publisher"]["refused"],
        "new connections failed": result["connections"]["failed"],
    }
    late = [spread for spread in result["certificates"]["spread_s"] if spread > SPREAD_SECONDS]
    asked = sum(result["certificates"]["asked the authority, by node"])
    extra = asked - result["certificates"]["renewals"] - 1
    lines = [f"{count} {what}" for what, count in counts.items() if count]
    lines += [f"{len(late)} certificates reached all nodes late or never: {late}"] if late else []
    return lines + ([f"{extra} requests to the authority were unnecessary"] if extra > 0 else [])


def table(result: dict[str, Any]) -> str:
    parts = ("flv", "hls", "publisher", "connections", "certificates")
    rows = ((part, name, value) for part in parts for name, value in result[part].items() if value != [])
    return "\n".join([f"{result['seconds']} s", *(f"{part:13} {name:30} {value}" for part, name, value in rows)])


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--valid", type=int, default=120, help="life of a certificate in seconds")
    parser.add_argument("--renewals", type=int, default=2)
    parser.add_argument("--share", choices=("database", "folder"), default="database")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--bytes", type=int, default=1500, help="of a picture; 1500 are 300 kbit/s at 25 a second")
    parser.add_argument("--rate", type=int, default=50, help="new viewers a second")
    parser.add_argument("--json", type=Path, help="a file for the result")
    return parser.parse_args(argv)


def main() -> int:
    a = arguments()
    set_limits(a.valid * (a.renewals + 1) + 600)
    return conclude(measure(a), faults, table, "nothing was lost", a.json)


if __name__ == "__main__":
    sys.exit(main())
