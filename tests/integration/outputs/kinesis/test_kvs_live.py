"""A live stream into Kinesis Video Streams: everything is stored, even after failures."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from gateway.media.track import Kind
from gateway.outputs.kinesis import kvs_output
from gateway.ports.errors import NameInUse
from tests.support import kvs
from tests.support.at_night import at_night
from tests.support.authority import Authority
from tests.support.builders import channel
from tests.support.children import children
from tests.support.elementary import played
from tests.support.kvs import assert_stored, live, reel, settings
from tests.support.media import Film
from tests.support.putmedia import Fault, KvsDouble
from tests.support.tools import need
from tests.support.waiting import until

PLAIN = Film("kvs-plain", seconds=12, gop=60)
OFTEN = Film("kvs-often", seconds=12)  # a key frame each second
BFRAMES = Film("kvs-bframes", seconds=12, bframes=3, gop=60)
LONG = Film("kvs-long", seconds=25, gop=750, size="64x64")
SOUND = Film("kvs-sound", seconds=8, video=None)
SILENT = Film("kvs-silent", seconds=8, audio=None, bframes=2)


@pytest.fixture(autouse=True)
def _tools() -> None:
    need("ffmpeg", "ffprobe")


@pytest_asyncio.fixture
async def double(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KvsDouble]:
    async with KvsDouble() as double:
        double.add("lobby")
        kvs.use(double, monkeypatch)
        yield double


def broken(double: KvsDouble) -> list[str]:
    return [f"{b.id} {b.code} {b}" for c in double.connections for b in c.broken]


@pytest.mark.parametrize(
    ("every", "kinds"), [(1000, {"BUFFERING", "RECEIVED", "PERSISTED"}), *at_night((0, {"PERSISTED"}))]
)
async def test_acknowledgements_are_logged_by_kind_and_persisted_ones_always(
    double: KvsDouble, every: int, kinds: set[str]
) -> None:
    source = reel(PLAIN)
    with structlog.testing.capture_logs() as logs:
        async with live(double, source, kvs=settings(log_every=every)) as push:
            await push.push(source.units)
            await push.end()
    told = [line["event_type"] for line in logs if line["event"] == "kinesis acknowledges"]
    assert set(told) == kinds
    assert told.count("PERSISTED") == len(double.streams["lobby"].stored) > 3
    assert all(told.count(kind) == 1 for kind in kinds - {"PERSISTED"})


@pytest.mark.parametrize("film", [BFRAMES, SOUND, *at_night(PLAIN, SILENT)], ids=lambda f: f.name)
async def test_every_frame_of_a_push_is_stored_once(double: KvsDouble, tmp_path: Path, film: Film) -> None:
    lobby, source = double.streams["lobby"], reel(film)
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
        assert push.report["state"] == "done"
    assert broken(double) == []
    assert_stored(lobby, source.units)
    assert set(lobby.copies.values()) == {1}
    (file,) = kvs.written(lobby, tmp_path)
    theirs, ours = played(film.path(), packets=True), played(file, packets=True)
    assert [digest for _, digest in ours.sounds] == [digest for _, digest in theirs.sounds]
    assert len(ours.pictures) == len(theirs.pictures)
    if film.video and film.audio:
        assert abs((ours.first_picture - ours.first_sound) - (theirs.first_picture - theirs.first_sound)) < 0.002


async def test_fragments_have_the_time_of_day(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(BFRAMES)
    async with live(double, source) as push:
        await push.push(source.units, wall=1_700_000_000.0)
        await push.end()
    first = min(u.dts + u.cts for u in source.units)
    assert min(f.time for f in lobby.frames) == min(lobby.stored) == 1_700_000_000_000 + first
    spans = [f.latest - f.time for f in lobby.stored.values()]
    assert 5 <= len(spans) <= 7
    assert max(spans) < 2_100


async def test_a_role_is_assumed_after_the_request_for_the_endpoint(double: KvsDouble) -> None:
    source = reel(SILENT)
    async with live(double, source, kvs=settings(role=kvs.ROLE)) as push:
        await push.push(source.units[:120])
        await push.end()
    assert [c for c in double.calls if c != "DescribeStream"] == ["GetDataEndpoint", "AssumeRole", "PutMedia"]
    assert double.connections[0].headers["X-Amz-Security-Token"] == "token1"


@pytest.mark.parametrize("form", ["split", *at_night("joined", "wrapped")])
async def test_acknowledgements_may_arrive_in_any_form(double: KvsDouble, form: str) -> None:
    double.ack_form = form
    source = reel(SILENT)
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
        stored = len(double.streams["lobby"].stored)
        await push.reports(lambda report: report["fragments"]["persisted"] == stored, f"{stored} fragments are stored")
    assert broken(double) == []


async def test_fragments_not_stored_by_a_broken_connection_are_sent_again(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(BFRAMES)
    lobby.faults = [Fault(reset=150_000), Fault(reset=100_000)]
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
        assert push.report["fragments"]["replayed"] >= 2
        assert push.report["fragments"]["dropped"] == 0
    assert len(double.connections) == 3
    assert broken(double) == []
    assert_stored(lobby, source.units)
    assert set(lobby.copies.values()) == {1}


@pytest.mark.parametrize("error", [4000, *at_night(5000, 5001)])
async def test_a_fragment_with_a_temporary_error_is_sent_again(double: KvsDouble, error: int) -> None:
    lobby, source = double.streams["lobby"], reel(PLAIN)
    lobby.faults = [Fault(error=error, at=3)]
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
    assert_stored(lobby, source.units)
    assert len(double.connections) == 2


@pytest.mark.parametrize("error", [4001, *at_night(4002, 4004, 4006, 4007, 4009, 4010, 4011, 4012)])
async def test_only_a_permanently_refused_fragment_is_lost(double: KvsDouble, error: int) -> None:
    lobby, source = double.streams["lobby"], reel(SILENT)
    lobby.faults = [Fault(error=error, at=2)]
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
        assert push.report["fragments"]["dropped"] == 1
    pictures = [u.payload for u in source.units]
    stored = [f.payload for f in lobby.frames]
    assert len(stored) == len(pictures) - 30
    assert stored == [p for p in pictures if p in set(stored)]


async def test_an_outage_of_kinesis_loses_nothing(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(PLAIN)
    double.down = True
    async with live(double, source) as push:
        await push.push(source.units[: len(source.units) // 2])
        report = await push.reports(lambda r: r["error"], "the error is reported")
        assert "503" in report["error"] or "ServiceUnavailable" in report["error"] or "does not" in report["error"]
        assert report["state"] == "degraded"
        double.down = False
        await push.push(source.units[len(source.units) // 2 :])
        await push.reports(lambda r: not r["error"], "trouble is over", 40)
        await push.end()
    assert broken(double) == []
    assert_stored(lobby, source.units)


@pytest.mark.nightly
async def test_fragments_beyond_the_buffer_limit_are_dropped_and_counted(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(OFTEN)
    double.down = True
    async with live(double, source, kvs=settings(backlog=200_000)) as push:
        await push.push(source.units)
        await until(lambda: push.report["fragments"]["dropped"] > 0, "fragments are dropped")
        double.down = False
        await push.reports(lambda r: r["fragments"]["persisted"] > 0, "the rest is stored", 40)
        await push.end()
    assert lobby.frames[-1].payload == source.units[-1].payload or lobby.frames[-1].track == 2
    assert broken(double) == []


async def test_a_connection_is_replaced_at_a_key_frame(double: KvsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.kinesis.kvs_delivery.ROTATE_SECONDS", 0.4)
    lobby, source = double.streams["lobby"], reel(BFRAMES)
    async with live(double, source) as push:
        await push.push(source.units, speed=4)
        await push.end()
        assert push.report["fragments"]["replayed"] == 0
    assert len(double.connections) >= 3
    for before, after in zip(double.connections, double.connections[1:], strict=False):
        assert before.ended <= after.began, "the old one has ended before the new one begins"
    assert_stored(lobby, source.units)
    assert set(lobby.copies.values()) == {1}


async def test_a_connection_ends_before_its_token_expires(double: KvsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.kinesis.kvs_delivery.ROTATE_SECONDS", 0.5)
    double.token_seconds = 3.0  # less than any margin: the shortest connection, and every one its own token
    source = reel(SILENT)
    async with live(double, source, kvs=settings(role=kvs.ROLE)) as push:
        await push.push(source.units, speed=4)
        await push.end()
    assert_stored(double.streams["lobby"], source.units)


async def test_the_service_may_end_a_connection_for_its_age(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(PLAIN)
    lobby.faults = [Fault(close_after=0.6)]
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
    assert [a["ErrorId"] for a in double.connections[0].acks if "ErrorId" in a] == [4003]
    assert len(double.connections) == 2
    assert_stored(lobby, source.units)


async def test_a_connection_without_acknowledgements_is_closed(
    double: KvsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outputs.kinesis.put_media_connection.ACK_SECONDS", 1.0)
    lobby, source = double.streams["lobby"], reel(PLAIN)
    lobby.faults = [Fault(half_open=True, at=2)]
    async with live(double, source, kvs=settings()) as push:
        await push.push(source.units)
        await push.end()
    assert len(double.connections) == 2
    assert_stored(lobby, source.units)


@pytest.mark.nightly
async def test_a_lost_acknowledgement_does_not_block_later_fragments(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(PLAIN)
    lobby.faults = [Fault(swallow=True, at=2)]
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
        assert push.report["fragments"]["waiting"] == 0
    assert set(lobby.copies.values()) == {1}


async def test_a_stream_without_retention_acknowledges_received_fragments(double: KvsDouble) -> None:
    double.streams["lobby"].retention = 0
    source = reel(SILENT)
    async with live(double, source) as push:
        await push.push(source.units)
        await push.end()
        assert push.report["fragments"]["waiting"] == 0
    assert_stored(double.streams["lobby"], source.units)


async def test_a_moved_endpoint_is_requested_again(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(PLAIN)
    lobby.faults = [Fault(reset=60_000)]
    async with live(double, source) as push:
        await push.push(source.units[:60])
        await until(lambda: double.connections, "it is connected")
        await double.move(lobby)
        await push.push(source.units[60:])
        await push.end()
    assert double.calls.count("GetDataEndpoint") >= 2
    assert_stored(lobby, source.units)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "ClientLimitExceededException"),
        (401, "NotAuthorizedException"),
        *at_night(
            (400, "ConnectionLimitExceededException"), (404, "ResourceNotFoundException"), (500, "InternalFailure")
        ),
    ],
)
async def test_a_refusal_is_reported_and_retried(double: KvsDouble, status: int, kind: str) -> None:
    lobby, source = double.streams["lobby"], reel(SILENT)
    lobby.faults = [Fault(status=status, kind=kind)]
    async with live(double, source) as push:
        await push.push(source.units[:90], speed=20)
        report = await push.reports(lambda r: r["error"], "the error is reported")
        assert kind in report["error"]
        await push.push(source.units[90:])
        await push.end()
    assert_stored(lobby, source.units)


async def test_a_missing_stream_is_reported(double: KvsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvs_output, "FINISH_SECONDS", 0.2)  # nothing can be stored
    source = reel(SILENT)
    async with live(double, source, kvsStream="attic") as push:
        await push.push(source.units[:30], speed=20)
        report = await push.reports(lambda r: r["error"], "the error is reported")
        assert "ResourceNotFoundException" in report["error"]
        assert "attic" in report["error"]


async def test_two_channels_never_share_a_stream(double: KvsDouble) -> None:
    source = reel(SILENT)
    async with live(double, source) as push:
        with push.kvs.claim("attic", "somebody"):
            pass
        await push.push(source.units[:30], speed=20)
        await until(lambda: double.connections, "it is connected")
        with pytest.raises(NameInUse, match="lobby is in use by channel c1"), push.kvs.claim("lobby", "another"):
            pass


async def test_an_output_ends_its_fragment_when_switched_off_and_can_resume(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(PLAIN)
    half = len(source.units) // 2
    async with live(double, source) as push:
        assert push.stream.outputs is not None
        await push.push(source.units[:half])
        push.stream.outputs.switch("kvs", False)
        await until(lambda: lobby.open == 0, "the connection has ended")
        push.stream.outputs.switch("kvs", True)
        await push.push(source.units[half:])
        await push.end()
    assert broken(double) == []
    assert len(double.connections) == 2


async def test_other_tracks_open_a_new_session(double: KvsDouble) -> None:
    lobby, first, second = double.streams["lobby"], reel(PLAIN), reel(BFRAMES)
    async with live(double, first) as push:
        await push.push(first.units[:300])
        push.publisher.set_tracks(second.video, second.audio, {})
        later = second.shifted(first.units[299].dts + 40)
        await push.push(later[:300])
        await push.end()
    assert broken(double) == []
    assert len(double.connections) == 2
    assert len(lobby.mkv()) == 2
    stored = {f.payload for f in lobby.frames}
    assert {u.payload for u in first.units[:300]} | {u.payload for u in later[:300]} == stored


async def test_a_too_long_gop_fails_with_its_reason(double: KvsDouble) -> None:
    source = reel(LONG)
    async with live(double, source) as push:
        await push.push(source.units, speed=30)
        report = await push.reports(lambda r: r["state"] == "failed", "it fails", 40)
        assert "no key frame" in report["error"]
    assert broken(double) == []
    (fragment,) = double.streams["lobby"].stored.values()
    assert fragment.latest - fragment.time < 20_000


async def test_a_stream_that_loses_its_sound_is_stored_without_it(double: KvsDouble) -> None:
    lobby, source = double.streams["lobby"], reel(PLAIN)
    kept = [u for u in source.units if u.track.kind is Kind.VIDEO or not 4000 <= u.dts < 8000]
    async with live(double, source) as push:
        await push.push(kept)
        await push.end()
    assert broken(double) == []
    assert_stored(lobby, kept)
    assert len(lobby.mkv()) == 3


@pytest.mark.nightly
async def test_a_stream_that_loses_its_picture_is_stored_as_sound(double: KvsDouble) -> None:
    source = reel(Film("kvs-pause", seconds=40, size="64x64"))
    kept: list[Any] = [u for u in source.units if u.track.kind is Kind.AUDIO or not 3000 <= u.dts < 33000]
    async with live(double, source) as push:
        await push.push(kept, speed=12)
        await push.end()
    assert broken(double) == []
    assert_stored(double.streams["lobby"], kept)


async def test_a_long_gop_is_stored_if_transcoding_is_on(double: KvsDouble, tmp_path: Path) -> None:
    source = reel(LONG)
    begin = sum(unit.dts < 5_000 for unit in source.units)
    async with live(double, source, kvsTranscode=True) as push:
        await push.push(source.units[:begin])
        # 10 s of media wait for a worker at most: at this speed, only for one that has started.
        await push.reports(lambda report: report["fragments"]["persisted"], "the worker delivers")
        await push.push(source.units[begin:])
        await push.end()
        assert push.report["state"] == "done"
    assert broken(double) == []
    (file,) = kvs.written(double.streams["lobby"], tmp_path)
    stored = played(file)
    assert len(stored.pictures) == len(played(LONG.path()).pictures)
    spans = [f.latest - f.time for f in double.streams["lobby"].stored.values()]
    assert max(spans) < 2_100
    sounds = [u.payload for u in source.units if u.track.kind is Kind.AUDIO]
    assert [f.payload for f in double.streams["lobby"].frames if f.track == 2] == sounds


async def test_the_target_stream_can_be_changed_while_live(double: KvsDouble) -> None:
    attic, source = double.add("attic"), reel(PLAIN)
    half = len(source.units) // 2
    async with live(double, source) as push:
        await push.push(source.units[:half])
        push.stream.channel = channel("c1", isKvs=True, kvsStream="attic")
        assert push.stream.outputs is not None
        push.stream.outputs.channel_changed()
        await until(lambda: push.report["stream"] == "attic", "it has changed")
        await push.push(source.units[half:])
        await push.end()
    assert broken(double) == []
    lobby = double.streams["lobby"]
    assert lobby.stored
    assert attic.stored
    together = {f.payload for f in lobby.frames} | {f.payload for f in attic.frames}
    assert len(together) >= len(source.units) - 60  # the second begins at a key frame


@pytest.mark.nightly
async def test_an_unreachable_port_loses_nothing(double: KvsDouble) -> None:
    """A minute of the film passes during the outage."""
    lobby, source = double.streams["lobby"], reel(PLAIN)
    units = [*source.units, *(u for n in range(1, 6) for u in source.shifted(n * 12_020))]
    third = len(units) // 6
    async with live(double, source) as push:
        await push.push(units[:third])
        await until(lambda: lobby.stored, "something is stored")
        async with double.unreachable():
            await push.push(units[third : 6 * third], speed=20)
            await push.reports(lambda r: r["error"], "the error is reported")
        await push.push(units[6 * third :])
        await push.reports(lambda r: not r["error"] and r["behind"] < 4, "it has caught up", 60)
        await push.end()
        assert push.report["fragments"]["dropped"] == 0
    assert broken(double) == []
    assert_stored(lobby, units)


async def test_an_expired_token_is_replaced(double: KvsDouble) -> None:
    """The service rejects the first credentials with 401, and the next ones are requested."""
    lobby, source = double.streams["lobby"], reel(PLAIN)
    lobby.faults = [Fault(reset=80_000)]
    async with live(double, source, kvs=settings(role=kvs.ROLE)) as push:
        await push.push(source.units[:60])
        await until(lambda: double.connections, "it is connected")
        for id in [id for id in double.keys if id.startswith("ASIA")]:
            del double.keys[id]
        await push.push(source.units[60:])
        await push.end()
    assert double.calls.count("AssumeRole") >= 2
    assert_stored(lobby, source.units)


async def test_a_worker_that_is_killed_is_replaced(double: KvsDouble) -> None:
    film = [*reel(OFTEN).units, *reel(OFTEN).shifted(12_020)]
    async with live(double, reel(OFTEN), kvsTranscode=True) as push:
        await push.push(film[: len(film) // 2], speed=2)
        for pid in children("gateway.workers.programs.keyframe_reencoder"):
            os.kill(pid, signal.SIGKILL)
        await push.push(film[len(film) // 2 :], speed=2)
        await push.end()
        assert push.report["state"] == "done"
    assert broken(double) == []
    pictures = [f for f in double.streams["lobby"].frames if f.track == 1]
    assert len(pictures) > 0.85 * sum(u.track.kind is Kind.VIDEO for u in film)


async def test_an_untrusted_certificate_of_the_service_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, source = Authority(tmp_path), reel(SILENT)
    async with KvsDouble(tls=authority.server("127.0.0.1")) as secure:
        secure.add("lobby")
        kvs.use(secure, monkeypatch)
        with monkeypatch.context() as patched:
            patched.setattr(kvs_output, "FINISH_SECONDS", 0.2)  # nothing can be stored
            async with live(secure, source) as push:
                await push.push(source.units[:90])
                report = await push.reports(lambda r: r["error"], "the error is reported")
                assert "certificate" in report["error"].lower()
        async with live(secure, source, tls=authority.client()) as push:
            await push.push(source.units)
            await push.end()
        assert_stored(secure.streams["lobby"], source.units)
