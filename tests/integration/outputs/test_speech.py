"""Speech becomes captions: with a real engine over RTMP and FLV, and with programs that have faults."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway.media.timed_data import CaptionText
from gateway.outputs.captions import captions_output
from tests.support import builders
from tests.support.clients import push, until
from tests.support.gateway import running
from tests.support.marking import play
from tests.support.sources import AAC, Source, source, tone
from tests.support.speech import DIGITS, SpeechHub, program, reading, spoken
from tests.support.time_outs import at_most


def film(seconds: float) -> Source:
    return source(*tone(48_000), "-t", str(seconds), *AAC)


def commands() -> Iterator[bytes]:
    """Yields the command lines of all processes."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_bytes()


async def until_async(condition: Callable[[], bool]) -> None:
    """Waits until the condition is true; it changes on this event loop."""
    async with asyncio.timeout(at_most(30)):
        while not condition():
            await asyncio.sleep(0.05)


def digits(captions: Sequence[CaptionText]) -> set[str]:
    """The spoken digits that captions have."""
    heard = {word for caption in captions for word in caption.text.split()}
    return heard & set(DIGITS.strip(".").split(", "))


def test_spoken_digits_are_captions_of_an_flv_viewer() -> None:
    file = spoken(DIGITS, seconds=10)
    with running(MILLRACE_CAPTIONS__ENGINE="pocketsphinx") as gateway:
        channel = gateway.channel(isCaption=True, captionLanguage="en-US")
        with push(file, channel.push):
            channel.wait_live()
            with reading(channel.url("live.flv")) as captions:
                until(lambda: len(digits(captions)) >= 7, "most digits are captions", 40)
                (output,) = [one for one in channel.session()["outputs"] if one["name"] == "captions"]
        assert (output["state"], output["error"], output["skipped"]) == ("running", None, 0)
    first = captions[0]
    assert (first.language, first.is_speech) == ("en-US", True)
    assert 900 <= first.start <= 1_600 and first.end is not None and first.end >= first.start + 2_000


def test_without_an_engine_the_output_says_so_and_is_not_started_again() -> None:
    with running() as gateway:
        channel = gateway.channel(isCaption=True)
        with push(spoken(DIGITS, seconds=10), channel.push):
            channel.wait_live()
            until(lambda: "output_failing" in {f["code"] for f in channel.session()["health"]}, "it is a fault", 20)
            (output,) = [one for one in channel.session()["outputs"] if one["name"] == "captions"]
        assert output["state"] == "failed"
        assert output["error"] == "this gateway has no engine for speech to text: set captions.engine"
        assert gateway.log.count("output does not support this stream") == 1


