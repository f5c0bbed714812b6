"""Push over WebSocket into this process: admission, codes, limits, life of a push; and sound by real workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.ingest import admission
from gateway.ingest.refusal_texts import REVOKED_KEY, WRONG_KEY
from gateway.ingest.websocket import compatible_targets
from gateway.ingest.websocket.compatible_targets import CompatibleTargets
from gateway.lib.egress import Egress
from gateway.live import sound_gaps, track_changes
from gateway.live.shelf import StreamLimits
from gateway.live.sink import EndReason
from gateway.media.track import Kind
from gateway.outputs.relay.relay_output import RelayFactory
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Events, EventType
from gateway.protocols.push import CloseCode, Configured
from gateway.settings.layers import load
from tests.support.builders import FAR
from tests.support.http import trusting
from tests.support.push_messages import config_text, end_text
from tests.support.push_rig import SECRETS, PushServer, rig
from tests.support.pushing import OPUS, Page, camera, chunk, close_code, config, page
from tests.support.rtmp_target import RtmpTarget
from tests.support.sources import X264, h264, pictures, source
from tests.support.time_outs import at_most

SILENT = camera(sound=False)


async def live(stack: contextlib.AsyncExitStack, lab: PushServer, id: str = "c1") -> Page:
    """A page that is pushing pictures into the channel."""
    pushing = await stack.enter_async_context(page(lab.url(id)))
    await pushing.wait("accepted")
    await pushing.configure(SILENT)
    await pushing.film(SILENT)
    await lab.until(lambda: id in lab.viewers and lab.viewer(id).pictures, "pictures")
    return pushing


@pytest.fixture
def no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound worker that waits for a processor makes no pause of the sound, however long it waits."""
    monkeypatch.setattr(sound_gaps, "LATE_MS", 3_600_000)


# ---- media ----


@pytest.mark.usefixtures("no_silence")
async def test_pictures_are_forwarded_unchanged_and_sound_becomes_aac() -> None:
    film = camera(seconds=3)
    async with rig() as lab, page(lab.url()) as pushing:
        said = await pushing.wait("accepted")
        assert said == {"type": "accepted", "id": "c1", "protocol": "frames", "video": None, "audio": None}
        await pushing.configure(film)
        await pushing.film(film, pace=2)
        await pushing.send(end_text())
        assert await pushing.closed() == 1000
        seen = lab.viewer()
        assert [u.payload for u in seen.pictures] == [u.payload for u in film.of(Kind.VIDEO)]
        assert [u.key for u in seen.pictures] == [u.key for u in film.of(Kind.VIDEO)]
        assert seen.epochs == [0]
        times = [u.dts for u in seen.sounds]
        assert all(20 <= b - a <= 23 for a, b in pairwise(times)), "not a frame is missing"
        sent = film.of(Kind.AUDIO)
        assert abs((times[-1] + 21 - times[0]) - (sent[-1].dts + 20 - sent[0].dts)) < 64
        await lab.empty()


async def test_aac_needs_no_worker() -> None:
    film = h264(seconds=2, bframes=0)
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(film)
        await pushing.film(film)
        await pushing.send(end_text())
        assert await pushing.closed() == 1000
        seen = lab.viewer()
        assert [u.payload for u in seen.sounds] == [u.payload for u in film.of(Kind.AUDIO)]
        assert lab.workers.running == 0


async def test_pictures_do_not_wait_for_the_sound_worker() -> None:
    film = camera(seconds=1)
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(film)
        await pushing.send(*(chunk(u) for u in film.of(Kind.VIDEO)))
        await lab.until(lambda: lab.viewer().pictures, "pictures")
        tracks = lab.viewer().tracks[0]
        assert tracks.audio is not None, "announced before the worker has made any"
        assert lab.viewer().sounds == []


async def test_mono_sound_stays_mono() -> None:
    film = camera(seconds=1, channels=1)
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(film)
        await pushing.film(film)
        await pushing.send(end_text())
        await pushing.closed()
        track = lab.viewer().tracks[0].audio
        assert track is not None and track.config == bytes.fromhex("1188")
        assert lab.viewer().sounds


