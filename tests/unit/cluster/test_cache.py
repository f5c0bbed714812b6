"""Cached answers of holders: a limit in bytes, least recently used entries removed first, stale entries, queries."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.cluster.files import cached_response as module
from gateway.cluster.files.cached_response import QUERY, Cache, ResponseHead, to_cached_response
from gateway.playback.playlist_response import M3U8
from gateway.playback.recording_files import with_query
from tests.support.http import request

OVERHEAD = 1_024


@dataclass
class Entry:
    size: int = 1_000
    fresh_until: float = 10.0
    stale_until: float = 0.0


def test_the_least_recently_used_entry_is_removed_first() -> None:
    cache = Cache(20_000)
    for key in range(9):
        cache.put(key, Entry())
    assert cache.get(0, 1.0) is not None
    cache.put("new", Entry())
    assert cache.get(1, 1.0) is None
    assert cache.get(0, 1.0) is not None
    assert cache.bytes == 9 * (1_000 + OVERHEAD) <= 20_000


def test_entries_without_a_body_count_towards_the_limit() -> None:
    cache = Cache(100_000)
    for key in range(10_000):
        cache.put(key, Entry(0))
    assert len(cache) * OVERHEAD == cache.bytes <= 100_000


def test_an_entry_that_would_fill_much_of_the_cache_is_not_kept() -> None:
    cache = Cache(80_000)
    cache.put("small", Entry())
    cache.put("large", Entry(9_000))
    assert cache.get("large", 1.0) is None
    assert cache.get("small", 1.0) is not None


def test_an_entry_that_replaces_another_counts_once() -> None:
    cache = Cache(80_000)
    for size in (1_000, 5_000, 2_000):
        cache.put("a", Entry(size))
    assert cache.bytes == 2_000 + OVERHEAD
    cache.put("a", Entry(50_000))  # too large: what is there is not current any more
    assert (len(cache), cache.bytes) == (0, 0)


def test_an_entry_is_fresh_then_stale_then_gone() -> None:
    cache = Cache(80_000)
    entry = Entry(fresh_until=10.0, stale_until=16.0)
    cache.put("a", entry)
    assert cache.get("a", 9.9) is entry
    assert cache.get("a", 10.0) is None
    assert cache.stale("a", 15.9) is entry
    assert cache.stale("a", 16.0) is None
    assert cache.get("a", 16.0) is None
    assert len(cache) == 0
    assert (cache.hits, cache.misses) == (1, 2)


def test_an_entry_that_stays_fresh_answers_in_place_of_a_node_no_longer_than_a_stale_one() -> None:
    cache = Cache(80_000)
    entry = Entry(fresh_until=46.0, stale_until=16.0)
    cache.put("a", entry)
    assert cache.stale("a", 15.9) is entry
    assert cache.stale("a", 16.0) is None
    assert cache.get("a", 16.0) is entry


@pytest.mark.parametrize(("path", "line"), [("vod/vod-1.m3u8", "1.ts"), ("live.m3u8", f"1.ts?{QUERY}")])
def test_a_long_playlist_takes_only_a_query_whose_copies_are_small(path: str, line: str) -> None:
    body = f"#EXTINF:4.0,\n{line}\n".encode() * 10_000
    cached = to_cached_response(path, ResponseHead(200, M3U8, "no-store", {}), body, 0.0)
    answers = [cached.answer(request(f"/c1/{path}"), f"?{'x' * size}", 0.0) for size in (1_000, 2_000)]
    assert [answer.status for answer in answers] == [200, 414]


def test_the_uris_of_a_stored_playlist_are_found_once_for_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def find(playlist: str, suffix: str) -> str:
        read.append(playlist)
        return with_query(playlist, suffix)

    monkeypatch.setattr(module, "with_query", find)
    body = '#EXT-X-MAP:URI="i.mp4"\n1.ts\r\n2.ts?a=1\nhttps://other.example.com/3.ts\n'
    cached = to_cached_response("vod/vod-1.m3u8", ResponseHead(200, M3U8, "no-store", {}), body.encode(), 0.0)
    for suffix in ("?sign=1", "?x=%01&y=\\1", "?"):
        assert cached.answer(request("/c1/vod/vod-1.m3u8"), suffix, 0.0).body == with_query(body, suffix).encode()
    assert read == [body]
    assert cached.answer(request("/c1/vod/vod-1.m3u8"), "", 0.0).body == body.encode()
