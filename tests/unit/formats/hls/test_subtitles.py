"""Subtitles in a stored Multivariant Playlist."""

from gateway.formats.hls.multivariant_playlist import SubtitleRendition
from gateway.formats.hls.subtitles import subtitle_playlist, with_subtitles

MASTER = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nb.m3u8\n"
EN, DE = SubtitleRendition("Same", "en.m3u8", "en"), SubtitleRendition("Same", "de.m3u8", "de")


def test_every_variant_has_the_group_of_subtitles() -> None:
    assert with_subtitles(MASTER, [EN, DE]) == (
        "#EXTM3U\n#EXT-X-VERSION:3\n"
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subtitles",NAME="Same",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=YES,'
        'URI="en.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subtitles",NAME="Same (de)",LANGUAGE="de",DEFAULT=NO,AUTOSELECT=YES,'
        'URI="de.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES="subtitles"\na.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=2,SUBTITLES="subtitles"\nb.m3u8\n'
    )


def test_other_subtitles_replace_those_of_the_playlist() -> None:
    assert with_subtitles(with_subtitles(MASTER, [EN, DE]), [DE]) == with_subtitles(MASTER, [DE])
    assert with_subtitles(with_subtitles(MASTER, [EN]), []) == MASTER
    assert with_subtitles("#EXTM3U\n", [EN]) == "#EXTM3U\n"


def test_the_playlist_has_one_segment_of_the_whole_length() -> None:
    assert subtitle_playlist("a%20b.vtt", 7200.2).decode().splitlines() == [
        "#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:7201", "#EXT-X-MEDIA-SEQUENCE:1",
        "#EXT-X-PLAYLIST-TYPE:VOD", "#EXTINF:7200.20000,", "a%20b.vtt", "#EXT-X-ENDLIST",
    ]  # fmt: skip