async def test_a_new_picture_size_starts_a_new_epoch() -> None:
    small, large = camera(seconds=1), camera("640x360", seconds=1)
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(small)
        await pushing.film(small, pace=2)
        await pushing.configure(large)
        await pushing.film(large, pace=2, shift=1000)
        await pushing.send(end_text())
        assert await pushing.closed() == 1000
        seen = lab.viewer()
        assert seen.epochs == [0, 1]
        assert [(t.metadata["width"], t.metadata["height"]) for t in seen.tracks] == [(320, 180), (640, 360)]
        assert len(seen.pictures) == 60
        assert all(a < b for a, b in pairwise([u.dts for u in seen.sounds]))


async def test_sound_may_change_from_stereo_to_mono() -> None:
    film = camera(seconds=1)
    other = camera(seconds=1, channels=1)
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(film)
        await pushing.film(film, pace=2)
        await lab.until(lambda: lab.viewer().sounds, "sound")
        await pushing.configure(other)
        await pushing.film(other, pace=2, shift=1000)
        await pushing.send(end_text())
        assert await pushing.closed() == 1000
        seen = lab.viewer()
        assert [t.audio and t.audio.config.hex() for t in seen.tracks] == ["1190", "1188"]
        assert {u.track.config.hex() for u in seen.sounds} == {"1190", "1188"}
        assert all(a < b for a, b in pairwise([u.dts for u in seen.sounds]))


async def test_a_dead_sound_worker_is_replaced_without_an_effect_on_pictures() -> None:
    film = camera(seconds=4)
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(film)
        playing = asyncio.create_task(pushing.film(film, pace=1))
        await lab.until(lambda: len(lab.viewer().sounds) > 20, "sound")
        for pid in await lab.until(lambda: _children("sound_worker"), "the worker"):
            os.kill(pid, 9)
        await playing
        await pushing.send(end_text())
        assert await pushing.closed() == 1000
        seen = lab.viewer()
        assert [u.payload for u in seen.pictures] == [u.payload for u in film.of(Kind.VIDEO)]
        assert seen.epochs == [0]
        times = [u.dts for u in seen.sounds]
        assert all(a < b for a, b in pairwise(times))
        assert times[-1] > seen.pictures[-1].dts - 150, "it speaks again"
        await lab.empty()


