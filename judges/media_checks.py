"""Checks by ffmpeg: each segment decodes alone, the pixel aspect is told, and every frame is one of the source's."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urljoin

from judges import isobmff, mpd
from judges.fetch import get
from judges.findings import Findings
from judges.hls_playlist import parse_media, parse_multivariant

FFMPEG_SECONDS = 90.0
# Share of a segment's pictures that a player shows that begins there.
SHOWN = 0.9
LAST_SEGMENTS = 8
MIN_FRAMES = 60


def segments_alone(url: str, findings: Findings, ffmpeg: str = "ffmpeg") -> None:
    """RFC 8216bis §6.2.1 (should): a segment can be decoded without those before it."""
    for media_url in _video_playlists(url, findings):
        answer = get(media_url)
        if answer.status != 200:
            findings.breaks("the playlist is available", f"{media_url} {answer.status}")
            continue
        playlist = parse_media(answer.body.decode(), media_url, findings)
        headers: dict[str | None, bytes] = {None: b""}
        for segment in playlist.segments[-LAST_SEGMENTS:]:
            if segment.map_uri not in headers:
                headers[segment.map_uri] = get(urljoin(media_url, segment.map_uri or "")).body
            media = get(urljoin(media_url, segment.uri))
            if media.status == 200:
                shown, held = _pictures(headers[segment.map_uri] + media.body, ffmpeg)
                words = f"{segment.uri} {shown} of {held} pictures"
                findings.require(shown and shown >= SHOWN * held, "6.2.1 a segment decodes alone (should)", words)


def _video_playlists(url: str, findings: Findings) -> list[str]:
    answer = get(url)
    text = answer.body.decode(errors="replace")
    if answer.status == 200 and "#EXT-X-STREAM-INF" not in text:
        return [url]
    return [urljoin(url, variant.uri) for variant in parse_multivariant(text, findings).variants]


def _pictures(data: bytes, ffmpeg: str) -> tuple[int, int]:
    """Pictures that ffmpeg decodes, and pictures that are there."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [ffmpeg, "-nostdin", "-v", "error", "-i", file.name, "-map", "0:v:0"]
        decoded = subprocess.run([*command, "-f", "framemd5", "-"], capture_output=True, timeout=FFMPEG_SECONDS)
        held = subprocess.run(
            [*command, "-c", "copy", "-f", "framemd5", "-"], capture_output=True, timeout=FFMPEG_SECONDS
        )
    return tuple(sum(line[:1] not in (b"", b"#") for line in done.stdout.splitlines()) for done in (decoded, held))  # type: ignore[return-value]


def pixel_aspect(base: str, expected: tuple[int, int], findings: Findings) -> None:
    """ISO/IEC 14496-12 §12.1.4: `pasp` in the CMAF header; ISO/IEC 23009-1 §5.3.7.2: @sar of the representation."""
    url = f"{base}/manifest.mpd"
    answer = get(url)
    manifest = mpd.parse(answer.body, url, findings) if answer.status == 200 else None
    videos = [one for one in manifest.representations if one.is_video] if manifest else []
    findings.require(videos, "the manifest has a picture", answer.status)
    for video in videos:
        told = video.sample_aspect
        wanted = f"{expected[0]}:{expected[1]}"
        findings.require(told == wanted, "23009-1 5.3.7.2 @sar is there where pixels are not square", told)
        header = get(video.initialization).body
        found = pasp(header)
        findings.require(found == expected, "14496-12 12.1.4 pasp is there where pixels are not square", found)


def pasp(header: bytes) -> tuple[int, int] | None:
    """Horizontal and vertical spacing of the first visual sample entry; None without a pasp box."""
    for start, end in isobmff.find(header, "moov/trak/mdia/minf/stbl/stsd"):
        for _, entry, stop in isobmff.boxes(header, start + 8, end):
            # VisualSampleEntry: 78 bytes of fields before its boxes.
            for name, at, _ in isobmff.boxes(header, entry + 78, stop):
                if name == "pasp":
                    return int.from_bytes(header[at : at + 4], "big"), int.from_bytes(header[at + 4 : at + 8], "big")
    return None


def frame_hashes(source: Path, output: str, seconds: float, findings: Findings, ffmpeg: str = "ffmpeg") -> None:
    """Every coded frame of the output is, in order and without holes, a frame of the source."""
    sent = _hashes(str(source), ffmpeg, [])
    came = _hashes(output, ffmpeg, ["-t", str(seconds)])
    findings.require(came, "media arrives")
    for kind, wanted in sent.items():
        got = came.get(kind, [])
        if len(got) < min(MIN_FRAMES, len(wanted)):
            findings.breaks("media arrives", f"{kind}: {len(got)} frames")
            continue
        words = excerpt_fault(got, wanted)
        findings.require(words is None, "each frame is the source's next one", f"{kind}: {words}")
        findings.note(f"{kind} frames", len(got))


def excerpt_fault(got: list[str], wanted: list[str]) -> str | None:
    """None where `got` is an unbroken run of `wanted`; else a few words about the first frame that is not."""
    starts = [at for at, digest in enumerate(wanted) if digest == got[0]]
    if any(wanted[at : at + len(got)] == got for at in starts):
        return None
    foreign = sum(digest not in set(wanted) for digest in got)
    if not starts:
        return f"the first of {len(got)} frames is none of the source's, {foreign} are not"

    def fits(start: int) -> int:
        """Count of frames that agree from this start on."""
        pairs = zip(got, wanted[start:], strict=False)
        return next((at for at, (came, sent) in enumerate(pairs) if came != sent), len(wanted) - start)

    start = max(starts, key=fits)
    first = fits(start)
    words = f"frame {first} of {len(got)} is not the source's {start + first}"
    return f"{words}, {foreign} frames are none of the source's"


def _hashes(source: str, ffmpeg: str, limit: list[str]) -> dict[str, list[str]]:
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", source, *limit, "-map", "0:v?", "-map", "0:a?", "-c", "copy"]
    try:
        done = subprocess.run([*command, "-f", "framemd5", "-"], capture_output=True, text=True, timeout=FFMPEG_SECONDS)
        text = done.stdout
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"").decode()
    kinds = dict(re.findall(r"^#media_type (\d+): (\w+)", text, re.M))
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            fields = [field.strip() for field in line.split(",")]
            if len(fields) >= 6:
                found.setdefault(kinds.get(fields[0], "?"), []).append(fields[5])
    return found
