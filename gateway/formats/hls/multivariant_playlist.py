"""Writes the Multivariant Playlist: the renditions of a stream, with the values by which players choose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.formats.hls.media_playlist import MARK, quoted
from gateway.media.caption_track import CaptionTrack
from gateway.media.labels import printable

SUBTITLES: Final = "subtitles"  # the group of all subtitles


@dataclass(frozen=True, slots=True)
class AudioRendition:
    """An alternative audio rendition, EXT-X-MEDIA (§4.4.6.1).

    uri: "" if its media is in the variants. channels: 0 if unknown. language: BCP 47; "" if unknown.
    """

    group: str
    name: str
    uri: str
    channels: int
    default: bool = True
    language: str = ""


@dataclass(frozen=True, slots=True)
class SubtitleRendition:
    """Captions as text, EXT-X-MEDIA (§4.4.6.1). language: BCP 47; "" if unknown."""

    name: str
    uri: str
    language: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """A Variant Stream, EXT-X-STREAM-INF (§4.4.6.2).

    bandwidth: peak segment bitrate including audio, bits a second.
    average: mean bitrate of all segments including audio, bits a second.
    codecs: of all its renditions.
    size: pixels; None for audio.
    audio: the group of its audio renditions; None if it has none.
    captions: in its pictures; None: it is unknown whether there are some.
    range: of its pictures: "SDR", "PQ" or "HLG".
    """

    uri: str
    bandwidth: int
    average: int
    codecs: tuple[str, ...]
    size: tuple[int, int] | None = None
    frame_rate: float | None = None
    audio: str | None = None
    captions: tuple[CaptionTrack, ...] | None = None
    range: str = "SDR"


def multivariant(
    variants: Sequence[Variant],
    renditions: Sequence[AudioRendition] = (),
    subtitles: Sequence[SubtitleRendition] = (),
    *,
    version: int = 9,
) -> str:
    """Returns the playlist as a template: MARK stands after each URI, for `media_playlist.with_suffix`.

    Players start with the first of `variants`. version: it is 7 at least if there are services of CEA-708.
    """
    captions = _captions(variants)
    tracks = captions or ()
    if any(track.source.startswith("SERVICE") for track in tracks):
        version = max(version, 7)  # RFC 8216 §7: "SERVICE" values for the INSTREAM-ID attribute
    lines = ["#EXTM3U\n", f"#EXT-X-VERSION:{version}\n"]
    for r, tag in zip(renditions, _media("AUDIO", [(r.group, r.name, r) for r in renditions]), strict=True):
        channels = f',CHANNELS="{r.channels}"' if r.channels else ""
        uri = f",URI={quoted(r.uri, MARK)}" if r.uri else ""
        lines.append(f"{tag}{channels}{uri}\n")
    for track, tag in zip(tracks, _media("CLOSED-CAPTIONS", [("cc", t.label, t) for t in tracks]), strict=True):
        lines.append(f"{tag},INSTREAM-ID={quoted(track.source)}\n")
    lines += subtitle_tags(subtitles, MARK)
    has_hdr = any(v.range != "SDR" for v in variants)
    for v in variants:
        attributes = [f"BANDWIDTH={v.bandwidth}", f"AVERAGE-BANDWIDTH={v.average}"]
        if v.codecs:
            attributes.append(f"CODECS={quoted(','.join(v.codecs))}")
        if v.size is not None:
            attributes.append(f"RESOLUTION={v.size[0]}x{v.size[1]}")
        if v.frame_rate:
            attributes.append(f"FRAME-RATE={v.frame_rate:.3f}")
        if v.size is not None and has_hdr:  # §4.4.6.2: without it, SDR is meant
            attributes.append(f"VIDEO-RANGE={v.range}")
        if v.audio is not None:
            attributes.append(f"AUDIO={quoted(v.audio)}")
        if subtitles:
            attributes.append(f'SUBTITLES="{SUBTITLES}"')
        if captions is not None and v.size is not None:
            attributes.append('CLOSED-CAPTIONS="cc"' if captions else "CLOSED-CAPTIONS=NONE")
        lines.append(f"#EXT-X-STREAM-INF:{','.join(attributes)}\n{printable(v.uri)}{MARK}\n")
    return "".join(lines)


def _media(
    kind: str, members: Sequence[tuple[str, str, AudioRendition | SubtitleRendition | CaptionTrack]]
) -> Iterator[str]:
    """Yields the beginnings of EXT-X-MEDIA tags (§4.4.6.1). members: each with its group and its name."""
    # §4.4.6.1.1: members of a group with AUTOSELECT=YES have different languages, as no other value tells them apart.
    chosen = {(group, m.language.lower()) for group, _, m in members if m.default}
    for group, name, m in members:
        described = f",LANGUAGE={quoted(m.language)}" if m.language else ""
        is_chosen = m.default or (group, m.language.lower()) not in chosen
        chosen.add((group, m.language.lower()))
        yield (
            f"#EXT-X-MEDIA:TYPE={kind},GROUP-ID={quoted(group)},NAME={quoted(name)}{described},"
            f"DEFAULT={'YES' if m.default else 'NO'},AUTOSELECT={'YES' if is_chosen else 'NO'}"
        )


def subtitle_tags(renditions: Sequence[SubtitleRendition], mark: str = "") -> Iterator[str]:
    """Yields the tags of subtitles. mark: what follows each URI."""
    used: dict[str, SubtitleRendition] = {}
    for each in renditions:
        name, count = each.name, 1
        while name in used:  # §4.4.6.1.1: all names of a group are different
            name = f"{each.name} ({each.language or count + 1})" if count == 1 else f"{each.name} {count}"
            count += 1
        used[name] = each
    for each, tag in zip(renditions, _media("SUBTITLES", [(SUBTITLES, *u) for u in used.items()]), strict=True):
        yield f"{tag},URI={quoted(each.uri, mark)}\n"


def _captions(variants: Sequence[Variant]) -> tuple[CaptionTrack, ...] | None:
    """Returns the captions of all variants; None: it is unknown whether there are some. NONE is for all (§4.4.6.2)."""
    known = [v.captions for v in variants if v.size is not None]
    tracks = tuple(dict.fromkeys(track for captions in known for track in captions or ()))
    return tracks or (None if None in known else ())
