"""SRT with ffmpeg, srt-live-transmit, GStreamer and VLC: the frames that come out are the frames that went in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.at_night import at_night
from tests.support.clients import (
    Program,
    checksums,
    found,
    new_ffmpeg,
    probe,
    pull,
    recorded,
    take_of,
    until,
    vlc,
    whole_frames,
)
from tests.support.gateway import Channel, Gateway
from tests.support.media import (
    BFRAMES,
    PLAIN,
    Film,
    Frame,
    excerpt,
    framehash_command,
    judge,
    made_once,
    parse_framehash,
)
from tests.support.srt import call, gst_srt_play, gst_srt_push, srt_push, transmit_play, transmit_push
from tests.support.tools import need

WANTED = 100  # pictures, a little over three seconds
SHORT = Film("srt-6", seconds=6)


@pytest.fixture(scope="module")
def pushed(gateway: Gateway) -> Iterator[Channel]:
    """A channel to which ffmpeg pushes a film over SRT."""
    need("ffmpeg")
    PLAIN.hashes()
    channel = gateway.channel("srt")
    with srt_push(PLAIN, channel.srt_push, loop=True):
        channel.wait_live()
        channel.wait_playable("live.m3u8")
        yield channel


def pictures_of(path: Path) -> list[Frame]:
    """The pictures of a file, whatever its sound is."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v", "-pix_fmt", "yuv420p"]
    with Program([*command, "-fps_mode", "passthrough", "-f", "framehash", "-hash", "md5", "-"]) as program:
        return parse_framehash(program.wait()).video


def by_ffmpeg(channel: Channel) -> Program:
    return srt_push(PLAIN, channel.srt_push)


def by_new_ffmpeg(channel: Channel) -> Program:
    return srt_push(PLAIN, channel.srt_push, ffmpeg=new_ffmpeg())


def by_transmit(channel: Channel) -> Program:
    need("srt-live-transmit")
    return transmit_push(PLAIN, channel.srt_push)


def by_gstreamer(channel: Channel) -> Program:
    need("gst-launch-1.0")
    return gst_srt_push(PLAIN, channel.srt_server, f"publish:{channel.id}?sign={channel.key}")


@pytest.mark.parametrize("push", [by_gstreamer, *at_night(by_ffmpeg, by_new_ffmpeg, by_transmit)])
def test_every_encoder_publishes_the_frames_to_flv_and_srt(
    push: Callable[[Channel], Program], gateway: Gateway
) -> None:
    channel = gateway.channel("srt-push")
    PLAIN.hashes()
    with push(channel) as publisher:
        channel.wait_live()
        with pull(channel.url("live.flv"), seconds=3) as flv, pull(channel.srt, seconds=3) as srt:
            judge(take_of(flv), PLAIN)
            judge(take_of(srt), PLAIN)
        assert publisher.running, publisher.errors[-600:]


@pytest.mark.parametrize("film", [BFRAMES, *at_night(PLAIN)], ids=lambda film: film.name)
def test_a_push_comes_out_of_every_output_with_its_frames(film: Film, gateway: Gateway) -> None:
    channel = gateway.channel("srt-all")
    film.hashes()
    with srt_push(film, channel.srt_push), ExitStack() as stack:
        channel.wait_live()
        channel.wait_playable("live.m3u8", "master.m3u8")
        urls = (
            channel.url("live.flv"),
            channel.url("live.m3u8"),
            channel.url("master.m3u8"),
            channel.rtmp,
            channel.srt,
        )
        pulls = [stack.enter_context(pull(url, seconds=3)) for url in urls]
        for program in pulls:
            judge(take_of(program), film)


def test_a_push_is_recorded_with_all_its_frames(gateway: Gateway) -> None:
    """The caller waits until all has come. ffmpeg closes without sending its last sound."""
    channel = gateway.channel("srt-recorded", isVideo=True, isOnDemand=True, video_time="60", ondemand_time="60")
    film = made("recorded", "-i", str(SHORT.path()), "-c", "copy")
    source = SHORT.hashes()
    with call(gateway.ports["srt"], f"publish:{channel.id}?sign={channel.key}") as publisher:
        publisher.play(film.read_bytes(), SHORT.seconds)
        publisher.run(0.5)
    folder = gateway.data / "media" / channel.id
    until(lambda: found(folder, "*.mp4") and not found(folder, "*.fmp4"), "the recording is finished", 30)
    (movie,) = found(folder, "*.mp4")
    with Program(framehash_command(movie)) as program:
        take = take_of(program)
    assert [frame.digest for frame in take.video] == [frame.digest for frame in source.video]
    assert [frame.digest for frame in take.audio] == [frame.digest for frame in source.audio]


@pytest.mark.nightly
def test_the_first_player_begins_with_a_key_frame(gateway: Gateway) -> None:
    channel = gateway.channel("srt-first", isFlv=False, isHls=False, isCMAF=False)
    PLAIN.hashes()
    with srt_push(PLAIN, channel.srt_push):
        channel.wait_live()
        with pull(channel.srt, seconds=2) as player:
            take = take_of(player)
            assert not player.errors, "the first pictures can be decoded"
    judge(take, PLAIN, least=1)
    digests = [frame.digest for frame in PLAIN.hashes().video]
    assert digests.index(take.video[0].digest) % PLAIN.gop == 0


