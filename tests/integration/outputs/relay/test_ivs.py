"""Relays to Amazon IVS: the address and key of a channel's ARN, and warnings before IVS disconnects."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.formats.flv.tag import VIDEO
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.ports.stores import IvsIngest as Told
from tests.support import builders
from tests.support.authority import Authority
from tests.support.ivs import KEY, IvsIngest
from tests.support.relaying import live, relays

ARN = "arn:aws:ivs:us-west-2:123456789012:channel/abcDEF"


class Directory:
    """An IVS directory that returns `key`. `asked` records whether each request wanted a fresh answer."""

    def __init__(self, endpoint: str, key: str = KEY, kind: str = "STANDARD") -> None:
        self.endpoint, self.key, self.kind = endpoint, key, kind
        self.asked: list[bool] = []

    async def ingest(self, arn: str, *, fresh: bool = False) -> Told:
        assert arn == ARN
        self.asked.append(fresh)
        return Told(self.endpoint, self.key if fresh or len(self.asked) == 1 else "stale", self.kind)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest_asyncio.fixture
async def ivs(authority: Authority) -> AsyncIterator[IvsIngest]:
    async with IvsIngest(authority.server("127.0.0.1")) as ingest:
        yield ingest


async def test_the_arn_of_a_channel_is_a_sufficient_target(ivs: IvsIngest, authority: Authority) -> None:
    directory = Directory(ivs.endpoint)
    async with live(ARN, with_=relays(tls=authority.client(), ivs=directory)) as on:
        on.film(range(0, 2000, 40))
        session = await ivs.session(media=100)
        assert (session.app, session.name, len([t for t in session.media if t.type_id == VIDEO])) == ("app", KEY, 50)
        report = await on.state("live")
        assert (report["url"], report["warnings"]) == (ARN, [])
        assert KEY not in str(on.status)
    assert session.finished and ivs.disconnects == []


async def test_a_changed_key_is_requested_again_and_never_shown(
    ivs: IvsIngest, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = Directory(ivs.endpoint, key="sk_us-west-2_revoked_0123456789")
    async with live(ARN, with_=relays(tls=authority.client(), ivs=directory)) as on:
        report = await on.state("retrying")
        assert report["error"].startswith("refused: NetStream.Publish.BadName") and "revoked" not in str(on.status)
        directory.key = KEY
        await on.state("live")
    assert directory.asked[:2] == [False, True]
    said = capfd.readouterr()
    assert "revoked_0123456789" not in said.out + said.err and KEY not in said.out + said.err


async def test_a_too_high_bitrate_gives_a_warning_before_ivs_disconnects(ivs: IvsIngest, authority: Authority) -> None:
    directory = Directory(ivs.endpoint, kind="BASIC")
    ivs._kind = "ADVANCED_HD"  # this IVS accepts everything, so the warning must come from the gateway
    async with live(ARN, with_=relays(tls=authority.client(), ivs=directory)) as on:
        await on.state("live")
        await on.film_on(range(0, 12_000, 40), gop=50, size=20_000)
        await on.until(lambda: any("Mbit" in w for w in on.targets[0]["warnings"]), "told")
        (warning,) = on.targets[0]["warnings"]
        assert "at most 3.5 Mbit/s" in warning and on.targets[0]["error"] is None


async def test_the_relay_reconnects_after_ivs_disconnects(ivs: IvsIngest, authority: Authority) -> None:
    async with live(ARN, with_=relays(tls=authority.client(), ivs=Directory(ivs.endpoint))) as on:
        await on.state("live")
        await on.film_on(range(0, 8_000, 40), gop=50, size=80_000)
        await ivs.until(lambda: set(ivs.disconnects) == {"bitrate"})
        await on.state("retrying")


@pytest.mark.parametrize(
    ("video", "audio", "words"),
    [
        (None, builders.AUDIO, "IVS takes no stream without video"),
        (MediaTrack(Kind.VIDEO, Codec.H265, 1000, b"\1"), builders.AUDIO, "IVS takes H.264 video, and this is h265"),
    ],
)
async def test_an_unsupported_stream_fails_only_for_ivs_until_its_tracks_change(
    ivs: IvsIngest, authority: Authority, video: MediaTrack | None, audio: MediaTrack, words: str
) -> None:
    directory = Directory(ivs.endpoint)
    async with live(ARN, tracks=False, with_=relays(tls=authority.client(), ivs=directory)) as on:
        on.publisher.set_tracks(video, audio, {})
        report = await on.state("failed")
        assert report["error"] == words and not ivs.sessions
        on.publisher.set_tracks(builders.VIDEO, builders.AUDIO, {})
        on.film(range(0, 400, 40))
        await ivs.session(media=20)


async def test_tracks_that_follow_unsupported_ones_at_once_are_relayed(ivs: IvsIngest, authority: Authority) -> None:
    async with live(ARN, with_=relays(tls=authority.client(), ivs=Directory(ivs.endpoint))) as on:
        on.film(range(0, 400, 40))
        await ivs.session(media=20)
        on.publisher.set_tracks(MediaTrack(Kind.VIDEO, Codec.H265, 1000, b"\1"), builders.AUDIO, {})
        on.publisher.push(builders.sound(400), time.monotonic())
        on.publisher.set_tracks(builders.VIDEO, builders.AUDIO, {})
        on.film(range(440, 840, 40))
        await ivs.session(1, media=20)


async def test_without_aws_an_arn_gives_a_clear_error() -> None:
    async with live(ARN) as on:
        report = await on.state("retrying")
        assert report["error"].startswith("IVS channels need AWS")


async def test_the_double_refuses_wrong_keys_and_second_pushes(ivs: IvsIngest, authority: Authority) -> None:
    made = relays(tls=authority.client())
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(live(ivs.url(KEY), with_=made))
        first.film(range(0, 400, 40))
        await ivs.session(media=20)
        for url in (ivs.url(KEY), ivs.url("sk_us-west-2_wrong")):
            async with live(url, with_=made) as other:
                assert (await other.state("retrying"))["error"].startswith("refused: NetStream.Publish.BadName")
        assert len(ivs.sessions) == 1