def _children(module: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if module in command and int(status[1]) == os.getpid():
                found.append(int(pid))
    return found


async def test_statistics_are_sent_every_second() -> None:
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(SILENT)
        await pushing.film(SILENT, pace=2)
        said = (await pushing.wait("stats")) and pushing.of("stats")[-1]
        assert set(said) == {"type", "bitrate", "received", "frames", "dropped", "fps", "behind", "video", "audio"}
        assert said["bitrate"] > 100_000 and said["frames"] > 10 and said["dropped"] == 0
        assert (said["video"], said["audio"], said["behind"]) == ("copy", None, 0.0)


@pytest.mark.usefixtures("no_silence")
async def test_sound_and_picture_stay_in_sync() -> None:
    """A tone that begins with a picture is heard with that picture, within a few milliseconds."""
    beep = ("-f", "lavfi", "-i", "aevalsrc='if(gte(t,1),0.8*sin(880*2*PI*t),0)':s=48000")
    film = source(
        *(*pictures(), *beep, "-t", "2", *X264, "-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p"),
        *OPUS,
        container="matroska",
    )
    first = film.of(Kind.VIDEO)[0]
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.configure(film)
        await pushing.film(film, pace=2)
        await pushing.send(end_text())
        await pushing.closed()
        sounds = lab.viewer().sounds
        decoder = av.CodecContext.create("aac", "r")
        decoder.extradata = sounds[0].track.config
        heard = None
        for unit in sounds:
            for frame in decoder.decode(av.Packet(unit.payload)):  # type: ignore[attr-defined]
                loud = next(
                    (n for n, (v,) in enumerate(struct.iter_unpack("f", bytes(frame.planes[0]))) if abs(v) > 0.3), None
                )
                if loud is not None and heard is None:
                    heard = unit.dts + loud / 48
        began = lab.viewer().pictures[0].dts - (first.dts + first.cts)  # where the film's time 0 is
        # Matroska's times have the codec's delay taken off already, which a page's have not: 6.5 ms of tolerance.
        assert heard is not None
        assert heard - began == pytest.approx(1000, abs=15)


# ---- refusals ----


MISSING, EXPIRED = "the address is /stream/<id>?sign=<expiry>-<hash>", "The key expired on 2020-09-13 12:26 UTC."


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/stream/c1", MISSING),
        ("/stream/c1?sign=", MISSING),
        (f"/stream/c1?sign={SECRETS.sign('c1', FAR)[:-1]}x", WRONG_KEY),
        (f"/stream/c1?sign={SECRETS.sign('c1', 1_600_000_000)}", EXPIRED),
        (f"/stream/c1?sign={SECRETS.sign('c1', FAR - 1)}", REVOKED_KEY),
        (f"/stream/c2?sign={SECRETS.sign('c2', FAR)}", WRONG_KEY),
        ("/stream/c1@720p?sign=" + SECRETS.sign("c1@720p", FAR), WRONG_KEY),
        ("/stream/?sign=1-a", WRONG_KEY),
        ("/stream/%2e%2e/c1?sign=1-a", WRONG_KEY),
        ("/stream/c1?" + "&".join(["a=b"] * 40) + f"&sign={SECRETS.sign('c1', FAR)}", MISSING),
    ],
)
async def test_a_push_without_a_valid_key_of_the_channel_is_closed_with_4401(path: str, text: str) -> None:
    async with rig() as lab, page(lab.url(path=path)) as refused:
        assert await refused.closed() == 4401
        assert refused.error["code"] == 4401
        assert text in refused.error["reason"] and text in refused.reason
        assert list(lab.hub) == []
        assert [e.type for e in lab.events] == [EventType.PUBLISH_REFUSED]
        assert lab.admission.refused == {"NotAuthorized": 1}


async def test_a_push_to_a_channel_in_use_is_closed_with_4409() -> None:
    async with contextlib.AsyncExitStack() as stack, rig() as lab:
        first = await live(stack, lab)
        async with page(lab.url()) as second:
            assert await second.closed() == 4409
            assert second.error["reason"] == "The channel is in use by another publisher."
        assert first.code is None


async def test_an_unavailable_store_closes_the_push_with_1013(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "STORE_SECONDS", 0.2)
    async with rig() as lab:
        lab.store.error = StoreUnavailable("locked by somebody")
        async with page(lab.url()) as refused:
            assert await refused.closed() == 1013
            assert "locked" not in refused.error["reason"]
        lab.store.error = None
        lab.store.answer.clear()
        assert await close_code(lab.url()) == 1013


async def test_a_full_node_closes_a_new_push_with_1013() -> None:
    async with contextlib.AsyncExitStack() as stack, rig("c1", "c2", hub_limits={"publishers": 1}) as lab:
        await live(stack, lab)
        assert await close_code(lab.url("c2")) == 1013


async def test_the_number_of_pushes_per_address_is_limited() -> None:
    async with contextlib.AsyncExitStack() as stack, rig("c1", "c2", publishers_per_address=1) as lab:
        first = await live(stack, lab)
        assert await close_code(lab.url("c2")) == 1013
        await first.ws.close()
        await lab.empty()
        await live(stack, lab, "c2")


async def test_an_address_with_wrong_keys_is_refused_but_its_right_keys_work() -> None:
    async with rig(refusals=3) as lab:
        for _ in range(3):
            assert await close_code(lab.url(sign="1-a")) == 4401
        assert await close_code(lab.url(sign="1-a")) == 1013
        async with contextlib.AsyncExitStack() as stack:
            await live(stack, lab)


async def test_an_invalid_push_address_is_not_upgraded() -> None:
    async with rig() as lab:
        for path in ("/", "/live/c1", "/streams/c1", "/rtmps/h264/rtmp://127.0.0.1/app/key", "/rtmps/rtmp://h/a/k"):
            with pytest.raises(InvalidStatus) as refused:
                async with page(lab.url(path=path)):
                    pass
            assert refused.value.response.status_code == 404


