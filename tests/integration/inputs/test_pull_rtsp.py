"""Cameras by RTSP: every picture arrives unchanged and at once by every transport; and a text for each error."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.pull import camera_output, pull_parts, rtsp_pull
from gateway.inputs.pull.pull_source import PullSource
from gateway.lib.egress import Egress
from gateway.media import nal
from gateway.media.track import Codec, Kind
from gateway.ports.errors import OutputError
from tests.support import sources
from tests.support.at_night import at_night
from tests.support.inputs import FakeInput, growing, running_source, worker_pool
from tests.support.rtsp_camera import Camera
from tests.support.time_outs import at_most

LOOPBACK = ("127.0.0.0/8",)
ANY_LOOPBACK = (*LOOPBACK, "::1/128")  # the addresses of "localhost"


def source_of(seconds: float = 2, bframes: int = 0) -> sources.Source:
    return sources.source(
        *sources.pictures("640x360", "25", noise=40), *sources.tone(),
        *("-t", str(seconds), *sources.X264, "-g", "25", "-bf", str(bframes), "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-ac", "1"),
    )  # fmt: skip


def pull(url: str, allow: tuple[str, ...] = LOOPBACK) -> PullSource:
    services: Any = SimpleNamespace(egress=Egress(allow), tls=None, workers=worker_pool())
    return PullSource(services, InputSpec("cam", InputKind.PULL, url=url))


async def fails(url: str, allow: tuple[str, ...] = LOOPBACK) -> str:
    """Returns the error text of a pull that fails."""
    with pytest.raises(OutputError) as caught:
        async with asyncio.timeout(at_most(30)):
            await pull(url, allow).run(FakeInput())
    return str(caught.value)


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("bframes", [*at_night(0), 2])
async def test_pictures_and_sound_are_pulled_unchanged(udp: bool, bframes: int) -> None:
    source, context = source_of(bframes=bframes), FakeInput()
    async with Camera(source, udp_only=udp) as camera, running_source(pull(camera.url), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= len(source.of(Kind.VIDEO)) - 1)
    played = context.recorder
    expected = [u.payload for u in source.of(Kind.VIDEO)]
    pictures = [slices(u.payload) for u in played.of(Kind.VIDEO)]
    assert pictures == [slices(p) for p in expected][: len(pictures)]
    heard, original = [u.payload for u in played.of(Kind.AUDIO)], [u.payload for u in source.of(Kind.AUDIO)]
    assert len(heard) > 60
    assert heard == original[original.index(heard[0]) :][: len(heard)]
    for kind in Kind:
        assert all(0 < step < 100 for step in growing(played.of(kind)))
    assert len(played.tracks) == 1
    shown = sorted(u.dts + u.cts for u in played.of(Kind.VIDEO))[:-3]  # a later picture may be shown before the last
    assert {after - before for before, after in itertools.pairwise(shown)} == {40 * 90}


def slices(payload: bytes) -> list[bytes]:
    """Returns the coded slices, because parameter sets beside them may be missing."""
    return [u for u in nal.split(payload) if u[0] & 0x1F in (1, 5)]


async def test_a_picture_is_published_within_a_few_milliseconds_of_its_last_packet() -> None:
    source, context = source_of(), FakeInput()
    async with Camera(source) as camera, running_source(pull(camera.url), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 40)
        sent = [at for unit, at in camera.sent if unit.track.kind is Kind.VIDEO]
        published = zip(context.recorder.units, context.recorder.at, strict=True)
        arrived = [at for unit, at in published if unit.track.kind is Kind.VIDEO]
    delays = sorted(b - a for a, b in zip(sent, arrived, strict=False))
    assert delays[len(delays) // 2] < 0.15


async def test_sender_reports_synchronize_the_sound_with_its_picture() -> None:
    source, context = source_of(), FakeInput()
    async with Camera(source, audio_offset_ms=300) as camera, running_source(pull(camera.url), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.AUDIO)) >= 40)
    original = {u.payload: u.dts for u in source.of(Kind.AUDIO)}
    first = source.of(Kind.VIDEO)[0].dts
    began = context.recorder.of(Kind.VIDEO)[0].dts
    offsets = [(u.dts - began) / 90 - (original[u.payload] - first) for u in context.recorder.of(Kind.AUDIO)[20:]]
    assert all(280 <= offset <= 320 for offset in offsets), offsets


async def test_g711_is_encoded_to_aac() -> None:
    source, context = source_of(), FakeInput()
    async with Camera(source, g711=True) as camera, running_source(pull(camera.url), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.AUDIO)) >= 20)
    tracks = context.recorder.tracks[0]
    assert tracks.audio is not None
    assert tracks.audio.codec is Codec.AAC


async def test_sound_that_cannot_be_used_is_named() -> None:
    source, context = source_of(), FakeInput()
    async with Camera(source, sound_name="G726-32") as camera, running_source(pull(camera.url), context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 5)
        stream = context.hub.find("c1")
        assert stream is not None and stream.publisher is not None
        assert stream.publisher.on_air.unusable.left_out_text == "The encoder sends G726-32: choose AAC."


async def test_a_password_is_sent_as_digest_and_never_shown() -> None:
    source, context = source_of(), FakeInput()
    async with Camera(source, password="s3cret-Passwort") as camera:
        async with running_source(pull(camera.url), context):
            await context.recorder.until(lambda: context.recorder.units)
        assert all("s3cret" not in str(request) for request in camera.requests)
        assert context.peers == [f"127.0.0.1:{camera.port}"]
        wrong = camera.url.replace("s3cret-Passwort", "wr0ng-Passwort")
        assert await fails(wrong) == "the server wants a user name and a password, or they are wrong (401)"


OFFER = b"RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\nPublic: DESCRIBE, SETUP, PLAY, GET_PARAMETER\r\n\r\n"
REFUSAL = b"RTSP/1.0 501 Not Implemented\r\nCSeq: CSEQ\r\n\r\n"


@pytest.mark.parametrize(
    ("answers", "methods"),
    [
        *at_night(({}, ["OPTIONS"] * 3), ({"OPTIONS": OFFER}, ["OPTIONS", "GET_PARAMETER", "GET_PARAMETER"])),
        ({"OPTIONS": OFFER, "GET_PARAMETER": REFUSAL}, ["OPTIONS", "GET_PARAMETER", "OPTIONS", "OPTIONS"]),
    ],
)
async def test_a_session_is_kept_by_an_offered_request(answers: dict[str, bytes], methods: list[str]) -> None:
    source, context = source_of(6), FakeInput()
    async with Camera(source, answers=answers, udp_only=True) as camera, running_source(pull(camera.url), context):

        def kept() -> list[str]:
            sent = [request for request in camera.requests if request.method in ("OPTIONS", "GET_PARAMETER")]
            return [request.method for request in sent if request.headers["Session"] == "12345"]

        await context.recorder.until(lambda: len(kept()) >= len(methods) and len(camera.reports) >= 2)
    assert kept()[: len(methods)] == methods
    assert all(report[:4] == b"\x80\xc9\0\1" for report in camera.reports), "receiver reports"


async def test_the_first_id_of_a_session_counts() -> None:
    """A camera "H264DVR 1.0" may name another one for its second track, and plays both by the first (retina #85)."""
    source, context = source_of(), FakeInput()
    async with Camera(source, second_id=True) as camera, running_source(pull(camera.url), context):
        await context.recorder.until(lambda: context.recorder.units)
    sent = {request.method: request.headers.get("Session") for request in camera.requests}
    assert (sent["PLAY"], sent["OPTIONS"]) == ("12345", "12345")


def moved(to: str) -> dict[str, bytes]:
    return {"DESCRIBE": f"RTSP/1.0 302 Moved\r\nCSeq: CSEQ\r\nLocation: {to}\r\n\r\n".encode()}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_redirect_keeps_user_name_and_password(host: str) -> None:
    source, context = source_of(), FakeInput()
    async with Camera(source, password="s3cret") as node:
        address = f"rtsp://{host}:{node.port}/node"
        camera = Camera(source, password="s3cret", answers=moved(address))
        async with camera, running_source(pull(camera.url, ANY_LOOPBACK), context):
            await context.recorder.until(lambda: context.recorder.units)


BASIC = b'RTSP/1.0 401 No\r\nCSeq: CSEQ\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'


@pytest.mark.parametrize(("host", "tries"), [("127.0.0.1", 2), ("localhost", 1)])
async def test_only_the_given_host_gets_the_password_as_basic(host: str, tries: int) -> None:
    async with Camera(source_of(), answers={"DESCRIBE": BASIC}) as node:
        address = f"rtsp://{host}:{node.port}/node"
        async with Camera(source_of(), password="s3cret", answers=moved(address)) as camera:
            assert "(401)" in await fails(camera.url, ANY_LOOPBACK)
    assert [request.headers.get("Authorization") for request in node.requests] == [None, "Basic YWRtaW46czNjcmV0"][
        :tries
    ]


async def test_a_relative_redirect_is_resolved() -> None:
    async with Camera(source_of(), answers=moved("/other")) as camera:
        assert await fails(camera.url) == "the camera redirects more than 3 times"
    assert [request.url for request in camera.requests][1:] == [f"rtsp://127.0.0.1:{camera.port}/other"] * 3


async def test_after_a_packet_loss_pictures_resume_at_the_next_key_frame() -> None:
    source, context = source_of(3), FakeInput()
    async with Camera(source, udp_only=True, lose=150) as camera, running_source(pull(camera.url), context):
        await context.recorder.until(lambda: len(camera.sent) > 170)
    expected = {bytes(slices(u.payload)[0]): n for n, u in enumerate(source.of(Kind.VIDEO))}
    played = [(expected[slices(u.payload)[0]], u.key) for u in context.recorder.of(Kind.VIDEO)]
    assert len(played) < len(source.of(Kind.VIDEO))
    for (before, _), (after, key) in itertools.pairwise(played):
        assert after == before + 1 or key


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP", "PLAY"])
async def test_a_hanging_camera_fails_after_a_timeout(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp_pull, "CONNECT_SECONDS", 0.5)
    async with Camera(source_of(), silent_at=method) as camera:
        assert await fails(camera.url) == f"no answer to {method} within 0 s"


async def test_a_camera_without_media_or_key_frames_fails_after_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_output, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(pull_parts, "LONGEST_WAIT_SECONDS", 1.5)
    async with Camera(source_of(0.5)) as camera:
        assert await fails(camera.url) == "no media for 0 s"
    async with Camera(source_of(4), key_frames=False) as camera:
        assert await fails(camera.url) == "no key frame for 2 s"


DESCRIPTION = b"v=0\r\nm=video 0 RTP/AVP 26\r\na=control:t\r\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"RTSP/1.0 404 Not Found\r\nCSeq: CSEQ\r\n\r\n", "there is no stream at this address (404)"),
        (b"RTSP/1.0 500 Oh\r\nCSeq: CSEQ\r\n\r\n", "the camera answers 500 to DESCRIBE"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "the server does not speak RTSP"),
        (b"\x00\x01\x02\x03" * 50_000, "a message without end"),
        (
            b"RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\nContent-Length: %d\r\n\r\n" % len(DESCRIPTION) + DESCRIPTION,
            "video codec JPEG cannot be carried",
        ),
        (
            b"RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
            "a line of more than 4096 characters in the session description",
        ),
        (b"RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\n\r\n", "the camera describes no video and no sound"),
        (
            b"RTSP/1.0 302 Moved\r\nCSeq: CSEQ\r\nLocation: rtsp://169.254.169.254/latest\r\n\r\n",
            "169.254.169.254 is a link-local address: connecting there is not allowed (egress.allow)",
        ),
        (
            b"RTSP/1.0 302 Moved\r\nCSeq: CSEQ\r\nLocation: rtsp://[::1\r\n\r\n",
            "the camera redirects to an invalid address",
        ),
        (
            b"RTSP/1.0 302 Moved\r\nCSeq: CSEQ\r\nLocation: http://127.0.0.1/\r\n\r\n",
            "expected an address with rtsp:// or rtsps:// and a host",
        ),
    ],
)
async def test_a_bad_answer_gives_a_specific_error(answer: bytes, words: str) -> None:
    async with Camera(source_of(), answers={"DESCRIBE": answer}) as camera:
        assert await fails(camera.url) == words


async def test_a_connection_to_a_private_address_is_refused() -> None:
    async with Camera(source_of()) as camera:
        assert "is a loopback address" in await fails(camera.url, allow=())
        assert camera.requests == []


async def test_an_address_without_a_server_gives_a_specific_error() -> None:
    assert await fails("rtsp://127.0.0.1:1/") == "connection refused"


def test_the_timeouts_match_the_documentation() -> None:
    assert (pull_parts.CONNECT_SECONDS, pull_parts.SILENCE_SECONDS, pull_parts.KEY_FRAME_SECONDS) == (10, 10, 10)
    assert pull_parts.LONGEST_WAIT_SECONDS == 90
