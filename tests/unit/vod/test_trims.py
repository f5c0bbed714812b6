"""Parts of recorded sessions as sources of films."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.local.objects import LocalObjects
from gateway.outputs.clips.trims import Trims
from gateway.ports import media_keys
from gateway.ports.errors import AtCapacity, CannotCut, GatewayError, InvalidField, NothingRecorded, StoreUnavailable
from gateway.ports.media_keys import Trim
from gateway.vod.sources import VodSources

START = 1_764_300_000_000
KEY = f"c1/trims/{START}-{START + 1500}-{START + 9000}.mp4"


class Saved:
    def __init__(self) -> None:
        self.trims: list[Trim] = []

    async def save(self, trim: Trim, file: Path) -> None:
        self.trims.append(trim)
        file.write_bytes(b"movie")


@given(st.integers(10**12, 10**13 - 1), st.integers(10**12, 10**13 - 1), st.integers(10**12, 10**13 - 1))
def test_the_key_of_a_trim_is_read_back(session: int, start: int, end: int) -> None:
    playlist = media_keys.playlist_key("c1", session)
    key = media_keys.trim_key(playlist, start / 1000, end / 1000)
    assert media_keys.parse_trim(key) == Trim("c1", playlist, start / 1000, end / 1000)
    assert media_keys.parse(key) is None  # it is never served as a recording


@given(st.text(max_size=80))
def test_other_keys_are_no_trims(text: str) -> None:
    for key in (text, f"c1/trims/{text}", f"c1/trims/{text}.mp4"):
        assert media_keys.parse_trim(key) is None or key.startswith("c1/trims/1") or key.count("-") == 2


async def test_a_trim_is_joined_and_its_film_has_the_protection_of_the_channel(tmp_path: Path) -> None:
    saved = Saved()
    sources = VodSources(LocalObjects(tmp_path / "media"), trims=saved)
    source = sources.parse(KEY)
    with pytest.raises(InvalidField):  # the session does not exist (any more)
        await sources.check(source)
    playlist = tmp_path / "media" / f"c1/vod-{START}.m3u8"
    playlist.parent.mkdir(parents=True)
    playlist.write_text("#EXTM3U\n")
    assert (await sources.check(source)).key == f"c1/vod-{START}.m3u8"
    assert (await sources.fetch(source, tmp_path)).read_bytes() == b"movie"
    assert saved.trims == [Trim("c1", f"c1/vod-{START}.m3u8", START / 1000 + 1.5, START / 1000 + 9)]
    assert media_keys.is_of_channel(source.names.prefix)
    assert not media_keys.is_of_channel("c1/trims/film")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (NothingRecorded("nothing is recorded in this time"), InvalidField),
        (CannotCut("the codecs change"), InvalidField),
        (AtCapacity("too many trims are made"), StoreUnavailable),  # so the job waits
    ],
)
async def test_the_reason_of_a_failed_trim_is_that_of_the_job(
    tmp_path: Path, error: GatewayError, raised: type[GatewayError]
) -> None:
    async def save(*args: Any) -> None:
        raise error

    async def find(id: str) -> Any:
        return SimpleNamespace(channel=id) if id == "c1" else None

    trims = Trims(cast(Any, SimpleNamespace(save=save)), cast(Any, SimpleNamespace(find=find)))
    with pytest.raises(raised, match=str(error)):
        await trims.save(Trim("c1", "c1/vod-1.m3u8", 1.0, 2.0), tmp_path / "film.mp4")
    with pytest.raises(InvalidField, match="no such channel"):
        await trims.save(Trim("c2", "c2/vod-1.m3u8", 1.0, 2.0), tmp_path / "film.mp4")
