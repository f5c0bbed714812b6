"""Texts of publishers, files and other nodes stay in their attribute, whatever characters they have."""

import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import AudioRendition, SubtitleRendition, Variant, multivariant
from gateway.media.caption_track import CaptionTrack

_TAG = re.compile(r'#EXT-X-[A-Z-]+:(?:[A-Z0-9-]+=(?:"[^"\n\x00-\x1f\x7f]*"|[^",\s]+)(?:,|$))+')
EVIL = st.text(st.sampled_from('"\r\n\x00\x01\x85\u2028\ud83d\uffff,=#<>&;$ab'), max_size=12) | st.text(max_size=20)


@given(EVIL, EVIL, EVIL)
def test_a_multivariant_playlist_has_its_lines_and_no_others(name: str, language: str, uri: str) -> None:
    captions = (CaptionTrack("CC1", name, language),)
    text = multivariant(
        [Variant("v.m3u8", 1, 1, ("avc1.64001E",), (2, 2), audio=name, captions=captions)],
        [AudioRendition(name, name, uri, 2, True, language)],
        [SubtitleRendition(name, uri, language)],
    )
    head, version, *tags, address, end = media_playlist.with_suffix(text, "?sign=1-a").decode().split("\n")
    assert (head, version, address, end) == ("#EXTM3U", "#EXT-X-VERSION:9", "v.m3u8?sign=1-a", "")
    assert [tag.partition(":")[0] for tag in tags] == ["#EXT-X-MEDIA"] * 3 + ["#EXT-X-STREAM-INF"]
    assert all(_TAG.fullmatch(tag) for tag in tags)


@given(EVIL)
def test_tags_of_a_media_playlist_stay_one_line(text: str) -> None:
    made = [
        media_playlist.media_map(text),
        media_playlist.part(1.0, text, True),
        media_playlist.preload_hint(text),
        media_playlist.rendition_report(text, 1, 1),
        media_playlist.date_range(text, 0.0, scte35=("SCTE35-OUT", b"a")),
    ]
    for tag in media_playlist.with_suffix("".join(made)).decode().removesuffix("\n").split("\n"):
        assert _TAG.fullmatch(tag)
    assert len(media_playlist.with_suffix(media_playlist.segment(1.0, text)).decode().splitlines()) == 2


@given(EVIL, EVIL)
def test_a_manifest_stays_xml(name: str, language: str) -> None:
    template = mpd.Template(1, "i.mp4", "$Number$.m4s", 1, 0, duration=1)
    captions = (mpd.Descriptor("urn:scte:dash:cc:cea-608:2015", f"CC1={language}"),)
    representation = mpd.Representation("v", "avc1.64001E", 1)
    kinds = mpd.AdaptationSet(
        1, "video", template, (representation,), language=language, label=name, role=name, accessibility=captions
    )
    period = mpd.Period(name, 0.0, (kinds,))
    text = mpd.mpd(mpd.Mpd(0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, None, (period,), "http://a/clock"))
    root = ET.fromstring(mpd.finish(text, "?sign=1-a", 0.0))
    names = {element.tag.partition("}")[2] for element in root.iter()}
    assert names <= {"MPD", "Period", "AdaptationSet", "Label", "Accessibility", "Role", "SegmentTemplate",
                     "Representation", "UTCTiming"}  # fmt: skip
    [label] = [element.text for element in root.iter() if element.tag.endswith("}Label")] or [""]
    assert set(label or "") <= set(name)


@given(EVIL | st.sampled_from(["../../x", "en/../..", "x" * 300]))
def test_captions_have_a_plain_name_in_addresses_and_files(language: str) -> None:
    assert re.fullmatch(r"text(-[a-z0-9-]{2,35})?", CaptionTrack("TEXT", "", language).id)