@pytest.mark.nightly
def test_srt_live_transmit_plays_every_frame(pushed: Channel, tmp_path: Path) -> None:
    need("srt-live-transmit")
    out = tmp_path / "o.ts"
    with transmit_play(pushed.srt, out) as player:
        until(lambda: out.exists() and out.stat().st_size > 400_000, f"it plays: {player.errors[-400:]}", 40)
    take = whole_frames(out)
    excerpt([f.digest for f in take.video], _looped([f.digest for f in PLAIN.hashes().video]), least=WANTED)


def test_srtsrc_plays_every_picture(pushed: Channel) -> None:
    need("gst-launch-1.0")
    with gst_srt_play(pushed.srt_server, f"read:{pushed.id}") as player:
        until(lambda: len(checksums(player.output)) > WANTED, f"GStreamer shows pictures: {player.errors[-400:]}", 40)
        seen = checksums(player.stop())
    excerpt([f.digest for f in seen], _looped([f.digest for f in PLAIN.hashes().video]), least=WANTED)


def test_vlc_plays_every_frame(pushed: Channel) -> None:
    need("cvlc", "runuser")
    # By default, VLC drops what is 0.1 s late. On a busy machine it may not run for so long.
    with vlc(f"{pushed.srt}&latency=2000") as player:
        take = recorded(player, 4)
    excerpt([f.digest for f in take.video], _looped([f.digest for f in PLAIN.hashes().video]), least=WANTED)


def _looped(digests: list[str]) -> list[str]:
    return digests * 2


# ---- codecs ----


def made(name: str, *arguments: str) -> Path:
    """A transport stream that ffmpeg makes, once per run."""

    return made_once("ts", ["ffmpeg", *arguments, "-f", "mpegts"])


PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30")
NOISE = ("-f", "lavfi", "-i", "anoisesrc=amplitude=0.2:sample_rate=48000:seed=7")


def send(path: Path, url: str, ffmpeg: str = "ffmpeg") -> Program:
    """ffmpeg that publishes a transport stream in real time, again and again."""
    command = [ffmpeg, "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(path)]
    return Program([*command, "-map", "0", "-c", "copy", "-f", "mpegts", url])


def encoded(*sounds: tuple[str, str]) -> Path:
    """H.264 with sounds: of each its codec and its language."""
    command = [*PICTURE, *NOISE, "-t", "8", "-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30"]
    for index, (codec, language) in enumerate(sounds):
        command += ["-map", "1:a", f"-c:a:{index}", codec, f"-metadata:s:a:{index}", f"language={language}"]
    return made("sounds", *command, "-pix_fmt", "yuv420p", "-strict", "-2", "-b:a", "128k", "-ac", "2")


@pytest.mark.parametrize("codec", ["mp2", "ac3"])
def test_sound_of_broadcasting_becomes_aac(codec: str, gateway: Gateway) -> None:
    channel = gateway.channel(f"srt-{codec}")
    path = encoded((codec, "eng"))
    with send(path, channel.srt_push):
        channel.wait_live()
        with pull(channel.url("live.flv"), seconds=3) as flv:
            take = take_of(flv)
    assert len(take.audio) > 75, "AAC, which ffmpeg's copy without ADTS proves"
    pictures = [frame.digest for frame in pictures_of(path)]
    excerpt([frame.digest for frame in take.video], pictures * 2, least=60)


def test_several_sounds_are_additional_tracks_with_their_languages(gateway: Gateway) -> None:
    channel = gateway.channel("srt-tracks")
    with send(encoded(("aac", "eng"), ("aac", "deu"), ("aac", "fra")), channel.srt_push):
        channel.wait_live()
        until(lambda: "deu" in str(channel.session()) and "fra" in str(channel.session()), "the languages are told", 20)
        channel.wait_playable("master.m3u8")
        with pull(channel.srt, seconds=3) as player:
            assert len(take_of(player).audio) > 80


def test_hevc_goes_through(gateway: Gateway) -> None:
    film = Film("srt-hevc", video="libx265", container="mp4", ffmpeg=new_ffmpeg(), seconds=20)
    film.hashes()
    channel = gateway.channel("srt-hevc")
    with srt_push(film, channel.srt_push, ffmpeg=film.ffmpeg):
        channel.wait_live()
        channel.wait_playable("master.m3u8")
        urls = (channel.url("live.flv"), channel.url("master.m3u8"), channel.srt)
        with ExitStack() as stack:
            for program in [stack.enter_context(pull(url, seconds=3, ffmpeg=film.ffmpeg)) for url in urls]:
                judge(take_of(program), film)


def test_opus_in_a_transport_stream_is_published(gateway: Gateway) -> None:
    channel = gateway.channel("srt-opus")
    with send(encoded(("libopus", "eng")), channel.srt_push):
        channel.wait_live()
        channel.wait_playable("master.m3u8")
        streams = probe(channel.url("master.m3u8"))
    assert streams["video"]["codec_name"] == "h264"
    assert streams["audio"]["codec_name"] == "opus"