async def test_a_load_balancer_can_request_the_health_check() -> None:
    async with rig() as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.listener.port)
        writer.write(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200") and answer.rstrip().endswith(b"OK")


# ---- origins and proxies ----


async def test_a_page_of_another_host_may_not_push() -> None:
    async with rig() as lab:
        with pytest.raises(InvalidStatus) as refused:
            async with page(lab.url(), origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        assert list(lab.hub) == []
        assert lab.admission.refused == {"NotAuthorized": 1}
        assert lab.events[0].channel == "c1"
        async with page(lab.url(), origin="http://127.0.0.1:8000") as own:
            await own.wait("accepted")


async def test_a_page_of_a_listed_origin_may_push() -> None:
    async with rig(origins=("https://studio.example.com",)) as lab:
        async with page(lab.url(), origin="https://studio.example.com") as listed:
            await listed.wait("accepted")
        with pytest.raises(InvalidStatus):
            async with page(lab.url(), origin="http://127.0.0.1:8000"):
                pass


async def test_limits_behind_a_proxy_apply_to_the_client() -> None:
    proxied = {"additional_headers": {"X-Forwarded-For": "6.6.6.6, 192.0.2.1"}}
    async with (
        rig("c1", "c2", "c3", publishers_per_address=1, forwarded=trusting("127.0.0.0/8")) as lab,
        page(lab.url("c1"), **proxied) as first,
    ):
        await first.wait("accepted")
        (stream,) = lab.hub
        assert stream.publisher is not None and stream.publisher.on_air.peer == "192.0.2.1"
        assert await close_code(lab.url("c2"), **proxied) == 1013
        async with page(lab.url("c2"), additional_headers={"X-Forwarded-For": "192.0.2.2"}) as other:
            await other.wait("accepted")
        await lab.until(lambda: len(list(lab.hub)) == 1, "the other one has left")
        async with page(lab.url("c2")) as proxy, page(lab.url("c3")) as again:  # the proxy itself
            await proxy.wait("accepted")
            await again.wait("accepted")


@pytest.mark.parametrize(
    ("networks", "origin", "forwarded", "allowed"),
    [
        (("127.0.0.0/8",), "https://live.example.com", "live.example.com", True),
        (("127.0.0.0/8",), "https://live.example.com", "forged.example, live.example.com:443", True),
        (("127.0.0.0/8",), "https://evil.example", "live.example.com", False),
        (("127.0.0.0/8",), "http://127.0.0.1:8000", "live.example.com", False),
        (("10.0.0.0/8",), "https://live.example.com", "live.example.com", False),
        ((), "http://127.0.0.1:8000", "live.example.com", True),
    ],
)
async def test_the_own_pages_are_those_of_the_host_that_a_listed_proxy_forwards(
    networks: tuple[str, ...], origin: str, forwarded: str, allowed: bool
) -> None:
    """Apache puts the address of the gateway into Host, and the host of its client into X-Forwarded-Host."""
    headers = {"additional_headers": {"X-Forwarded-Host": forwarded}}
    async with rig(forwarded=trusting(*networks)) as lab:
        with contextlib.nullcontext() if allowed else pytest.raises(InvalidStatus, match="403"):
            async with page(lab.url(), origin=origin, **headers) as pushing:
                await pushing.wait("accepted")


async def test_the_forwarded_header_of_an_unlisted_peer_is_ignored() -> None:
    async with rig() as lab, page(lab.url(), additional_headers={"X-Forwarded-For": "192.0.2.1"}) as first:
        await first.wait("accepted")
        (stream,) = lab.hub
        assert stream.publisher is not None and stream.publisher.on_air.peer == "127.0.0.1"


# ---- the beginning and the end of a push ----


async def test_a_push_that_sends_nothing_is_taken_over() -> None:
    async with contextlib.AsyncExitStack() as stack, rig(hub_limits={"takeover_after": 0.2}) as lab:
        first = await live(stack, lab)
        await asyncio.sleep(0.25)
        second = await stack.enter_async_context(page(lab.url()))
        await second.wait("accepted")
        assert await first.closed() == 4409
        assert first.error["reason"] == "Another publisher has taken over."
        await second.configure(SILENT)
        await second.film(SILENT)
        await lab.until(lambda: len(lab.viewer().epochs) == 2, "the second one's pictures")
        shown = lab.viewer().shown
        assert all(a < b for a, b in pairwise(shown)), "time goes on"


async def test_a_reconnecting_push_continues_its_stream() -> None:
    async with contextlib.AsyncExitStack() as stack, rig() as lab:
        first = await live(stack, lab)
        first.ws.transport.abort()
        await lab.empty()
        await live(stack, lab)
        await lab.until(lambda: len(lab.viewer().epochs) == 2, "it resumed")
        assert len(lab.viewers["c1"]) == 1, "the same stream"
        assert all(a < b for a, b in pairwise(lab.viewer().shown))


async def test_a_push_is_stopped_by_its_last_message_and_broken_by_a_lost_connection() -> None:
    """Viewers read that a broadcast has paused, or that its connection broke."""
    for is_stopped in (True, False):
        async with contextlib.AsyncExitStack() as stack, rig() as lab:
            pushing = await live(stack, lab)
            if is_stopped:
                await pushing.send(end_text())
                assert await pushing.closed() == 1000
            else:
                pushing.ws.transport.abort()
            await lab.empty()
            assert [stream.received.was_stopped for stream in lab.hub] == [is_stopped]


@pytest.mark.parametrize("reason", [EndReason.KICKED, EndReason.DELETED, EndReason.EXPIRED])
async def test_an_evicted_push_is_closed_with_4410(reason: EndReason) -> None:
    async with contextlib.AsyncExitStack() as stack, rig() as lab:
        pushing = await live(stack, lab)
        lab.hub.end("c1", reason)
        assert await pushing.closed() == 4410
        assert pushing.error["code"] == 4410
        assert pushing.texts[-1].startswith('{"type":"error"')
        await lab.empty()


async def test_a_server_shutdown_closes_all_pushes_with_1001() -> None:
    async with contextlib.AsyncExitStack() as stack, rig("c1", "c2") as lab:
        pushing = await live(stack, lab)
        waiting = await stack.enter_async_context(page(lab.url("c2")))
        await waiting.wait("accepted")
        lab.listener.close()
        lab.hub.drain()
        assert await pushing.closed() == 1001
        assert await waiting.closed() == 1001
        with pytest.raises(OSError, match=r"[Cc]onnect"):
            async with page(lab.url("c2")):
                pass
        await lab.empty()


async def test_hang_up_closes_the_remaining_connections_with_1001() -> None:
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.wait("accepted")
        await lab.listener.hang_up(grace=3)
        assert await pushing.closed() == 1001
        assert lab.listener.connections == 0


async def test_the_close_reason_reaches_a_page_that_continues_to_send() -> None:
    async with contextlib.AsyncExitStack() as stack, rig() as lab:
        pushing = await live(stack, lab)

        async def send_on() -> None:
            with contextlib.suppress(Exception):
                while True:
                    await pushing.film(SILENT, shift=10_000)

        sending = asyncio.create_task(send_on())
        seen = len(lab.viewer().pictures)
        await lab.until(lambda: len(lab.viewer().pictures) > seen, "it sends on")
        lab.hub.end("c1", EndReason.KICKED)
        assert await pushing.closed() == 4410
        sending.cancel()


async def test_a_page_that_disconnects_during_the_key_check_leaves_no_stream() -> None:
    async with rig() as lab:
        lab.store.answer.clear()
        async with page(lab.url()) as pushing:
            await lab.store.asked.wait()
            pushing.ws.transport.abort()
        lab.store.answer.set()
        await lab.empty()
        assert list(lab.hub) == []


async def test_data_sent_during_the_key_check_are_not_lost() -> None:
    async with rig() as lab, page(lab.url()) as pushing:
        lab.store.answer.clear()
        await pushing.configure(SILENT)
        sending = asyncio.create_task(pushing.film(SILENT))
        await lab.store.asked.wait()
        lab.store.answer.set()
        await sending
        await lab.until(lambda: len(lab.viewer().pictures) == len(SILENT.units), "every picture")


# ---- stalls and limits ----


async def test_a_push_without_media_is_closed() -> None:
    async with rig(first_media=0.5) as lab, page(lab.url()) as pushing:
        await pushing.configure(SILENT)
        assert await pushing.closed() == 4408
        assert pushing.error["reason"] == "no media in time"
        await lab.empty()


async def test_a_push_that_stalls_is_closed() -> None:
    async with contextlib.AsyncExitStack() as stack, rig(idle_timeout=0.5) as lab:
        pushing = await live(stack, lab)
        assert await pushing.closed() == 4408
        assert pushing.error["reason"] == "nothing received for too long"


async def test_a_page_that_does_not_answer_pings_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ingest.websocket.listener.PING_TIMEOUT", 0.3)
    async with rig(ping_interval=0.2) as lab:
        async with page(lab.url()) as pushing:
            await pushing.wait("accepted")
            pushing.ws.transport.pause_reading()
            await lab.until(lambda: not lab.listener.connections, "it is closed")
            pushing.ws.transport.abort()
        await lab.empty()


async def test_a_connection_that_never_completes_its_request_is_closed() -> None:
    async with rig(handshake=0.3) as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.listener.port)
        writer.write(b"GET /stream/c1 HT")
        assert await asyncio.wait_for(reader.read(), at_most(5)) == b""
        writer.close()


async def test_a_message_that_is_too_large_is_closed_with_1009(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ingest.websocket.session.MAX_MESSAGE", 100_000)
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.wait("accepted")
        await pushing.send(bytes(100_001))
        assert await pushing.closed() == 1009
        await lab.empty()


async def test_a_client_that_floods_pings_without_reading_is_disconnected() -> None:
    async with rig(ping_interval=0, first_media=1) as lab, page(lab.url()) as pushing:
        await pushing.wait("accepted")
        pushing.ws.transport.pause_reading()
        ping = bytes.fromhex("89fd00000000") + bytes(125)
        with contextlib.suppress(ConnectionError):
            for _ in range(2_000):
                pushing.ws.transport.write(ping * 200)
                await asyncio.sleep(0)
                if pushing.ws.transport.is_closing() or not lab.listener.connections:
                    break
        await lab.until(lambda: not lab.listener.connections, "it is cut")
        pushing.ws.transport.abort()


# ---- invalid pushes ----


async def test_text_instead_of_binary_data_closes_the_push_with_an_error() -> None:
    async with rig() as lab, page(lab.url(), frames=False) as pushing:
        assert (await pushing.wait("accepted"))["protocol"] == "container"
        await pushing.send("hello")
        assert await pushing.closed() == 1003
        assert pushing.error == {"type": "error", "code": 1003, "reason": "text instead of binary data"}
        await lab.empty()


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ((b"\x01" + bytes(20),), "before the configuration"),
        (("{}",), 'without a "type"'),
        (("not json",), "not JSON"),
        ((config_text(config(SILENT)), b"\x02" + bytes(20)), "a frame of audio"),
        ((config_text(config(SILENT)), b"\x01"), "a binary message of 1 bytes"),
        ((config_text(config(SILENT)).replace("avc1", "vp09"),), "H.264"),
    ],
)
async def test_invalid_messages_close_the_push_with_a_reason(messages: tuple[str | bytes, ...], words: str) -> None:
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.send(*messages)
        assert await pushing.closed() == 1003
        assert words in pushing.error["reason"]
        await lab.empty()


