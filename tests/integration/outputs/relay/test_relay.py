"""The relay over real sockets: identical bits, independent targets, recovery, and hidden secrets."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from gateway.formats.flv import muxer
from gateway.formats.flv.tag import VIDEO
from gateway.live import output_fault
from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData
from gateway.ports.events import Event, Events
from tests.support import builders
from tests.support.media import BFRAMES
from tests.support.relaying import filming, live, play, relays, tags_of
from tests.support.rtmp_password import PasswordServer
from tests.support.rtmp_target import RtmpTarget
from tests.support.tools import need


async def test_a_push_is_relayed_bit_by_bit_with_its_timestamps() -> None:
    need("ffmpeg")
    async with RtmpTarget() as target, live(target.url(), tracks=False) as on:
        await play(BFRAMES, on, speed=40, until=8)
        on.end()
        await on.hub.drained()
        session = await target.session()
        await target.until(lambda: session.closed)
    sent = [(t.type_id, t.timestamp, t.payload) for t in tags_of(BFRAMES) if t.timestamp <= 8000]
    got = [(t.type_id, t.timestamp, t.payload) for t in session.tags]
    assert sorted(got) == sorted(sent)
    assert session.finished


async def test_tracks_metadata_and_script_data_are_sent_in_their_order() -> None:
    async with RtmpTarget() as target, live(target.url("cam")) as on:
        on.film(range(0, 400, 40))
        on.publisher.push_timed(TimedData(390, Script("onCuePoint", b"\x02\x00\x01x")))
        on.film(range(400, 800, 40))
        session = await target.session(media=40)
        assert [t.payload for t in session.headers] == [
            muxer.track_body(builders.VIDEO),
            muxer.track_body(builders.AUDIO),
        ]
        meta, cue = session.scripts
        assert (meta.name, meta.values[0]["encoder"], "duration" in meta.values[0]) == ("onMetaData", "test", False)
        assert (cue.name, cue.timestamp, cue.amf) == ("onCuePoint", 390, b"\x02\x00\x01x")
        assert (session.app, session.name) == ("live", "cam")
        assert session.connect["tcUrl"] == f"rtmp://127.0.0.1:{target.port}/live"


async def test_codecs_unknown_to_legacy_rtmp_are_sent_as_enhanced_rtmp() -> None:
    video, audio = (
        MediaTrack(Kind.VIDEO, Codec.AV1, 1000, b"\x81\0\x0c\0"),
        MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"OpusHead" + bytes(11)),
    )
    async with RtmpTarget() as target, live(target.url(), tracks=False) as on:
        on.publisher.set_tracks(video, audio, {})
        unit = AccessUnit(video, 0, 0, True, 1.7e9, b"\x12\0")
        on.publisher.push(unit, time.monotonic())
        session = await target.session()
        assert session.connect["fourCcList"] == ["av01", "Opus"]
        assert session.media[0].payload == muxer.unit_body(unit)


async def test_a_target_added_while_live_starts_at_the_last_key_frame() -> None:
    async with RtmpTarget() as target, live() as on:
        on.film(range(0, 1400, 40), gop=10)  # key frames at 0, 400, 800, 1200
        on.change(target.url())
        session = await target.session(media=10)
        assert (session.media[0].type_id, session.media[0].timestamp, session.media[0].payload[0]) == (
            VIDEO,
            1200,
            0x17,
        )
        assert {t.timestamp for t in session.headers} == {1200}


async def test_a_returning_target_resumes_at_a_key_frame_without_effects_on_others() -> None:
    async with RtmpTarget() as mortal, RtmpTarget() as other, live(mortal.url(), other.url()) as on:
        viewer = builders.Recorder()
        on.stream.attach(viewer)
        async with filming(on):
            first, steady = await mortal.session(media=50), await other.session(media=50)
            await mortal.close()
            gone = await on.state("retrying")
            assert gone["error"] and gone["attempts"] >= 1
            assert on.targets[1]["state"] == "live"
            await mortal.open()
            await mortal.until(lambda: len(mortal.sessions) > 1)
            again = await mortal.session(1, media=50)
            await on.state("live")
        assert first is not again and len(other.sessions) == 1
        assert again.media[0].payload[0] == 0x17 and again.headers[0].timestamp == again.media[0].timestamp
        assert on.targets[0]["error"] is None
        pictures = [t.timestamp for t in steady.media if t.type_id == VIDEO]
        assert pictures == list(range(0, pictures[-1] + 40, 40))
        seen = [u.dts for u in viewer.units if u.track is builders.VIDEO]
        assert seen == list(range(0, seen[-1] + 40, 40))


async def test_one_dead_target_of_two_is_reported_and_stops_nothing() -> None:
    async with RtmpTarget() as target, live("rtmp://127.0.0.1:1/app/secret-key", target.url()) as on:
        async with filming(on):
            await target.session(media=100)
            dead = await on.state("retrying")
        assert dead["error"] == "connection refused" and dead["url"] == "rtmp://127.0.0.1:1/app/********"
        assert (on.status["state"], on.status["error"]) == ("degraded", None)
        assert on.stream.outputs is not None
        assert on.stream.outputs.faults() == {"relay rtmp://127.0.0.1:1/app/********": "connection refused"}
        assert on.stream.outputs.states() == [("relay", "degraded")]


async def test_the_output_reports_an_error_if_no_target_accepts_the_stream() -> None:
    async with live("rtmp://127.0.0.1:1/app/secret-key") as on:
        await on.state("retrying")
        assert on.status["error"] == "the target does not take the stream: connection refused"
        assert on.status["state"] == "retrying"
        on.change("rtmp://127.0.0.1:1/app/secret-key", "rtmp://127.0.0.1:2/app/secret-key")
        await on.state("retrying", 1)
        assert on.status["error"] == "none of 2 targets takes the stream: connection refused"
        on.change()
        assert on.status["error"] == "the channel has no relayURL"
        assert on.status["state"] == "failed"


async def test_each_target_has_one_failed_event_and_a_recovered_event_after_it_worked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_fault, "WORKED_SECONDS", 0.2)
    events, seen = Events(), list[Event]()
    events.listen(lambda event: seen.append(event) if event.type.startswith("output.") else None)
    async with RtmpTarget() as mortal, RtmpTarget() as other:
        made = relays(events=events, retry=0.2)
        async with live(mortal.url("key-of-mortal"), other.url(), with_=made) as on, filming(on):
            await mortal.session(media=10)
            await mortal.close()
            await on.until(lambda: on.targets[0]["attempts"] >= 4, "several attempts")
            assert on.targets[0]["state"] == "retrying"
            await mortal.open()
            await on.until(lambda: len(seen) > 1, "it has recovered")
            assert on.status["state"] == "running"
    target = f"rtmp://127.0.0.1:{mortal.port}/live/********"
    assert [(e.type, e.masked_data()["output"], e.masked_data()["target"]) for e in seen] == [
        ("output.failed", "relay", target),
        ("output.recovered", "relay", target),
    ]
    assert seen[0].data["error"] and "key-of-mortal" not in str(seen)


async def test_a_refusal_is_reported_without_the_key_that_the_server_repeats() -> None:
    key = "abcd-efgh-1234-5678?user=me&pass=hunter2hunter2"

    def judge(session: object) -> tuple[str, str]:
        return "NetStream.Publish.Unauthorized", f"the key {key} (abcd-efgh-1234-56) of hunter2hunter2 is wrong\r\nsee"

    async with RtmpTarget(judge=judge) as target, live(target.url(key)) as on:
        report = await on.state("retrying")
        assert report["error"].startswith("refused: NetStream.Publish.Unauthorized: the key ***")
        text = str(on.status)
        assert not any(s in text for s in ("abcd-efgh", "hunter2", "1234", "\n", "\\n"))


async def test_a_target_gets_the_user_and_password_of_its_address() -> None:
    server = PasswordServer("adobe")
    async with RtmpTarget(guard=server.refusal) as target:
        async with live(target.url("key", host="me:p%40ss%3Aword@127.0.0.1")) as on:
            on.film(range(0, 400, 40))
            assert (await target.session(media=20)).name == "key"
            assert on.targets[0]["attempts"] == 1
        for user in ("", "me:geheim@"):
            async with live(target.url("key", host=f"{user}127.0.0.1")) as on:
                report = await on.state("retrying")
                text = "refused: NetConnection.Connect.Rejected: "
                text += "the server wants a user name and a password, or they are wrong"
                assert report["error"] == text


async def test_loopback_is_refused_unless_it_is_allowed() -> None:
    async with RtmpTarget() as target, live(target.url(), with_=relays(allow=())) as on:
        report = await on.state("failed")
        assert report["error"] == "127.0.0.1 is a loopback address: connecting there is not allowed (egress.allow)"
        assert not target.sessions
        on.change("rtmp://169.254.169.254/latest/meta-data")
        await on.until(lambda: "link-local" in str(on.targets[0]["error"]), "refused")


async def test_targets_can_change_while_live_and_the_others_stay() -> None:
    async with RtmpTarget() as one, RtmpTarget() as two, RtmpTarget() as three, live(one.url(), two.url()) as on:
        async with filming(on):
            gone, stays = await one.session(media=20), await two.session(media=20)
            on.change(two.url(), three.url())
            await three.session(media=20)
            await one.until(lambda: gone.closed)
            assert gone.finished, "a removed target is told the end"
            assert [t["url"].rpartition("/")[0] for t in on.targets] == [
                u.url().rpartition("/")[0] for u in (two, three)
            ]
            await two.session(media=len(stays.media) + 20)
        assert len(two.sessions) == 1


async def test_a_returning_source_continues_the_connection_with_new_headers() -> None:
    other = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
    async with RtmpTarget() as target, live(target.url()) as on:
        on.film(range(0, 800, 40))
        session = await target.session(media=40)
        on.publisher.close()
        on.publisher = builders.publish(on.hub, isRelay=True, relayURL=[target.url()])
        on.publisher.set_tracks(builders.VIDEO, other, {})
        before = len(session.media)
        now = time.monotonic()
        on.publisher.push(AccessUnit(builders.VIDEO, 0, 0, False, 1.7e9, b"tail of a GOP"), now)
        on.film(range(40, 400, 40))
        await target.session(media=before + 10)
        assert len(target.sessions) == 1
        assert [t.payload for t in session.headers][2:] == [muxer.track_body(builders.VIDEO), muxer.track_body(other)]
        assert session.media[before].payload[0] == 0x17
        assert session.media[before].timestamp > session.media[before - 1].timestamp


async def test_a_slow_target_loses_whole_gops_which_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.relay.rtmp_push.STALL_SECONDS", 60.0)
    monkeypatch.setattr("gateway.outputs.relay.relay_target.BACKLOG_SECONDS", 2.0)
    async with RtmpTarget() as target, live(target.url()) as on:
        on.film(range(0, 400, 40))
        session = await target.session(media=10)
        target.reading.clear()
        at = 400
        while not on.targets[0]["dropped"]:
            on.film(range(at, at + 400, 40), size=60_000)
            at += 400
            await asyncio.sleep(0)
        target.reading.set()
        async with filming(on, at):
            await target.until(lambda: session.media[-1].timestamp > at + 4000)
        pictures = [t for t in session.media if t.type_id == VIDEO]
        after_gap = [b for a, b in itertools.pairwise(pictures) if b.timestamp - a.timestamp > 40]
        assert after_gap and all(t.payload[0] == 0x17 for t in after_gap)
        assert len(target.sessions) == 1


async def test_a_target_that_is_too_slow_for_the_stream_has_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.relay.rtmp_push.STALL_SECONDS", 60.0)
    monkeypatch.setattr("gateway.outputs.relay.relay_target.BACKLOG_SECONDS", 2.0)
    async with RtmpTarget() as target, RtmpTarget() as other, live(target.url(), other.url()) as on:
        on.film(range(0, 400, 40))
        await target.session(media=20)
        assert on.targets[0]["warnings"] == []
        target.reading.clear()
        at = 400
        while not on.targets[0]["dropped"]:
            on.film(range(at, at + 400, 40), size=60_000)
            at += 400
            await other.session(media=at // 20)
        warning = "frames are dropped: the server or the link to it is too slow for the stream"
        assert [t["warnings"] for t in on.targets] == [[warning], []]
        target.reading.set()
        monkeypatch.setattr("gateway.outputs.relay.relay_target._SLOW_SECONDS", 0.0)
        assert on.targets[0]["warnings"] == []
        assert [t["state"] for t in on.targets] == ["live", "live"]


async def test_little_media_waits_in_the_kernel_for_a_slow_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.relay.rtmp_push.STALL_SECONDS", 60.0)
    async with RtmpTarget(receive_buffer=16_384) as target, live(target.url()) as on:
        on.film(range(0, 400, 40))
        await target.session(media=20)
        target.reading.clear()
        before = on.targets[0]["sent"]
        await on.film_on(range(400, 8_400, 40), size=30_000)  # 6 MB, of which the kernel would take 4
        assert 300_000 < on.targets[0]["sent"] - before < 900_000
        assert on.targets[0]["dropped"] == 0, "the rest waits here, where its age is known"
        target.reading.set()


async def test_a_target_that_reads_nothing_is_reconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.relay.rtmp_push.STALL_SECONDS", 0.3)
    async with RtmpTarget() as target, live(target.url()) as on:
        on.film(range(0, 400, 40))
        await target.session(media=10)
        target.reading.clear()
        for at in range(400, 20_000, 400):
            on.film(range(at, at + 400, 40), size=60_000)
        await on.until(lambda: "read nothing" in str(on.targets[0]["error"]), "stalled")


async def test_the_same_target_twice_is_used_once() -> None:
    async with RtmpTarget() as target, live(target.url(), target.url()) as on:
        on.film(range(0, 400, 40))
        await target.session(media=10)
        assert len(on.targets) == 1


async def test_metrics_count_bytes_and_states() -> None:
    async with RtmpTarget() as target, live(target.url()) as on:
        on.film(range(0, 400, 40))
        await target.session(media=20)
        samples = {(s.metric.name, s.labels): s.value for s in on.relays.samples()}
        assert samples["millrace_relay_targets", ("live",)] == 1
        assert samples["millrace_sent_bytes_total", ("relay",)] == on.targets[0]["sent"] > 3073


async def test_a_cover_for_viewers_does_not_change_the_relayed_stream() -> None:
    async with RtmpTarget() as target, live(target.url()) as on:
        viewer = builders.Recorder()
        on.stream.attach(viewer)
        cover = on.stream.override()
        cover.engage()
        cover.set_tracks(builders.VIDEO, builders.AUDIO, {}, False)
        on.film(range(0, 400, 40))
        cover.push(builders.picture(0, key=True, size=99))
        session = await target.session(media=20)
        assert [t.payload for t in session.media if t.type_id == VIDEO] == [
            muxer.unit_body(builders.picture(at, key=at == 0, size=40)) for at in range(0, 400, 40)
        ]
        assert [len(u.payload) for u in viewer.units] == [99]


async def test_a_single_target_is_stopped_and_started_without_disturbing_the_others() -> None:
    async with RtmpTarget() as one, RtmpTarget() as two, live(one.url(), two.url()) as on:
        on.film(range(0, 800, 40))
        first, second = await one.session(media=20), await two.session(media=20)
        urls = one.url(), two.url()
        on.change(*urls, relayOff=[1])
        await two.until(lambda: second.closed)
        assert [target["url"] for target in on.status["targets"]] == [one.url().rpartition("/")[0] + "/********"]
        on.film(range(800, 1600, 40))
        await one.until(lambda: len(first.media) >= 80)
        on.change(*urls, relayOff=[0, 1])
        await one.until(lambda: first.closed)
        assert (on.status["targets"], on.status.get("error")) == ([], None)
        on.change(*urls, relayOff=[])
        on.film(range(1600, 2400, 40))
        await two.until(lambda: len(two.sessions) == 2)
