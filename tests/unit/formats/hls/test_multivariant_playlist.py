"""The Multivariant Playlist."""

from __future__ import annotations

import re

import pytest

from gateway.formats.hls.multivariant_playlist import AudioRendition, SubtitleRendition, Variant, multivariant
from gateway.media.caption_track import CaptionTrack


@pytest.mark.parametrize(("source", "version"), [("CC1", 3), ("SERVICE1", 7)])
def test_services_of_cea_708_need_version_7(source: str, version: int) -> None:
    # RFC 8216 §7
    captions = (CaptionTrack("CC2", "other"), CaptionTrack(source, "x"))
    variant = Variant("live.m3u8", 2, 1, ("avc1.640028",), (1280, 720), captions=captions)
    assert multivariant([variant], version=3).splitlines()[1] == f"#EXT-X-VERSION:{version}"


@pytest.mark.parametrize(
    ("languages", "default", "chosen"),
    [
        (("", "", ""), 0, ["YES", "NO", "NO"]),
        (("en", "en", "de"), 0, ["YES", "NO", "YES"]),
        (("en", "EN", "de"), 1, ["NO", "YES", "YES"]),
        (("en", "de", ""), None, ["YES", "YES", "YES"]),
    ],
)
def test_players_choose_among_members_of_different_languages(
    languages: tuple[str, ...], default: int | None, chosen: list[str]
) -> None:
    # RFC 8216 §4.3.4.1.1: what is different for each AUTOSELECT=YES member of a group
    named = [(str(number), language, number == default) for number, language in enumerate(languages)]
    audio = [AudioRendition("a", name, name, 2, is_default, language) for name, language, is_default in named]
    texts = [SubtitleRendition(name, name, language, is_default) for name, language, is_default in named]
    captions = tuple(CaptionTrack(f"CC{1 + int(name)}", name, lang, is_default) for name, lang, is_default in named)
    text = multivariant([Variant("v", 2, 1, (), (1280, 720), captions=captions)], audio, texts)
    for kind in ("AUDIO", "CLOSED-CAPTIONS", "SUBTITLES"):
        assert re.findall(f"TYPE={kind},.*AUTOSELECT=(YES|NO)", text) == chosen
