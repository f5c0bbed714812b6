"""The addresses of SRT in the API work as they are in Debian's ffmpeg: to push, to push a backup, and to play."""

from __future__ import annotations

from tests.support.clients import Program, push, until
from tests.support.gateway import Channel, http, running
from tests.support.media import Film, analysis
from tests.support.tools import need

FILM = Film("srt-addresses", seconds=12)
SECRET = "correct-horse-battery"


def push_srt(url: str) -> Program:
    source = ("-re", "-stream_loop", "-1", "-i", str(FILM.path()))
    return Program(["ffmpeg", "-v", "error", *source, "-c", "copy", "-f", "mpegts", url])


def play_srt(url: str) -> Program:
    command = ["ffmpeg", "-v", "error", *analysis(url), "-i", url, "-frames:v", "25", "-f", "null"]
    return Program([*command, "-progress", "pipe:1", "-"])


def on_air(channel: Channel) -> str:
    inputs = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
    return next((one["name"] for one in inputs if one["state"] == "on air"), "")


def test_ffmpeg_pushes_and_plays_by_the_addresses_with_a_passphrase() -> None:
    need("ffmpeg")
    with running(MILLRACE_SRT__PASSPHRASE=SECRET) as gateway:
        channel = gateway.channel(playAuth="sign", srtPassphrase="of-the-channel/1")
        urls = channel.item["pushUrls"]
        assert f":{gateway.ports['srt']}?" in urls["srt"]
        with push_srt(urls["srt"]):
            channel.wait_live()
            assert channel.session()["publisher"]["protocol"] == "srt"
            with play_srt(channel.item["playUrls"]["srt"]) as player:
                assert "frame=25" in player.wait()
            with play_srt(channel.item["playUrls"]["srt"].partition("&")[0]) as player:
                until(lambda: not player.running, "a player without the passphrase ends")
            sign = channel.item["playUrls"]["flv"].partition("?")[2]
            status = http("GET", f"{channel.url('status.json')}?{sign}").text + gateway.log
            assert '"live"' in status
            assert SECRET not in status and "of-the-channel/1" not in status
        other = gateway.channel()
        assert other.item["pushUrls"]["srt"].endswith(f"&passphrase={SECRET}")


def test_ffmpeg_pushes_and_plays_by_any_address_of_the_machine() -> None:
    """libsrt drops answers that come from another address than the one that it has called."""
    need("ffmpeg")
    with running(MILLRACE_SRT__HOST="0.0.0.0") as gateway:
        channel = gateway.channel()
        with push_srt(channel.item["pushUrls"]["srt"].replace("127.0.0.1", "127.0.0.2")):
            channel.wait_live()
            with play_srt(channel.item["playUrls"]["srt"].replace("127.0.0.1", "127.0.0.3")) as player:
                assert "frame=25" in player.wait()


def test_ffmpeg_pushes_a_backup_by_its_address() -> None:
    need("ffmpeg")
    with running() as gateway:
        inputs = [{"name": "main", "kind": "push"}, {"name": "van", "kind": "backup"}]
        channel = gateway.channel(inputs=inputs)
        listed = gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
        main, van = (one["pushUrls"] for one in listed)
        assert main == channel.item["pushUrls"]
        with push_srt(van["srt"]):
            until(lambda: on_air(channel) == "van", "the backup is on air", 20)
            with push(FILM, main["rtmp"]):
                until(lambda: on_air(channel) == "main", "the push is on air", 30)
