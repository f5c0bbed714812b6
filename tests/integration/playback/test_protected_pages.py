"""Nothing of a channel reaches a viewer whom its protection refuses: a table of addresses and protections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.auth_hook import HookService, hook_service
from tests.support.gateway import Channel, Gateway, Reply, http, running
from tests.support.media import SMALL_BFRAMES
from tests.support.rewinding import StoredFilm
from tests.support.tools import need

SECRET = "from the CDN"
START = 1_764_300_000_000  # of the stored session, ms
FRIEND, STRANGER = {"Referer": "https://friends.example/page"}, {"Referer": "https://others.example/page"}

# Each address of a channel that shows something of it; {session} is a stored session. More may be added.
ADDRESSES = [
    "status.json",
    "poster.jpg",
    "vod/{session}/",
    "vod/{session}/poster.jpg",
    "vod/{session}/video.mp4",
    "vod/vod-{session}.m3u8/",
    "vod/vod-{session}.m3u8",
    "vod/720p/{session}.ts",
]
# The watch page is the same for everybody: its script asks for the status.
PUBLIC = [""]


@dataclass
class Protection:
    """A channel, and a request that its protection refuses or allows. fields: of the channel."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] | None = None  # headers; None: nobody is refused
    allowed: Mapping[str, str] = field(default_factory=dict)
    signed: bool = False  # the addresses of the API have a sign


PROTECTIONS = {
    "none": Protection(),
    "sign": Protection({"playAuth": "sign"}, {}, signed=True),
    "cloudfront": Protection({"playAuth": "cloudfront"}, {}, {"X-Millrace-Origin": SECRET}),
    "referer": Protection({"refererAllow": ["friends.example"]}, STRANGER, FRIEND),
    "hook": Protection({}, {}),  # of the gateway that asks
}


@dataclass
class Lab:
    """Two gateways, of which one asks a service. channels: by protection, and whether the service refuses viewers."""

    gateway: Gateway
    asking: Gateway
    service: HookService
    film: StoredFilm
    channels: dict[tuple[str, bool], Channel] = field(default_factory=dict)

    def channel(self, protection: str, *, refused: bool) -> Channel:
        is_hook = protection == "hook"
        key = protection, is_hook and refused
        if key not in self.channels:
            gateway = self.asking if is_hook else self.gateway
            fields = PROTECTIONS[protection].fields
            made = self.channels[key] = gateway.channel(videoname="Main stage", isOnDemand=True, **fields)
            self.service.answers[made.id] = (403, "") if refused else (200, "")
            self.film.store(gateway.data / "media", made.id, START / 1000)
        return self.channels[key]

    def get(self, protection: str, address: str, *, refused: bool) -> Reply:
        channel, rule = self.channel(protection, refused=refused), PROTECTIONS[protection]
        query = ""
        if rule.signed and not refused:
            (item,) = channel.gateway.api("GET", f"/videostream/{channel.id}/recordings").json()
            query = "?" + item["url"].partition("?")[2]
        headers = rule.refused if refused else rule.allowed
        return http("GET", channel.url(address.format(session=START)) + query, headers=dict(headers or {}))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    need("ffmpeg")
    settings = {"MILLRACE_CLOUDFRONT__ORIGIN_SECRET": SECRET}
    with (
        StoredFilm(SMALL_BFRAMES) as film,
        hook_service() as service,
        running(**settings) as gateway,
        running(MILLRACE_AUTH__PLAY=service.url) as asking,
    ):
        yield Lab(gateway, asking, service, film)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("protection", [name for name, rule in PROTECTIONS.items() if rule.refused is not None])
def test_a_refused_viewer_gets_nothing(lab: Lab, protection: str, address: str) -> None:
    reply = lab.get(protection, address, refused=True)
    assert reply.status in (401, 403), reply.text[:200]
    assert str(START) not in reply.text and "Main stage" not in reply.text


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_an_allowed_viewer_gets_it(lab: Lab, protection: str, address: str) -> None:
    reply = lab.get(protection, address, refused=False)
    assert reply.status in (200, 302), reply.text[:200]


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_watch_page_itself_names_no_session(lab: Lab, protection: str) -> None:
    for address in PUBLIC:
        reply = lab.get(protection, address, refused=True)
        assert reply.status == 200
        assert "vod/" not in reply.text
