"""Egress: permitted targets of outgoing connections, judged by the resolved addresses."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from gateway.lib import scheduled_reads
from gateway.lib.egress import RTMP, SRT, Egress, EgressRefused
from gateway.lib.egress_connector import EgressConnector
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.settings import SettingsError, load


class Names:
    """A resolver for tests. known: addresses by name; asked: the names looked up."""

    def __init__(self, **known: str) -> None:
        self.known = {name.replace("_", "."): addresses.split() for name, addresses in known.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        self.asked.append(host)
        host.encode("idna")
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            if host not in self.known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
            found = self.known[host]
        return [(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names(
        public_example="93.184.215.14 2606:2800:21f:cb07:6820:80da:af6b:8b2c",
        inner_example="10.1.2.3",
        both_example="10.1.2.3 93.184.215.14",
        meta_example="169.254.169.254",
    )
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


async def refusal(egress: Egress, url: str, *schemes: str) -> str:
    with pytest.raises(EgressRefused) as refused:
        await egress.check(url, schemes or ("http", "https", "rtmp", "rtmps"))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "169.254.1.1", "100.64.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255"),
        *("192.0.0.1", "198.18.0.1", "240.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1"),
        *("[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "[fec0::1]"),
        # IPv4 addresses inside IPv6 ones: mapped, compatible, 6to4, NAT64, Teredo
        *("[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]", "[2002:7f00:1::]", "[2002:a00:1::1]"),
        *("[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]"),
        "[100::1]",
    ],
)
async def test_addresses_that_are_not_public_are_refused(names: Names, host: str) -> None:
    for scheme in ("http", "rtmps"):
        assert "connecting there is not allowed (egress.allow)" in await refusal(Egress(), f"{scheme}://{host}/a/b")


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "0",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "localhost",
        "user:x@127.0.0.1",
        "[::ffff:7f00:1]",
    ],
)
async def test_other_spellings_of_local_addresses_are_refused(host: str) -> None:
    """The C library accepts numbers in many forms, so this test uses the real resolver."""
    with pytest.raises((EgressRefused, OSError)):
        await Egress().check(f"http://{host}/")


@pytest.mark.parametrize(
    "host", ["93.184.215.14", "8.8.8.8", "[2606:4700::1111]", "[2002:808:808::1]", "[64:ff9b::808:808]"]
)
async def test_public_addresses_are_allowed(names: Names, host: str) -> None:
    (address,) = await Egress().check(f"http://{host}:81/a")
    assert (address.host, address.port) == (str(ipaddress.ip_address(host.strip("[]"))), 81)


async def test_only_permitted_addresses_of_a_name_are_used(names: Names) -> None:
    assert [a.host for a in await Egress().check("rtmps://public.example/app/key", RTMP)] == [
        "93.184.215.14",
        "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    ]
    assert [(a.host, a.name, a.port) for a in await Egress().check("https://both.example/")] == [
        ("93.184.215.14", "both.example", 443)
    ]
    words = await refusal(Egress(), "rtmp://inner.example/app/secret")
    assert words == "inner.example: 10.1.2.3 is a private address: connecting there is not allowed (egress.allow)"


async def test_an_unknown_name_raises_an_os_error_with_a_message(names: Names) -> None:
    with pytest.raises(OSError, match=r"^nowhere.example: Name or service not known$"):
        await Egress().check("http://nowhere.example/")
    with pytest.raises(OSError, match="no such name"):
        await Egress().check(f"http://{'a' * 80}.example/")


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.0/8", "http://127.0.0.1:8080/x"),
        ("127.0.0.0/8", "http://[::ffff:127.0.0.1]/x"),
        ("10.1.2.3", "http://inner.example/x"),
        ("::1", "rtmp://[::1]/a/b"),
        ("169.254.169.254/32", "http://meta.example/"),
        ("inner.example", "rtmp://inner.example/a/b"),
        ("INNER.example.", "rtmp://Inner.Example./a/b"),
        ("http://inner.example/pics", "http://inner.example/pics"),
        ("http://inner.example/pics/", "http://inner.example/pics/a.png?x=1"),
        ("http://inner.example", "http://inner.example:80/anything"),
        ("rtmp://10.1.2.3:1936/live", "rtmp://10.1.2.3:1936/live/key"),
    ],
)
async def test_an_allow_entry_permits_matching_targets(names: Names, allow: str, url: str) -> None:
    assert await Egress([allow]).check(url, ("http", "rtmp"))


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.0/8", "http://10.0.0.1/"),
        ("inner.example", "http://10.1.2.3/"),
        ("example", "http://inner.example/"),
        ("meta.example", "http://meta.example/latest"),  # a name does not open the metadata service
        ("http://meta.example/", "http://meta.example/latest"),
        ("http://inner.example/pics", "https://inner.example/pics/a"),
        ("http://inner.example/pics", "http://inner.example:81/pics/a"),
        ("http://inner.example/pics", "http://inner.example/picsy"),
        ("http://inner.example/pics", "http://inner.example/pics/../admin"),
        ("http://inner.example/pics", "http://inner.example/pics/%2e%2e/admin"),
        ("http://inner.example/pics", "http://inner.example/"),
        ("2002::/16", "http://127.0.0.1/"),
    ],
)
async def test_an_allow_entry_permits_no_other_targets(names: Names, allow: str, url: str) -> None:
    await refusal(Egress([allow]), url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "gopher://public.example/",
            "//public.example/",
            "public.example",
            "http://",
            "http:///x",
        ),
        *("http://public.example:0/", "http://public.example:x/", "http://[::1", "http://public.example\\@127.0.0.1/"),
        *(
            "http://public.example/a b",
            "http://public.example/\r\nHost: x",
            "http://" + "a" * 3000,
            "rtmp://public.example/",
        ),
    ],
)
async def test_invalid_urls_and_other_schemes_are_refused(names: Names, url: str) -> None:
    assert await refusal(Egress(), url, "http", "https") == "expected an address with http:// or https:// and a host"
    assert names.asked == []


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "10.0.0.0/33", "256.1.1.1", "a b", "http://", "ftp://a/", "-x", "a/b", "http://u@h/", "*"]
)
def test_an_invalid_allow_entry_gives_a_one_line_error(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a "):
        Egress([entry])
    with pytest.raises(SettingsError) as wrong:
        load(environ={"MILLRACE_EGRESS__ALLOW": f"127.0.0.0/8,{entry}"})
    (line,) = wrong.value.problems
    assert "MILLRACE_EGRESS__ALLOW" in line and "networks, hosts or URL prefixes" in line


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9:/.\[\]-]{1,30}", fullmatch=True))
def test_entries_accepted_by_the_settings_are_accepted_by_the_policy(entry: str) -> None:
    try:
        allow = load(environ={"MILLRACE_EGRESS__ALLOW": entry}).egress.allow
    except (SettingsError, ValueError):
        return
    Egress(allow)


@given(st.text(max_size=60).map(lambda t: f"http://{t}") | st.from_regex(r"rtmps?://[!-~]{1,40}", fullmatch=True))
def test_any_url_is_permitted_refused_or_not_found(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", Names(a="93.184.215.14"))
        with contextlib.suppress(EgressRefused, OSError):
            assert asyncio.run(Egress().check(url, ("http", "rtmp", "rtmps")))


# ---- the connector ----


@pytest_asyncio.fixture
async def server() -> AsyncIterator[TestServer]:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    async def here(request: web.Request) -> web.Response:
        return web.Response(text=request.host)

    application = web.Application()
    application.router.add_get("/pics/away", away)
    application.router.add_get("/{path:.*}", here)
    async with TestServer(application, host="127.0.0.1") as made:
        yield made


async def get(egress: Egress, url: str) -> str:
    async with aiohttp.ClientSession(connector=EgressConnector(egress)) as session, session.get(url) as answer:
        return await answer.text()


async def test_requests_to_permitted_addresses_succeed(server: TestServer) -> None:
    assert await get(Egress(["127.0.0.0/8"]), str(server.make_url("/pics/a"))) == f"127.0.0.1:{server.port}"


async def test_requests_and_redirects_to_other_addresses_are_refused(server: TestServer) -> None:
    with pytest.raises(EgressRefused):
        await get(Egress(), str(server.make_url("/pics/a")))
    prefix = str(server.make_url("/pics"))
    assert await get(Egress([prefix]), f"{prefix}/away?to=/pics/a")
    for elsewhere in ("/admin", "http://169.254.169.254/latest/", "http://10.0.0.1/", "file:///etc/passwd"):
        with pytest.raises((EgressRefused, aiohttp.NonHttpUrlRedirectClientError)):
            await get(Egress([prefix]), f"{prefix}/away?to={elsewhere}")


async def test_the_connection_uses_the_checked_address_despite_dns_rebinding(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["127.0.0.1", "10.9.9.9", "10.9.9.9"])

    def rebinding(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert await get(Egress(["127.0.0.1"]), f"http://rebind.example:{server.port}/") == f"rebind.example:{server.port}"
    assert next(answers) == "10.9.9.9", "it was looked up once"


async def test_an_unknown_name_raises_the_dns_error_of_aiohttp(names: Names) -> None:
    with pytest.raises(aiohttp.ClientConnectorDNSError):
        await get(Egress(), "http://nowhere.example/")


async def test_proxies_are_refused_because_they_bypass_the_policy() -> None:
    async with aiohttp.ClientSession(connector=EgressConnector(Egress())) as session:
        with pytest.raises(EgressRefused, match="proxy"):
            await session.get("http://public.example/", proxy="http://127.0.0.1:3128")


async def test_responses_are_read_through_the_read_scheduler(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0.0, 2 * scheduled_reads.SLICE_SECONDS)
    monkeypatch.setattr(scheduled_reads.time, "perf_counter", lambda: next(clock))  # each read costs two slices
    egress, turns = Egress(["127.0.0.0/8"]), []
    wait = egress.reads.wait
    monkeypatch.setattr(ReadScheduler, "wait", lambda self, *rest: (turns.append(self), wait(*rest)))
    assert await get(egress, str(server.make_url("/pics/a")))
    assert turns == [egress.reads]


async def test_a_scheme_without_a_usual_port_needs_one() -> None:
    egress = Egress(["127.0.0.1", "srt://10.0.0.1:9000"])
    assert [a.port for a in await egress.check("srt://127.0.0.1:9000?streamid=x", SRT)] == [9000]
    for url in ("srt://127.0.0.1", "srt://127.0.0.1:0", "rtmp://127.0.0.1:9000/a/b"):
        with pytest.raises(EgressRefused, match="expected an address with srt://"):
            await egress.check(url, SRT)
    with pytest.raises(ValueError, match="is not a URL prefix"):
        Egress(["srt://10.0.0.1"])


def test_a_listed_local_port_is_only_this_one() -> None:
    egress = Egress(["udp://10.0.0.1:5000", "239.0.0.0/8"])
    assert egress.lists("udp://10.0.0.1:5000") and egress.lists("rtp://@239.1.2.3:5004")
    assert egress.lists("udp://10.0.0.9@239.1.2.3:5000")
    for url in ("udp://10.0.0.1:5001", "rtp://10.0.0.1:5000", "udp://232.1.2.3:5000", "udp://239.1.2.3"):
        assert not egress.lists(url)
