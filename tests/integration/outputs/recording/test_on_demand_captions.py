"""Captions of on-demand sessions and of viewers who go back: their texts and times are those of the pictures."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tests.support.at_night import at_night
from tests.support.caption_judges import ffmpeg_cues
from tests.support.caption_writer import popped_on, with_pairs
from tests.support.clients import new_ffmpeg, push, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import VIDEO_ONLY, Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.webvtt_times import cues

FILM = Film("on-demand-captions", seconds=8, audio=None, gop=30)
PICTURE = 1 / 30
TEXTS = [f"TEXT {n}" for n in range(5)]

gateway = shared_gateway("ffmpeg", films=[VIDEO_ONLY, FILM], MILLRACE_STREAM__LINGER="1")


@pytest.fixture(scope="module")
def film() -> Path:
    pairs = {n * 45 + at: pair for n, text in enumerate(TEXTS) for at, pair in enumerate(popped_on(1, text))}
    return with_pairs(FILM, pairs)


def ended(gateway: Gateway, channel: Channel) -> None:
    """Waits until the session is stored."""
    until(lambda: channel.session()["state"] == "idle", "the end")
    unfinished = gateway.data / "media" / ".unfinished" / "ondemand"
    until(lambda: not list(unfinished.glob(f"{channel.id}~*")), "the session is stored")


def say(gateway: Gateway, channel: Channel, text: str, language: str) -> None:
    answer = gateway.api("POST", f"/videostream/{channel.id}/captions", {"text": text, "language": language})
    assert answer.status == 202, answer.text


def session_of(gateway: Gateway, channel: Channel) -> str:
    [session] = gateway.api("GET", f"/videostream/{channel.id}/recordings").json()
    return str(session["key"]).partition("/")[2]


@pytest.fixture(scope="module")
def stage(gateway: Gateway, film: Path) -> Iterator[Channel]:
    """A channel with one whole session: captions in its pictures, and a line in each of two languages."""
    channel = gateway.channel(isOnDemand=True, ondemand_time="2")
    with push(film, channel.push) as pushing:
        channel.wait_live()
        say(gateway, channel, "a <line> & more", "en")
        say(gateway, channel, "eine Zeile", "de")
        pushing.wait(40)
    ended(gateway, channel)
    yield channel


def names(channel: Channel, playlist: str) -> list[str]:
    answer = http("GET", channel.url(f"vod/{playlist}"))
    assert answer.status == 200, answer.text
    return [line for line in answer.text.splitlines() if line and not line.startswith("#")]


def tracks(channel: Channel, session: str) -> dict[str, str]:
    """The subtitle playlists of a session, by the label of their track."""
    text = http("GET", channel.url(f"vod/{session.replace('.m3u8', '.master.m3u8')}")).text
    return dict(re.findall(r'TYPE=SUBTITLES.*NAME="([^"]*)".*URI="([^"]*)"', text))


def joined(channel: Channel, segments: list[str], out: Path) -> Path:
    out.write_bytes(b"".join(http("GET", channel.url(segment)).body for segment in segments))
    return out


def compare(film: Path, files: list[str]) -> None:
    """Compares the starts in WebVTT files with those that ffmpeg decodes from the pictures of the segments."""
    with av.open(str(film)) as file:
        first = float(file.streams.video[0].start_time * file.streams.video[0].time_base)
    theirs = {text: time for time, text in ffmpeg_cues(film)}
    ours: dict[str, float] = {}
    for text, start in (cue for file in files for cue in cues(file)):
        ours[text] = min(start - first, ours.get(text, start))
    assert theirs.keys() == ours.keys() == set(TEXTS)
    assert {text: (ours[text], theirs[text]) for text in ours if abs(ours[text] - theirs[text]) > PICTURE} == {}


def test_the_multivariant_playlist_lists_the_session_and_its_tracks(gateway: Gateway, stage: Channel) -> None:
    session = session_of(gateway, stage)
    multivariant = session.replace(".m3u8", ".master.m3u8")
    text = http("GET", stage.url(f"vod/{multivariant}")).text
    assert names(stage, multivariant) == [session]
    assert 'CODECS="avc1.' in text and "RESOLUTION=" in text and 'SUBTITLES="subtitles"' in text
    assert tracks(stage, session).keys() == {"CC1", "en", "de"}
    segments = names(stage, session)
    for playlist in tracks(stage, session).values():
        listed = names(stage, playlist)
        assert [re.sub(r"\.[a-z0-9-]+\.vtt$", ".ts", name) for name in listed] == segments
        for name in listed:
            answer = http("GET", stage.url(f"vod/{name}"))
            assert answer.status == 200 and answer.text.startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:")
            assert answer.headers["content-type"].startswith("text/vtt")
    assert "SUBTITLES" not in http("GET", stage.url(f"vod/{session}")).text


def test_times_are_those_of_the_pictures(gateway: Gateway, stage: Channel, tmp_path: Path) -> None:
    session = session_of(gateway, stage)
    whole = joined(stage, [f"vod/{name}" for name in names(stage, session)], tmp_path / "session.ts")
    playlist = tracks(stage, session)["CC1"]
    compare(whole, [http("GET", stage.url(f"vod/{name}")).text for name in names(stage, playlist)])


def test_ffmpeg_reads_the_texts(gateway: Gateway, stage: Channel) -> None:
    url = stage.url(f"vod/{session_of(gateway, stage).replace('.m3u8', '.master.m3u8')}")
    # It does not apply X-TIMESTAMP-MAP, so it leaves out what is before the first picture's MPEG-2 time, 0.7 s.
    command = [new_ffmpeg(), "-nostdin", "-v", "error", "-strict", "experimental", "-i", url]
    read = ""
    for number in range(3):
        each = [*command, "-map", f"0:s:{number}", "-f", "webvtt", "-"]
        read += subprocess.run(each, capture_output=True, text=True, check=True, timeout=at_most(60)).stdout
    assert [text for text in [*TEXTS[1:], "a <line> & more", "eine Zeile"] if text not in read] == []


def test_only_the_session_is_listed_and_nothing_is_left_of_it(gateway: Gateway, film: Path) -> None:
    channel = gateway.channel(isOnDemand=True, ondemand_time="2")
    media = gateway.data / "media" / channel.id
    with push(film, channel.push):
        channel.wait_live()
        until(lambda: list(media.rglob("*.cc1.vtt")), "captions are stored", 30)
    ended(gateway, channel)
    session = session_of(gateway, channel)
    stored = {path.relative_to(media).as_posix() for path in media.rglob("*") if path.is_file()}
    assert session.replace(".m3u8", ".master.m3u8") in stored
    assert any(name.endswith(".cc1.vtt") for name in stored)
    page = http("GET", channel.url(f"vod/{session}/"))
    assert page.status == 200 and session.replace(".m3u8", ".master.m3u8") in page.text
    path = f"/videostream/{channel.id}/recordings/{session}?final=true"
    assert gateway.api("DELETE", path).status == 200
    assert [path for path in media.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "fields", [{"isOnDemand": True, "ondemand_time": "60"}, *at_night({"rewind": 1})], ids=["open", "rewind"]
)
def test_viewers_who_go_back_get_them(gateway: Gateway, film: Path, tmp_path: Path, fields: dict[str, object]) -> None:
    """In memory, in complete pieces, and (with long pieces) in the open piece of the recording."""
    channel = gateway.channel(hls_time="1", hls_list_size="3", **fields)
    with push(film, channel.push) as pushing:
        channel.wait_live()
        pushing.wait(40)
        wanted, query = "captions/cc1/live.m3u8", "?rewind=600"
        for name in ("master.m3u8", "index.m3u8"):
            text = http("GET", channel.url(name + query)).text
            assert f'URI="{wanted}{query}"' in text and f"live.m3u8{query}" in text.splitlines()
        segments = listed(channel, "live.m3u8" + query)
        captions = listed(channel, wanted + query)
        assert [name.replace(".vtt", ".ts") for name in captions] == segments and len(segments) >= 5
        whole = joined(channel, segments, tmp_path / "rewind.ts")
        compare(whole, [http("GET", channel.url(f"captions/cc1/{name}")).text for name in captions])


def test_viewers_go_back_to_an_earlier_publish(gateway: Gateway, film: Path, tmp_path: Path) -> None:
    channel = gateway.channel(hls_time="1", hls_list_size="3", rewind=1)
    with push(film, channel.push) as pushing:
        channel.wait_live()
        pushing.wait(40)
    ended(gateway, channel)
    with push(film, channel.push):
        query = "live.m3u8?rewind=600"
        until(lambda: "stored-" in http("GET", channel.url(f"captions/cc1/{query}")).text, "both are listed", 30)
        segments = [name for name in listed(channel, query) if name.startswith("vod/")]
        captions = [name for name in listed(channel, f"captions/cc1/{query}") if name.startswith("stored-")]
        assert [name.replace("stored-", "vod/720p/").replace(".vtt", ".ts") for name in captions] == segments != []
        whole = joined(channel, segments, tmp_path / "earlier.ts")
        compare(whole, [http("GET", channel.url(f"captions/cc1/{name}")).text for name in captions])


def listed(channel: Channel, playlist: str) -> list[str]:
    text = http("GET", channel.url(playlist)).text
    return [line for line in text.splitlines() if line and not line.startswith("#")]