async def test_random_bytes_close_the_push_and_leave_nothing() -> None:
    chance = random.Random(5)
    async with rig(first_media=1) as lab:
        for round in range(30):
            async with page(lab.url(), frames=bool(round % 2)) as pushing:
                await pushing.wait("accepted")
                with contextlib.suppress(Exception):
                    if round % 3:
                        await pushing.configure(SILENT)
                    for _ in range(20):
                        await pushing.send(chance.randbytes(chance.randint(0, 200)))
                    if round % 2 == 0:
                        lab.boxes[-1].fail("it is no recording")
                assert await pushing.closed() in (1003, 4408)
            await lab.empty()


async def test_random_bytes_instead_of_http_are_closed() -> None:
    async with rig() as lab:
        for size in (1, 100, 10_000, 200_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", lab.listener.port)
            with contextlib.suppress(ConnectionError):
                writer.write(random.Random(size).randbytes(size) + b"\r\n\r\n")
                await asyncio.wait_for(reader.read(), at_most(5))
            writer.close()
        async with page(lab.url()) as pushing:
            await pushing.wait("accepted")


async def test_frames_without_a_mask_are_closed() -> None:
    async with rig() as lab, page(lab.url()) as pushing:
        await pushing.wait("accepted")
        pushing.ws.transport.write(b"\x82\x01x")
        assert await pushing.closed() == 1002
        await lab.empty()


async def test_compression_is_not_negotiated() -> None:
    async with rig() as lab, connect(lab.url(), compression="deflate", proxy=None) as ws:
        assert ws.response is not None
        assert "Sec-WebSocket-Extensions" not in ws.response.headers


# ---- containers (the session's side) ----


async def test_binary_messages_reach_the_container_in_order() -> None:
    async with rig() as lab, page(lab.url(), frames=False) as pushing:
        await pushing.wait("accepted")
        await pushing.send(b"one", b"two", b"three")
        await lab.until(lambda: len(lab.boxes[0].fed) == 3, "all arrived")
        assert lab.boxes[0].fed == [b"one", b"two", b"three"]
        await pushing.ws.close()
        await lab.empty()
        assert not lab.boxes[0].running


async def test_an_invalid_recording_is_closed_with_1003() -> None:
    async with rig() as lab, page(lab.url(), frames=False) as pushing:
        await pushing.send(b"bad")
        assert await pushing.closed() == 1003
        assert pushing.error["reason"] == "it is no recording"
        await lab.until(lambda: not lab.boxes[0].running, "the intake has ended")


@pytest.mark.parametrize(("again", "code"), [(False, 1003), (True, 1013)])
async def test_a_failed_intake_closes_the_push_with_its_reason(again: bool, code: int) -> None:
    async with rig() as lab, page(lab.url(), frames=False) as pushing:
        await pushing.wait("accepted")
        lab.boxes[0].fail("the encoder keeps dying", again=again)
        assert await pushing.closed() == code
        assert pushing.error["reason"] == "the encoder keeps dying"


async def test_a_kick_ends_a_waiting_intake() -> None:
    async with rig() as lab, page(lab.url(), frames=False) as pushing:
        await pushing.wait("accepted")
        lab.boxes[0].stuck = asyncio.Event()
        await pushing.send(b"one", b"two")
        lab.hub.end("c1", EndReason.KICKED)
        assert await pushing.closed() == 4410
        await lab.until(lambda: not lab.boxes[0].running, "the intake has ended")


# ---- many ----


async def test_pushes_beyond_the_worker_limit_are_refused_at_once() -> None:
    """A worker has places for the sound of 16 pushes. The others still push when those beyond are refused."""
    ids = [f"c{n}" for n in range(36)]
    film = camera(seconds=1)

    async def finish(pushing: Page) -> int | None:
        await pushing.film(film, units=film.units[:20])
        await pushing.send(end_text())
        return await pushing.closed()

    async with rig(*ids, most_workers=2, first_media=60) as lab, contextlib.AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(page(lab.url(id))) for id in ids]
        await asyncio.gather(*(pushing.configure(film) for pushing in pages))
        await lab.until(lambda: sum(pushing.code is not None for pushing in pages) == 4, "four are refused")
        accepted = [pushing for pushing in pages if pushing.code is None]
        assert {pushing.code for pushing in pages if pushing not in accepted} == {CloseCode.TRY_LATER}
        assert set(await asyncio.gather(*map(finish, accepted))) == {CloseCode.NORMAL}
        await lab.empty()
        assert {s.name for s in lab.hub if s.original.tracks is None} == set(), "nobody was promised a stream in vain"