@pytest.mark.nightly
def test_a_slow_engine_is_a_fault_until_it_has_caught_up(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with running(MILLRACE_CAPTIONS__ENGINE=program("slow", go)) as gateway:
        channel = gateway.channel(isCaption=True)

        def late() -> float | None:
            return next((f["value"] for f in channel.session()["health"] if f["code"] == "captions_late"), None)

        with push(spoken(DIGITS, seconds=60), channel.push):
            channel.wait_live()
            value = until(late, "it is late", 30)
            assert 3 <= value <= 10
            go.touch()
            until(lambda: late() is None, "it has caught up", 20)


async def test_final_words_are_captions_with_the_times_of_the_stream() -> None:
    hub, units = SpeechHub(program("steady")), film(5)
    async with hub.publish(units) as publisher:
        await play(publisher, units.shifted(100_000).units, speed=1.0)
        await until_async(lambda: len(hub.viewer.captions) >= 4)
    captions = hub.viewer.captions
    assert [caption.text for caption in captions[:4]] == [f"second {n} sound" for n in range(4)]
    first = hub.viewer.units[0].dts
    for n, caption in enumerate(captions[:4]):
        assert caption.start == pytest.approx(first + 1_000 * n + 100, abs=50)
        assert caption.end is not None and caption.end >= caption.start + 800 + 2_000
        assert (caption.language, caption.is_speech) == ("en", True)


@pytest.mark.nightly
async def test_after_a_gap_and_a_new_track_words_have_the_times_of_their_sound() -> None:
    hub, one, other = SpeechHub(program("steady")), film(3), source(*tone(22_050), "-t", "3", *AAC)
    async with hub.publish(one) as publisher:
        await play(publisher, one.units, speed=1.0)
        publisher.set_tracks(None, other.tracks.audio, {})
        await play(publisher, other.shifted(20_000).units, speed=1.0)
        await until_async(lambda: len(hub.viewer.captions) >= 6)
    resumed = next(
        u.dts for u in hub.viewer.units if u.track.config == (other.tracks.audio and other.tracks.audio.config)
    )
    starts = [caption.start for caption in hub.viewer.captions]
    assert starts[1] - starts[0] == pytest.approx(1_000, abs=30)
    later = [start for start in starts if start >= resumed]
    assert later and starts[:2] == [start for start in starts if start < resumed][:2]
    assert later[0] - resumed == pytest.approx(100, abs=1_000)


async def test_words_of_a_publisher_that_returns_have_the_times_of_its_sound() -> None:
    hub, units = SpeechHub(program("steady")), film(3)
    async with hub.publish(units) as publisher:
        await play(publisher, units.shifted(5_000).units, speed=1.0)
        publisher.close()
        await until_async(lambda: len(hub.viewer.captions) >= 3)  # also the last words, in the pause
        before, sounds = len(hub.viewer.captions), len(hub.viewer.units)
        returned = builders.publish(hub.hub, "c1", isCaption=True, captionLanguage="en")
        returned.set_tracks(None, units.tracks.audio, {})
        await play(returned, units.units, speed=1.0)  # its clock begins anew
        await until_async(lambda: len(hub.viewer.captions) >= before + 2)
    begin = hub.viewer.units[sounds].dts
    later = [c.start for c in hub.viewer.captions[before:] if c.start >= begin]
    assert 0 <= later[0] - begin <= 1_100 and later[1] - later[0] == pytest.approx(1_000, abs=60)
    assert all(caption.start < begin for caption in hub.viewer.captions[:before])


async def test_the_last_words_come_when_the_sound_stops() -> None:
    hub, units = SpeechHub(program("steady")), film(1.5)
    async with hub.publish(units) as publisher:
        await play(publisher, units.units, speed=1.0)
        await until_async(lambda: len(hub.viewer.captions) >= 2)
    assert hub.viewer.captions[1].start == pytest.approx(hub.viewer.captions[0].start + 1_000, abs=30)


async def test_a_program_that_floods_loses_lines_and_delays_nothing() -> None:
    hub, units = SpeechHub(program("floods")), film(4)
    async with hub.publish(units) as publisher:
        count = await play(publisher, units.units, speed=1.0)
        await until_async(lambda: hub.status["droppedLines"] >= 200)
        assert len(hub.viewer.units) == count
        assert hub.status["state"] == "running"
    assert len(hub.viewer.captions) <= 20 * 8
    assert max(len(caption.text) for caption in hub.viewer.captions) < 84


async def test_a_program_that_ends_is_started_again_after_a_pause() -> None:
    hub, units = SpeechHub(program("dies")), film(30)
    async with hub.publish(units) as publisher:
        count = await play(publisher, units.units, speed=1.0, until=lambda: len(hub.viewer.captions) >= 4)
        assert len(hub.viewer.units) == count
        await until_async(lambda: sum(hub.restarts.values.values()) >= 2)
        assert "the speech program" in hub.status["error"] and "3" in hub.status["error"]
    texts = [caption.text for caption in hub.viewer.captions]
    assert texts.count("second 0 sound") >= 2
    starts = [caption.start for caption in hub.viewer.captions]
    assert starts == sorted(starts) and starts[-1] > 3_000


async def test_a_program_that_hangs_is_ended_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions_output, "HANG_SECONDS", 1.0)
    hub, units = SpeechHub(program("hangs")), film(30)
    async with hub.publish(units) as publisher:
        count = await play(publisher, units.units, speed=1.0, until=lambda: len(hub.viewer.captions) >= 2)
        assert len(hub.viewer.units) == count
    assert {caption.text for caption in hub.viewer.captions} == {"second 0 sound"}
    assert sum(hub.restarts.values.values()) >= 1
    await until_async(lambda: not any(b"speech_program.py\0hangs" in command for command in commands()))


@pytest.mark.nightly
async def test_a_program_that_cannot_be_started_fails_until_the_stream_ends() -> None:
    hub, units = SpeechHub("command:/no/program"), film(2)
    async with hub.publish(units) as publisher:
        await play(publisher, units.units, speed=1.0)
        await until_async(lambda: hub.status["state"] == "failed")
        assert hub.status["error"] == (
            "the engine command cannot be used: /no/program cannot be started: No such file or directory"
        )
