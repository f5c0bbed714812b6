"""Sessions of WHIP and WHEP as HTTP resources (RFC 9725): requests, entity tags, and freed resources."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.http.request import Request
from gateway.http.response import Answer, Response
from gateway.ports.errors import AtCapacity
from gateway.protocols.sdp.answer import AcceptedMedia
from gateway.protocols.sdp.offer import Offer, parse_offer
from gateway.settings.layers import SettingsError, load
from gateway.webrtc import signalling
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.signalling import FRAGMENT, MAX_OFFER, SDP, OfferRefused, Signalling, bearer
from tests.support.http import Listener, Reply, request, serving
from tests.support.time_outs import at_most
from tests.support.webrtc import Client, Recorder, Wire
from tests.support.whip_client import offer

PATH = "/c1/whip"
FRESH = "a=ice-ufrag:fresh\r\na=ice-pwd:a-password-of-24-letters\r\n"


class Owner(Recorder):
    """Forgets its session at the end, as WHIP and WHEP do."""

    def __init__(self, sessions: Signalling) -> None:
        super().__init__()
        self.sessions = sessions
        self.peer: Any = None

    def closed(self, reason: PeerEnd) -> None:
        super().closed(reason)
        self.sessions.forget(self.peer)


class Lab:
    """An HTTP server that opens sessions. answer: replaces the answer to an offer."""

    def __init__(self, listener: Listener, sessions: Signalling, wire: Wire) -> None:
        self.listener, self.sessions, self.wire = listener, sessions, wire
        self.owners: list[Owner] = []
        self.answer: Callable[[Offer], Response] | None = None
        self.entered = asyncio.Event()
        self.waits: asyncio.Future[None] | None = None
        self.was_cancelled = asyncio.Event()

    def handle(self, request: Request) -> Answer | Any:
        if request.path != PATH:
            return self.sessions.answer_request(request, request.path)

        async def accept(offered: Offer) -> Response:
            self.entered.set()
            if self.waits is not None:
                try:
                    await self.waits
                except asyncio.CancelledError:
                    self.was_cancelled.set()
                    raise
            if self.answer is not None:
                return self.answer(offered)
            owner = Owner(self.sessions)
            taken = {index: AcceptedMedia(media.codecs[0]) for index, media in enumerate(offered.media)}
            owner.peer, response = self.sessions.open(request, PATH, offered, taken, owner, has_key=False)
            self.owners.append(owner)
            return response

        return self.sessions.read_offer(request, accept)

    async def send(self, method: str, path: str, body: str | bytes = b"", kind: str = SDP, **headers: str) -> Reply:
        data = body.encode() if isinstance(body, str) else body
        fields = {"Content_Type": kind} if kind else {}
        async with self.listener.connect() as wire:
            lines = [f"{method} {path} HTTP/1.1", "Host: live.example.com", f"Content-Length: {len(data)}"]
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in (fields | headers).items()]
            await wire.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            return await wire.reply()

    async def open(self) -> tuple[Client, str, str]:
        """An open session: its client, path and entity tag."""
        client = Client()
        reply = await self.send("POST", PATH, offer(client, "sendonly", audio=False))
        assert reply.status == 201, reply.text
        return client, reply.headers["location"], reply.headers["etag"]

    async def patch(self, path: str, body: str | bytes, **headers: str) -> Reply:
        return await self.send("PATCH", path, body, FRAGMENT, **headers)


@asynccontextmanager
async def serving_sessions(**fields: Any) -> AsyncIterator[Lab]:
    wire = Wire(**fields)
    sessions = Signalling(wire.endpoint)
    labs: list[Lab] = []
    async with serving(lambda r: labs[0].handle(r), hidden=("POST", "PATCH", "DELETE", "PUT")) as listener:
        labs.append(Lab(listener, sessions, wire))
        yield labs[0]
    await wire.endpoint.close()
    assert not len(sessions), "the end of the endpoint ends all sessions"


def same(client: Client) -> str:
    return f"a=ice-ufrag:{client.ufrag}\r\na=ice-pwd:{client.password}\r\na=end-of-candidates\r\n"


def references(offers: list[Offer]) -> list[int]:
    """Returns the numbers of references to the first offer, and to each of its media."""
    return [sys.getrefcount(item) for item in (offers[0], *offers[0].media)]


async def test_a_session_does_not_keep_its_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Offer] = []

    def parse(body: bytes) -> Offer:
        parsed.append(parse_offer(body))
        return parsed[-1]

    monkeypatch.setattr(signalling, "parse_offer", parse)
    async with serving_sessions() as lab:
        _, path, tag = await lab.open()
        gc.collect()
        not_used = [parse_offer(offer(Client(), "sendonly", audio=False).encode())]
        assert len(parsed) == 1 and references(parsed) == references(not_used)
        assert "m=video 9 " in (await lab.patch(path, FRESH, If_Match=tag)).text


async def test_an_offer_is_answered_with_the_address_of_its_session() -> None:
    async with serving_sessions() as lab:
        one = await lab.send("POST", PATH, offer(Client(), "sendonly"), "Application/SDP; charset=utf-8")
        two = await lab.send("POST", PATH, offer(Client(), "sendonly"))
        assert (one.status, one.headers["content-type"]) == (201, SDP)
        assert one.headers["location"].startswith(f"{PATH}/") and one.headers["location"] != two.headers["location"]
        assert one.headers["etag"].startswith('"'), "a strong entity tag"
        assert one.headers["accept-patch"] == FRAGMENT
        exposed = one.headers["access-control-expose-headers"].lower().split(", ")
        assert {"location", "etag", "retry-after"} <= set(exposed)
        assert one.headers["access-control-allow-origin"] == "*"
        assert len(lab.sessions) == 2


@pytest.mark.parametrize("kind", ["", "text/plain", "application/sdpx", FRAGMENT])
async def test_another_media_type_is_415_and_names_the_right_one(kind: str) -> None:
    async with serving_sessions() as lab:
        reply = await lab.send("POST", PATH, offer(Client(), "sendonly"), kind)
        assert (reply.status, reply.headers["accept-post"]) == (415, SDP)
        _, path, etag = await lab.open()
        reply = await lab.send("PATCH", path, FRESH, SDP if kind == FRAGMENT else kind, If_Match=etag)
        assert (reply.status, reply.headers["accept-patch"]) == (415, FRAGMENT)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\0" * 60_000, 400),
        (b"v=0\r\ns=-\r\n", 400),
        (b"m=video\r\n" * 100, 400),
        (b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 100, 400),
        (b"x" * (MAX_OFFER + 1), 413),
        (b"x" * 1_000_000, 413),
    ],
    ids=["empty", "zeros", "no media", "malformed media", "100 media", "one byte too long", "1 MB"],
)
async def test_a_body_that_is_no_offer_is_refused_with_a_reason_and_opens_nothing(body: bytes, status: int) -> None:
    async with serving_sessions() as lab:
        try:
            reply = await lab.send("POST", PATH, body)
        except ConnectionError:
            assert status == 413, "the answer may be lost with the rest of a body that is not read"
        else:
            assert reply.status == status and reply.text.strip()
        assert not lab.entered.is_set() and not len(lab.sessions) and not lab.wire.endpoint.peers


async def test_bytes_after_the_offer_are_not_read_as_a_second_request() -> None:
    async with serving_sessions() as lab:
        text = offer(Client(), "sendonly")
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: {SDP}\r\nContent-Length: {len(text)}\r\n\r\n"
        async with lab.listener.connect() as wire:
            await wire.send(head + text + head + text)
            assert (await wire.reply()).status == 201
            assert await wire.rest() == b""
        assert len(lab.sessions) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(OfferRefused(406, "no codec"), 406), (OfferRefused(422, "two"), 422), (AtCapacity("full"), 503)],
)
async def test_a_refused_offer_gets_the_reason(error: Exception, status: int) -> None:
    def refuse(offered: Offer) -> Response:
        raise error

    async with serving_sessions() as lab:
        lab.answer = refuse
        reply = await lab.send("POST", PATH, offer(Client(), "sendonly"))
        assert (reply.status, reply.text) == (status, f"{error}\n")
        assert ("retry-after" in reply.headers) == (status == 503)


async def test_an_endpoint_without_room_answers_503() -> None:
    async with serving_sessions(half_open_per_address=1) as lab:
        await lab.open()
        reply = await lab.send("POST", PATH, offer(Client(), "sendonly"))
        assert reply.status == 503 and int(reply.headers["retry-after"]) > 0
        assert len(lab.sessions) == 1


async def test_a_stopping_process_refuses_offers_and_keeps_its_sessions() -> None:
    async with serving_sessions() as lab:
        client, path, etag = await lab.open()
        lab.sessions.stop_accepting()
        reply = await lab.send("POST", PATH, offer(Client(), "sendonly"))
        assert reply.status == 503 and reply.headers["retry-after"]
        assert (await lab.patch(path, same(client), If_Match=etag)).status == 204
        assert (await lab.send("DELETE", path)).status == 200


async def test_a_client_that_leaves_during_its_answer_cancels_it() -> None:
    async with serving_sessions() as lab:
        lab.waits = asyncio.get_running_loop().create_future()
        text = offer(Client(), "sendonly")
        async with lab.listener.connect() as wire:
            await wire.send(
                f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: {SDP}\r\nContent-Length: {len(text)}\r\n\r\n{text}"
            )
            await lab.entered.wait()
        async with asyncio.timeout(at_most(10)):
            await lab.was_cancelled.wait()
        assert not len(lab.sessions) and not lab.wire.endpoint.peers


# ---- PATCH ----


@pytest.mark.parametrize("match", ['"other"', "W/{etag}", '"a", "b"', "{bare}"])
async def test_another_entity_tag_is_412_and_changes_nothing(match: str) -> None:
    async with serving_sessions() as lab:
        client, path, etag = await lab.open()
        before = lab.owners[0].peer.ufrag
        match = match.format(etag=etag, bare=etag.strip('"'))
        for body in (same(client), FRESH):
            assert (await lab.patch(path, body, If_Match=match)).status == 412
        assert lab.owners[0].peer.ufrag == before


async def test_a_missing_entity_tag_is_428() -> None:
    async with serving_sessions() as lab:
        client, path, _ = await lab.open()
        for body in (same(client), FRESH):
            assert (await lab.patch(path, body)).status == 428
        assert lab.owners[0].peer.remote_credentials == (client.ufrag, client.password)


@pytest.mark.parametrize("match", ["*", "{etag}", '"a", {etag}'])
async def test_trickled_candidates_are_204_without_body_and_entity_tag(match: str) -> None:
    async with serving_sessions() as lab:
        client, path, etag = await lab.open()
        unknown = "a=candidate:1 1 sctp 1 nowhere.invalid 9 typ host\r\n"
        for body in (same(client), unknown, same(client) + unknown):
            reply = await lab.patch(path, body, If_Match=match.format(etag=etag))
            assert (reply.status, reply.body, "etag" in reply.headers) == (204, b"", False)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"a=x\r\n", b"a=ice-ufrag:a\r\n", b"a=ice-ufrag:fresh\r\n"])
async def test_a_malformed_fragment_is_400_and_the_session_stays(body: bytes) -> None:
    async with serving_sessions() as lab:
        client, path, etag = await lab.open()
        assert (await lab.patch(path, body, If_Match="*")).status == 400
        assert (await lab.patch(path, same(client), If_Match=etag)).status == 204


async def test_a_restart_answers_with_new_credentials_candidates_and_entity_tag() -> None:
    async with serving_sessions(advertise=()) as lab:
        client, path, etag = await lab.open()
        reply = await lab.patch(path, FRESH, If_Match="*")
        assert (reply.status, reply.headers["content-type"]) == (200, FRAGMENT)
        new = reply.headers["etag"]
        assert new != etag
        lines = reply.text.split("\r\n")
        peer = lab.owners[0].peer
        assert f"a=ice-ufrag:{peer.ufrag}" in lines and f"a=ice-pwd:{peer.password}" in lines
        assert {"a=ice-lite", "a=ice-options:trickle ice2", "a=end-of-candidates"} <= set(lines)
        assert any(line.startswith("a=candidate:") for line in lines)
        # What was sent before the restart and arrives after it must not undo it.
        assert (await lab.patch(path, same(client), If_Match=etag)).status == 412
        assert peer.remote_credentials == ("fresh", "a-password-of-24-letters")
        assert (await lab.patch(path, FRESH + "a=end-of-candidates\r\n", If_Match=new)).status == 204


async def test_a_quoted_asterisk_restarts_ice_like_a_bare_one() -> None:
    """The figure of an ICE restart in the WHEP draft has quotes around it."""
    async with serving_sessions() as lab:
        _, path, etag = await lab.open()
        reply = await lab.patch(path, FRESH, If_Match='"*"')
        assert (reply.status, reply.headers["content-type"]) == (200, FRAGMENT)
        assert reply.headers["etag"] != etag


@pytest.mark.parametrize("match", ["*", "{etag}"], ids=["asterisk", "entity tag"])
async def test_a_repeated_restart_has_the_same_answer_until_a_check_has_the_new_credentials(match: str) -> None:
    """The answer may be lost with the network that the client leaves."""
    async with serving_sessions() as lab:
        client, path, etag = await lab.open()
        lab.wire.clients.append(client)
        first, again = [await lab.patch(path, FRESH, If_Match=match.format(etag=etag)) for _ in range(2)]
        assert (first.status, again.status) == (200, 200)
        assert again.text == first.text
        assert again.headers["etag"] == first.headers["etag"]
        client.answer(lab.owners[0].peer)
        client.ufrag, client.password = "fresh", "a-password-of-24-letters"
        client.send_check()
        await lab.wire.exchange()
        assert (await lab.patch(path, FRESH, If_Match="*")).status == 204


# ---- the end ----


async def test_a_session_is_deleted_once_with_any_entity_tag() -> None:
    async with serving_sessions() as lab:
        _, path, _ = await lab.open()
        assert (await lab.send("DELETE", path, If_Match='"other"')).status == 200
        assert lab.owners[0].ends == [PeerEnd.CLOSED]
        assert not len(lab.sessions) and not lab.wire.endpoint.peers
        for method in ("DELETE", "PATCH", "POST"):
            assert (await lab.send(method, path, FRESH, FRAGMENT, If_Match="*")).status == 404


async def test_a_session_accepts_no_other_methods() -> None:
    async with serving_sessions() as lab:
        _, path, _ = await lab.open()
        for method in ("POST", "PUT"):
            reply = await lab.send(method, path, offer(Client(), "sendonly"))
            assert (reply.status, reply.headers["allow"]) == (405, "DELETE, OPTIONS, PATCH, POST")


async def test_a_session_that_never_connects_ends_and_is_removed() -> None:
    async with serving_sessions(connect_timeout=5, half_open=1, half_open_per_address=1) as lab:
        _, path, _ = await lab.open()
        lab.wire.clock.now += 5
        lab.wire.endpoint.tick(lab.wire.clock())
        assert lab.owners[0].ends == [PeerEnd.CONNECT_TIMEOUT]
        assert not len(lab.sessions)
        assert (await lab.patch(path, FRESH, If_Match="*")).status == 404
        await lab.open()  # its place is free


@pytest.mark.parametrize(
    ("host", "address"),
    [("198.51.100.7:8080", "198.51.100.7"), ("[2001:db8::7]:80", None), ("name.example:80", None)],
)
async def test_the_address_that_the_client_used_is_a_candidate(host: str, address: str | None) -> None:
    wire = Wire()
    sessions, client = Signalling(wire.endpoint), Client()
    offered = parse_offer(offer(client, "sendonly", audio=False).encode())
    owner = Owner(sessions)
    asked = request(PATH, "POST")
    asked.headers["host"] = host
    taken = {0: AcceptedMedia(offered.media[0].codecs[0])}
    owner.peer, response = sessions.open(asked, PATH, offered, taken, owner, has_key=False)
    assert isinstance(response.body, bytes)
    used = [line.split()[4] for line in response.body.decode().splitlines() if line.startswith("a=candidate:")]
    assert used[0] == (address or "127.0.0.1"), "without addresses of the machine, and without IPv6"
    owner.peer.close()
    assert not len(sessions)


async def test_the_answer_names_the_stun_and_turn_servers() -> None:
    servers = ("stun:stun.example.net", "turn:[2001:db8::1]:443?transport=tcp user p=ss/word")
    wire = Wire()
    sessions = Signalling(wire.endpoint, None, servers)
    offered = parse_offer(offer(Client(), "sendonly", audio=False).encode())
    owner = Owner(sessions)
    taken = {0: AcceptedMedia(offered.media[0].codecs[0])}
    owner.peer, response = sessions.open(request(PATH, "POST"), PATH, offered, taken, owner, has_key=False)
    assert response.headers["Link"] == (
        '<stun:stun.example.net>; rel="ice-server", <turn:[2001:db8::1]:443?transport=tcp>; rel="ice-server"; '
        'username="user"; credential="p=ss/word"; credential-type="password"'
    )
    head = response.head().decode()
    assert "Retry-After, Link, Location" in head
    owner.peer.close()


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        ("stun:stun.example.net:3478, turns:a.example u p", True),
        ("", True),
        ("stun:a.example u p", False),
        ("turn:a.example", False),
        ("turn:a.example?transport=sctp u p", False),
        ('turn:a.example u p"x', False),
        ("http://a.example", False),
        ("stun:a.example>; rel=x", False),
        (",".join(["stun:a.example"] * 9), False),
    ],
)
def test_the_setting_accepts_only_addresses_of_ice_servers(value: str, is_valid: bool) -> None:
    environment = {"MILLRACE_WEBRTC__ICE_SERVERS": value}
    if is_valid:
        assert len(load(environ=environment, overrides=[]).webrtc.ice_servers) == len(
            [v for v in value.split(",") if v]
        )
    else:
        with pytest.raises(SettingsError):
            load(environ=environment, overrides=[])


@pytest.mark.parametrize(
    ("value", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("Bearer", ""), ("", "")],
)
def test_a_bearer_token_is_read_from_its_header(value: str, token: str) -> None:
    assert bearer(request("/", "POST", authorization=value)) == token