async def test_a_hundred_video_only_pushes_run_at_the_same_time() -> None:
    ids = [f"c{n}" for n in range(100)]
    film = replace(SILENT, units=SILENT.units[:15])

    async def one(lab: PushServer, id: str) -> int | None:
        async with page(lab.url(id), open_timeout=60) as pushing:
            await pushing.send(config_text(Configured(config(film).video, None)))
            await pushing.film(film)
            await pushing.send(end_text())
            return await pushing.closed()

    # A hundred handshakes at once take their time on a busy machine.
    async with rig(*ids, handshake=60) as lab:
        async with asyncio.timeout(at_most(60)):
            codes = await asyncio.gather(*(one(lab, id) for id in ids))
        assert set(codes) == {1000}
        assert all(len(lab.viewer(id).pictures) == 15 for id in ids)
        await lab.empty()
        before = len(asyncio.all_tasks())
        await one(lab, "c1")
        await lab.empty()
        await lab.until(lambda: len(asyncio.all_tasks()) <= before, "no task is left")


# ---- targets of the original client ----


def towards(*allowed: str, egress: tuple[str, ...] = ("127.0.0.1",)) -> CompatibleTargets:
    settings = load(environ={}, overrides=["relay.timeout=1", "relay.retry=1"])
    relays = RelayFactory(settings.relay, Egress(egress), Events())
    return CompatibleTargets(allowed, relays, StreamLimits(0, 0, 15, 16_000_000), lambda: {"rtmp": 0, "rtmps": 0})


