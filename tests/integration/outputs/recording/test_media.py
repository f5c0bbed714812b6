"""Stored media on the playback listener: only recordings, with the protection of their channel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.channels.stream_key import SignatureUse, sign
from gateway.ports import media_keys
from tests.support.at_night import at_night
from tests.support.clients import until
from tests.support.gateway import Channel, Edge, Gateway, http, running

SECRET = "a-signing-secret-for-tests"
CLUSTER = "a-cluster-secret-for-tests"
MS = 1_767_323_045_678
FAR = 4_000_000_000


def stored(gateway: Gateway, *keys: str) -> None:
    for key in keys:
        file = gateway.data / "media" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"media")


def media_of(id: str) -> dict[str, str]:
    """Returns the path at which each of the stored files plays, by key."""
    movie = media_keys.video_key(id, MS)
    film = f"{movie.removesuffix('.mp4')}/{Path(movie).stem}.m3u8"
    return {
        movie: f"/{id}/vod/{movie.removeprefix(id + '/')}",
        media_keys.segment_key(id, MS): f"/{id}/vod/720p/{MS}.ts",
        film: f"/vod/{film}",
        f"{id}/holiday/holiday.m3u8": f"/vod/{id}/holiday/holiday.m3u8",
    }


def statuses(gateway: Gateway, paths: list[str], query: str = "", *, asked: int = 1) -> set[int]:
    """Returns the statuses of these paths. Each is requested `asked` times, because processes share the port."""
    base = f"http://127.0.0.1:{gateway.ports['http']}"
    return {http("GET", f"{base}{path}{query}").status for path in paths for _ in range(asked)}


PROCESSES = pytest.mark.parametrize("gateway", ["2", *at_night("1")], indirect=True)


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    settings = {"MILLRACE_SIGNING__SECRET": SECRET, "MILLRACE_SERVE__WORKERS": request.param}
    with running(**settings) as found:
        yield found


@PROCESSES
def test_media_of_a_deleted_channel_stay_protected_until_they_are_deleted(gateway: Gateway) -> None:
    channel = gateway.channel(playAuth="sign")
    media = media_of(channel.id)
    stored(gateway, *media)
    paths, right = list(media.values()), f"?sign={sign(channel.id, FAR, SECRET, use=SignatureUse.PLAY)}"
    assert statuses(gateway, paths, asked=4) == {403}
    assert statuses(gateway, paths, right, asked=4) == {200}
    assert gateway.api("DELETE", f"/videostream/{channel.id}").status == 200
    assert statuses(gateway, paths, asked=8) == {403}
    # Another process may still remember for a moment that there was no deleted channel; it is never open.
    until(lambda: statuses(gateway, paths, right, asked=8) == {200}, "played with a sign")
    assert statuses(gateway, paths, asked=8) == {403}
    listed = gateway.api("GET", f"/media?channel={channel.id}").json()
    assert {m["key"] for m in listed} == {media_keys.video_key(channel.id, MS)}
    assert http("GET", listed[0]["url"]).status == 200
    assert gateway.api("DELETE", f"/media?channel={channel.id}").status == 200
    assert not [key for key in media if (gateway.data / "media" / key).exists()]
    assert gateway.api("GET", f"/media?channel={channel.id}").json() == []
    assert statuses(gateway, paths, right, asked=4) == {404}


@PROCESSES
def test_media_to_be_deleted_are_not_served(gateway: Gateway) -> None:
    channel = gateway.channel()
    media = media_of(channel.id)
    stored(gateway, *media)
    assert statuses(gateway, list(media.values())) == {200}
    assert gateway.api("DELETE", f"/videostream/{channel.id}?media=delete").status == 200
    stored(gateway, *media)  # files of an unfinished recording
    until(lambda: statuses(gateway, list(media.values()), asked=8) == {404}, "told everywhere")
    assert gateway.api("GET", "/media").json() == []
    until(lambda: not [key for key in media if (gateway.data / "media" / key).exists()], "deleted", 30)


@PROCESSES
def test_only_recordings_of_channels_are_served(gateway: Gateway) -> None:
    channel = gateway.channel()
    nobodys = media_of("payroll")
    stored(
        gateway, "payroll/2026.csv", "payroll/mp4/2026.mp4", f"{channel.id}/film.mp4", f"{channel.id}/mp4/x.mp4",
        f"{channel.id}/720p/1.ts", f"{channel.id}/vod-1.m3u8", f"{channel.id}/images/2026/1/2/me.jpg", *nobodys,
    )  # fmt: skip
    assert statuses(gateway, [
        "/payroll/vod/2026.csv", "/payroll/vod/mp4/2026.mp4", f"/{channel.id}/vod/film.mp4",
        f"/{channel.id}/vod/mp4/x.mp4", f"/{channel.id}/vod/720p/1.ts", f"/{channel.id}/vod/vod-1.m3u8",
        f"/{channel.id}/vod/images/2026/1/2/me.jpg", *list(nobodys.values())[:3],
    ]) == {404}  # fmt: skip


def test_the_protection_of_a_deleted_channel_survives_a_restart(tmp_path: Path) -> None:
    first = begin(tmp_path, "first")
    channel = first.channel(playAuth="sign", refererAllow=["good.example"])
    media = media_of(channel.id)
    stored(first, *media)
    assert first.api("DELETE", f"/videostream/{channel.id}").status == 200
    assert first.stop() == 0
    second = begin(tmp_path, "second")
    paths, right = list(media.values()), f"?sign={sign(channel.id, FAR, SECRET, use=SignatureUse.PLAY)}"
    assert statuses(second, paths) == {403}
    assert statuses(second, paths, right) == {200}
    base, foreign = f"http://127.0.0.1:{second.ports['http']}", {"Referer": "http://evil.example/"}
    assert {http("GET", base + path + right, headers=foreign).status for path in paths} == {403}
    assert second.stop() == 0


def begin(folder: Path, name: str) -> Gateway:
    """Starts a gateway over a persistent data folder."""
    (folder / name).mkdir()
    data = folder / "kept"
    (data / "ports.json").unlink(missing_ok=True)
    gateway = Gateway(folder / name, MILLRACE_DATA=str(data), MILLRACE_SIGNING__SECRET=SECRET)
    gateway.data = data
    gateway.wait_ready()
    return gateway


def test_an_edge_obeys_the_protection_of_a_deleted_channel(tmp_path: Path) -> None:
    secrets = {"MILLRACE_SIGNING__SECRET": SECRET, "MILLRACE_CLUSTER__SECRET": CLUSTER}
    with running(**secrets) as gateway:
        (tmp_path / "edge").mkdir()
        upstream = f"127.0.0.1:{gateway.ports['http']}"
        edge = Edge(tmp_path / "edge", **secrets, MILLRACE_EDGE__UPSTREAM=upstream)
        try:
            edge.wait_ready()
            kept, gone, live = gateway.channel(playAuth="sign"), gateway.channel(), gateway.channel()
            for channel in (kept, gone, live):
                stored(gateway, *media_of(channel.id))
            stored(gateway, "payroll/2026.csv", f"{live.id}/film.mp4")
            gateway.api("DELETE", f"/videostream/{kept.id}")
            gateway.api("DELETE", f"/videostream/{gone.id}?media=delete")
            stored(gateway, *media_of(gone.id))
            right = f"?sign={sign(kept.id, FAR, SECRET, use=SignatureUse.PLAY)}"

            def of(channel: Channel) -> list[str]:
                return list(media_of(channel.id).values())

            assert statuses(edge, of(live)) == {200}
            assert statuses(edge, of(kept)) == {403}
            assert statuses(edge, of(kept), right) == {200}
            assert statuses(edge, of(gone)) == {404}
            assert statuses(edge, ["/payroll/vod/2026.csv", f"/{live.id}/vod/film.mp4"]) == {404}
            gateway.api("DELETE", f"/media?channel={kept.id}")
            until(lambda: statuses(edge, of(kept), right) == {404}, "forgotten")
        finally:
            assert edge.stop() == 0, edge.log[-2000:]
