"""Samples that the AAC encoder refuses are dropped and counted. The rest of the sound keeps its times."""

from __future__ import annotations

import array
import math
import struct
from contextlib import closing
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import av
import pytest

from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.ladder_plan import LadderPlan, LadderStep
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, AudioSamples, SoundConverter
from gateway.workers.programs.ladder import ladder_worker
from gateway.workers.programs.ladder.ladder_worker import LadderWorker
from gateway.workers.programs.vod.audio_transcoder import AudioTranscoder
from gateway.workers.programs.vod.media_file import MediaFile
from gateway.workers.sound_protocol import SoundSetup
from tests.support.recording_link import RecordingLink
from tests.support.sources import h264

RATE = 48_000
SAMPLES = 1024
BAD = 20  # number of the block that is refused
BLOCKS = 40


def pcm(block: int, bad: float = math.nan) -> bytes:
    """A block of mono floats."""
    return array.array("f", [bad if block == BAD else 0.1] * SAMPLES).tobytes()


def spoil(frame: av.AudioFrame) -> None:
    for plane in frame.planes:
        plane.update(array.array("f", [math.nan] * (plane.buffer_size // 4)).tobytes())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e10])
def test_refused_samples_leave_a_gap_and_no_shift(bad: float) -> None:
    encoder, units = AudioEncoder(64_000, 1, RATE), []
    for block in range(BLOCKS):
        frame = av.AudioFrame("fltp", "mono", SAMPLES)
        frame.sample_rate = RATE
        frame.planes[0].update(pcm(block, bad).ljust(frame.planes[0].buffer_size, b"\0"))
        units += encoder.encode(AudioSamples(frame, block * SAMPLES, False, 0.0))
    units += encoder.flush()
    assert encoder.damaged == 1
    assert [unit.dts // SAMPLES for unit in units] == [n for n in range(BLOCKS) if n not in (BAD - 1, BAD)]


def test_a_converter_continues_after_refused_samples() -> None:
    track = MediaTrack(Kind.AUDIO, Codec.AAC, RATE, b"")
    converter = SoundConverter.of_setup(SoundSetup(Codec.AAC, ForeignSound("pcm_f32le", RATE, 1)), track)
    units = []
    for block in range(BLOCKS):
        units += converter.convert(AccessUnit(track, block * SAMPLES, 0, True, 0.0, pcm(block)))
    units += converter.flush()
    assert converter.damaged == 1
    assert units[-1].dts == (BLOCKS - 1) * SAMPLES


def test_a_file_with_refused_samples_is_converted(tmp_path: Path) -> None:
    data = b"".join(pcm(block) for block in range(BLOCKS))
    form = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path = tmp_path / "sound.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with closing(MediaFile(path)) as film:
        audio = AudioTranscoder(film, None, lambda at: None)
        times = [at for at, _ in audio.until(math.inf)]
    assert audio.damaged == 1
    assert times[-1] * RATE // 90_000 == pytest.approx((BLOCKS - 1) * SAMPLES, abs=SAMPLES)
    assert all(a < b for a, b in pairwise(times))


def test_refused_samples_leave_the_pictures_of_all_renditions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoiled(AudioDecoder):
        """The samples of one unit are NaN."""

        count = 0

        def decode(self, unit: AccessUnit) -> list[AudioSamples]:
            found = super().decode(unit)
            self.count += 1
            if self.count == BAD:
                for samples in found:
                    spoil(samples.frame)
            return found

    monkeypatch.setattr(ladder_worker, "AudioDecoder", Spoiled)
    source = h264("160x90", seconds=2)
    rungs = [LadderStep(f"{n}", 160, 90, 100_000, bits, 1.5, slot=n) for n, bits in enumerate((32_000, 64_000))]
    link = RecordingLink(
        [
            (WorkerMessage.SETUP, wire.write_json(asdict(LadderPlan(tuple(rungs), preset="ultrafast")))),
            (StreamMessage.TRACKS, wire.encode_tracks(source.tracks)),
            *((StreamMessage.UNIT, wire.encode_unit(unit)) for unit in source.units),
            (StreamMessage.END, wire.encode_end()),
        ]
    )
    LadderWorker(link).work()
    for slot in range(2):
        made = [unit for unit, to in link.sent if to == 1 << slot]
        pictures, sounds = ([unit for unit in made if unit.track.kind is kind] for kind in (Kind.VIDEO, Kind.AUDIO))
        assert len(pictures) == len(source.of(Kind.VIDEO))
        assert sounds[-1].dts == pytest.approx(source.of(Kind.AUDIO)[-1].dts, abs=50)
    assert [note["damaged"] for note in link.notes if "damaged" in note] == [1]