async def test_a_target_that_never_answers_ends_the_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatible_targets, "TARGET_TIMEOUT", 2.0)
    async with RtmpTarget(app="app") as target, rig(compatible=towards("127.0.0.1")) as lab:
        target.mute = True
        async with page(lab.url(path=f"/rtmps/h264/{target.url('sk_1')}")) as pushing:
            await pushing.configure(SILENT)
            await pushing.film(SILENT)
            assert await pushing.closed() == 1013
        assert pushing.texts[0] == "MSG: Connected to server"
        assert "no answer to publish" in pushing.texts[-2]
        assert pushing.texts[-1] == "Closing Socket"
        await lab.empty()


async def test_a_target_outside_the_egress_policy_ends_the_push() -> None:
    async with rig(compatible=towards("127.0.0.1", egress=())) as lab:
        async with page(lab.url(path="/rtmps/rtmp://127.0.0.1:9/app/sk_1")) as pushing:
            await pushing.configure(SILENT)
            await pushing.film(SILENT)
            assert await pushing.closed() == 1008
        assert "egress.allow" in pushing.texts[-2]
        await lab.empty()


async def test_a_push_resumes_when_its_target_returns() -> None:
    async with RtmpTarget(app="app") as target, rig(compatible=towards("127.0.0.1")) as lab:
        async with page(lab.url(path=f"/rtmps/h264/{target.url('sk_1')}")) as pushing:
            await pushing.configure(SILENT)
            await pushing.film(SILENT)
            (await target.session(media=10)).cut()
            for shift in range(4_000, 60_000, 4_000):
                await pushing.film(SILENT, shift=shift, pace=8)
                if len(target.sessions) > 1:
                    break
            again = await target.session(1, media=10)
            assert again.headers, "from a key frame on"
            await pushing.send(end_text())
            assert await pushing.closed() == 1000
            assert pushing.texts[-1] == "Closing Socket"
        await target.until(lambda: again.finished, "the push ends in good order")
        await lab.empty()


async def test_a_page_with_constant_track_changes_is_closed_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_changes, "INTERVAL_SECONDS", 0.0)  # each change counts, however soon it comes
    films = camera(sound=False), camera("640x360", sound=False)
    async with rig() as lab, page(lab.url()) as pushing:
        for number in range(track_changes.MAX_CHANGES + 2):
            film = films[number % 2]
            await pushing.configure(film)
            await pushing.send(chunk(film.of(Kind.VIDEO)[0], shift=number * 40))
        assert await pushing.closed() == CloseCode.UNUSABLE
        assert pushing.reason == "The tracks keep changing: more than 12 times in 30 s." and pushing.error
