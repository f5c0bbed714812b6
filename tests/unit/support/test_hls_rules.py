"""The rules of HLS that tests judge playlists by."""

from __future__ import annotations

import pytest

from tests.support.hls_rules import changes_of_media

_PLAYLIST = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:2
#EXT-X-PROGRAM-DATE-TIME:2026-11-28T00:00:01.000Z
#EXTINF:2.00000,
1.ts
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-28T00:00:{second:06.3f}Z
#EXTINF:2.00000,
2.ts
"""


@pytest.mark.parametrize(("second", "changes"), [(3.0, ["2.ts"]), (3.2, ["2.ts"]), (2.1, []), (9.0, [])])
def test_a_discontinuity_whose_dates_go_on_is_a_change_of_media(second: float, changes: list[str]) -> None:
    assert changes_of_media(_PLAYLIST.format(second=second)) == changes


def test_a_playlist_without_a_discontinuity_has_no_change() -> None:
    assert changes_of_media(_PLAYLIST.format(second=3).replace("#EXT-X-DISCONTINUITY\n", "")) == []
