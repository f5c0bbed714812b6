"""What independent decoders find in files with closed captions, beside what ours finds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import av

from gateway.formats.captions.decoder import ClosedCaptionDecoder
from gateway.formats.captions.reorder import PictureOrder
from gateway.formats.captions.source import CaptionChange
from gateway.media.closed_captions import ClosedCaptions
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support.go_programs import go_program
from tests.support.time_outs import at_most

Cue = tuple[float, str]  # seconds from the first picture on, and text
_TIMES = re.compile(r"(\d+):(\d+):(\d+),(\d+) --> ")
_TRACK = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"")


def our_changes(path: Path) -> list[CaptionChange]:
    """All changes in an H.264 file. Times count from the first picture on."""
    captions, order, decoder = ClosedCaptions(), PictureOrder(), ClosedCaptionDecoder()
    changes: list[CaptionChange] = []
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        first = round(video.start_time * video.time_base * 90_000)
        for unit in file.demux(video):
            if unit.pts is None or unit.dts is None:
                continue
            shown, decoded = (round(time * video.time_base * 90_000) - first for time in (unit.pts, unit.dts))
            pairs = captions.look(AccessUnit(_TRACK, 0, 0, True, 0.0, bytes(unit)))
            for time, data in order.add(pairs, shown, decoded):
                changes += decoder.take(data, time)
    return changes


def our_cues(path: Path, source: str = "CC1") -> list[Cue]:
    """The texts of one source that are not empty."""
    changes = [change for change in our_changes(path) if change.source == source]
    return [(change.start / 90_000, change.text) for change in changes if change.text]


def ffmpeg_cues(path: Path) -> list[Cue]:
    """What ffmpeg's decoder finds in CC1."""
    graph = f"movie={path}[out0+subcc]"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", graph, "-map", "0:s", "-f", "srt", "-"]
    return _cues(command)


def go608_cues(path: Path) -> list[Cue]:
    """What go-608's decoder finds in CC1 of a file without B-frames. Skips the test if it cannot be built."""
    fragmented = path.with_suffix(".fragmented.mp4")
    _fragment(path, fragmented)
    command = [str(_go608("go608-extract")), "-i", str(fragmented), "-to", "srt"]
    return _cues(command)


def go608_injected(film: Path, subtitles: str, folder: Path) -> Path:
    """A film with subtitles of SRT as pop-on captions, as go-608 writes them. Skips the test if it cannot be built."""
    fragmented, srt, out = folder / "plain.mp4", folder / "subtitles.srt", folder / "captioned.mp4"
    _fragment(film, fragmented)
    srt.write_text(subtitles)
    command = [str(_go608("go608-inject")), "-i", str(fragmented), "-sub", str(srt), "-o", str(out), "-fps", "30"]
    subprocess.run(command, capture_output=True, check=True, timeout=at_most(60))
    return out


def _cues(command: list[str]) -> list[Cue]:
    """The start times and texts of the SRT that a program prints, without tags."""
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=at_most(60)).stdout
    cues = []
    for block in text.replace("\r", "").strip().split("\n\n"):
        lines = block.split("\n")
        if len(lines) > 1 and (found := _TIMES.match(lines[1])):
            hours, minutes, seconds, milliseconds = map(int, found.groups())
            plain = re.sub(r"<[^>]*>|\{[^}]*\}", "", "\n".join(lines[2:])).replace("\\h", " ")  # ffmpeg's spaces
            rows = [" ".join(row.split()) for row in plain.split("\n")]
            cues.append((hours * 3600 + minutes * 60 + seconds + milliseconds / 1000, "\n".join(rows).strip()))
    return cues


def _fragment(path: Path, out: Path) -> None:
    flags = "frag_keyframe+empty_moov+default_base_moof"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(path), "-an", "-c", "copy", "-movflags", flags]
    subprocess.run([*command, str(out)], check=True, timeout=at_most(60))


def _go608(name: str) -> Path:
    module = Path(__file__).with_name("go608_module")
    return go_program(name, module, f"github.com/Eyevinn/go-608/cmd/{name}")
