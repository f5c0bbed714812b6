"""The Multivariant Playlist."""

from __future__ import annotations

import pytest

from gateway.formats.hls.multivariant_playlist import Variant, multivariant
from gateway.media.caption_track import CaptionTrack


@pytest.mark.parametrize(("source", "version"), [("CC1", 3), ("SERVICE1", 7)])
def test_services_of_cea_708_need_version_7(source: str, version: int) -> None:
    # RFC 8216 §7
    captions = (CaptionTrack("CC2", "other"), CaptionTrack(source, "x"))
    variant = Variant("live.m3u8", 2, 1, ("avc1.640028",), (1280, 720), captions=captions)
    assert multivariant([variant], version=3).splitlines()[1] == f"#EXT-X-VERSION:{version}"
