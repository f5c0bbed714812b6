"""A new ffmpeg pushes several video and audio tracks by Enhanced RTMP; players get each of them."""

import itertools
import json
import re
import struct
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from tests.support import clients
from tests.support.clients import until
from tests.support.gateway import Channel, Gateway, http
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

SIZES = ("640x360", "426x240", "256x144")
TONES = (400, 800, 1200)  # Hz of each audio track
DASH = "{urn:mpeg:dash:schema:mpd:2011}"


def push_command(address: str) -> list[str]:
    """Three sizes of one picture and three tones, with key frames each second."""
    inputs = ["-re", "-f", "lavfi", "-i", f"testsrc2=s={SIZES[0]}:r=25"]
    for tone in TONES:
        inputs += ["-f", "lavfi", "-i", f"sine={tone}"]
    scales = "[0:v]split=3[a][b][c];[b]scale=426:240[d];[c]scale=256:144[e]"
    maps = ["-map", "[a]", "-map", "[d]", "-map", "[e]", "-map", "1:a", "-map", "2:a", "-map", "3:a"]
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0", "-sc_threshold", "0"]
    rest = ["-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "flv", address]
    return [clients.new_ffmpeg(), "-loglevel", "error", *inputs, "-filter_complex", scales, *maps, *video, *rest]


gateway = shared_gateway(MILLRACE_EGRESS__ALLOW="127.0.0.0/8")


@pytest.fixture(scope="module")
def target(gateway: Gateway) -> Channel:
    """Returns the channel that gets the relay of `channel`."""
    return gateway.channel("target")


@pytest.fixture(scope="module")
def channel(gateway: Gateway, target: Channel) -> Iterator[Channel]:
    fields = {"isVideo": True, "video_time": "3", "recordTracks": "144p, FR"}
    fields |= {"isRelay": True, "relayURL": target.push, "relayTracks": "all"}
    channel = gateway.channel(audioTracks="en=English, fr=Français, de", **fields)
    with clients.Program(push_command(channel.push)):
        channel.wait_live()
        channel.wait_playable("index.m3u8", "master.m3u8", "manifest.mpd", "144p/index.m3u8", "audio2/index.m3u8")
        yield channel


def lines(channel: Channel, path: str) -> list[str]:
    reply = http("GET", channel.url(path))
    assert reply.status == 200, f"{path}: {reply.status} {reply.text}"
    return reply.text.splitlines()


def test_the_session_lists_all_tracks(channel: Channel) -> None:
    tracks = channel.session()["tracks"]
    seen = [(t["kind"], t["id"], t["rendition"], t["language"], t["name"]) for t in tracks]
    assert seen == [
        ("video", 0, "", "", ""),
        ("audio", 0, "", "en", "English"),
        ("video", 2, "144p", "", "144p"),
        ("video", 1, "240p", "", "240p"),
        ("audio", 1, "audio1", "fr", "Français"),
        ("audio", 2, "audio2", "de", "de"),
    ]
    assert [(t["width"], t["height"]) for t in tracks if t["kind"] == "video"] == [(640, 360), (256, 144), (426, 240)]


@pytest.mark.parametrize("path", ["index.m3u8", "master.m3u8"])
def test_hls_lists_every_track(channel: Channel, path: str) -> None:
    playlist = lines(channel, path)
    sizes = {m[1] for line in playlist if (m := re.search(r"RESOLUTION=([0-9x]+)", line))}
    assert sizes == set(SIZES)
    audio = [line for line in playlist if line.startswith("#EXT-X-MEDIA:TYPE=AUDIO")]
    names = [(re.search(r'NAME="([^"]*)",LANGUAGE="([^"]*)",DEFAULT=(\w+)', line) or [""]) for line in audio]
    assert [m[0] and (m[1], m[2], m[3]) for m in names] == [
        ("English", "en", "YES"),
        ("Français", "fr", "NO"),
        ("de", "de", "NO"),
    ]
    assert all('AUDIO="audio"' in line for line in playlist if line.startswith("#EXT-X-STREAM-INF"))


def test_dash_lists_every_track_with_its_language(channel: Channel) -> None:
    mpd = ET.fromstring("\n".join(lines(channel, "manifest.mpd")))
    sets = mpd.findall(f"{DASH}Period/{DASH}AdaptationSet")
    video, *audio = sets
    assert {(r.get("width"), r.get("height")) for r in video.findall(f"{DASH}Representation")} == {
        tuple(size.split("x")) for size in SIZES
    }
    assert [(s.get("lang"), s.findtext(f"{DASH}Label")) for s in audio] == [
        ("en", "English"),
        ("fr", "Français"),
        ("de", "de"),
    ]
    assert [r.get("value") for s in audio for r in s.findall(f"{DASH}Role")] == ["main", "alternate", "alternate"]


def tone(address: str) -> float:
    """The frequency of a second of its sound, in Hz."""
    command = [
        *("ffmpeg", "-v", "error", "-i", address, "-map", "0:a:0", "-t", "1"),
        *("-f", "s16le", "-ac", "1", "-ar", "48000", "-"),
    ]
    pcm = subprocess.run(command, capture_output=True, timeout=at_most(60), check=True).stdout
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    rises = sum(a < 0 <= b for a, b in itertools.pairwise(samples))
    return rises * 48_000 / len(samples)


@pytest.mark.parametrize(
    ("path", "hz"),
    [
        ("audio1/index.m3u8", 800),
        ("audio2/index.m3u8", 1200),
        ("audio-1/index.m3u8", 800),
        ("audio-2/index.m3u8", 1200),
        ("audio/index.m3u8", 400),
        ("144p/index.m3u8", 400),  # video renditions have the default sound
        ("live.flv", 400),
    ],
)
def test_each_address_has_its_own_sound(channel: Channel, path: str, hz: int) -> None:
    assert tone(channel.url(path)) == pytest.approx(hz, rel=0.03)


def shown(address: str, *more: str) -> list[dict[str, str]]:
    """The pictures of an address as ffprobe decodes them."""
    command = [
        *("ffprobe", "-v", "error", "-select_streams", "v:0", "-read_intervals", "%+2"),
        *("-show_entries", "frame=width,height,pts_time,pict_type", "-of", "json", *more, address),
    ]
    run = subprocess.run(command, capture_output=True, timeout=at_most(60), check=True, text=True)
    assert not run.stderr, run.stderr
    return list(json.loads(run.stdout)["frames"])


@pytest.mark.parametrize(("path", "height"), [("144p/index.m3u8", 144), ("240p/video/index.m3u8", 240)])
def test_each_rendition_decodes_in_its_size(channel: Channel, path: str, height: int) -> None:
    frames = shown(channel.url(path))
    assert len(frames) > 20
    assert {f["height"] for f in frames} == {height}


def test_renditions_have_equal_segments(channel: Channel) -> None:
    own, other = {}, {}

    def have_three_in_common() -> bool:
        own.update(zip(*segments(channel, "video/index.m3u8"), strict=True))
        other.update(zip(*segments(channel, "240p/video/index.m3u8"), strict=True))
        return len(own.keys() & other.keys()) >= 3

    until(have_three_in_common, "three segments of both renditions", 60)
    common = sorted(own.keys() & other.keys())
    assert [own[n] for n in common] == [other[n] for n in common]


def segments(channel: Channel, path: str) -> tuple[list[str], list[str]]:
    """The numbers of the segments, and their dates.

    The first part of a name is the second in which its packager began, which may differ between renditions.
    """
    playlist = lines(channel, path)
    dates = [line.partition(":")[2] for line in playlist if line.startswith("#EXT-X-PROGRAM-DATE-TIME")]
    numbers = [line.rpartition("-")[2] for line in playlist if line and not line.startswith("#")]
    return numbers, dates[: len(numbers)]


def test_every_file_of_a_dash_audio_track_is_served(channel: Channel) -> None:
    mpd = ET.fromstring("\n".join(lines(channel, "manifest.mpd")))
    audio = mpd.findall(f"{DASH}Period/{DASH}AdaptationSet")[-1]
    template, name = audio.find(f"{DASH}SegmentTemplate"), audio.find(f"{DASH}Representation")
    assert template is not None and name is not None
    path = str(template.get("initialization")).replace("$RepresentationID$", str(name.get("id")))
    reply = http("GET", urljoin(channel.url("manifest.mpd"), path))
    assert (reply.status, reply.headers["content-type"]) == (200, "audio/mp4")


def test_a_channel_without_hls_does_not_show_its_tracks_as_hls(gateway: Gateway) -> None:
    channel = gateway.channel(isHls=False)
    with clients.Program(push_command(channel.push)):
        channel.wait_playable("master.m3u8", "240p/video/index.m3u8")
        for path in ("index.m3u8", "240p/index.m3u8", "audio1/index.m3u8"):
            assert http("GET", channel.url(path)).status == 404, path
        reply = http("GET", channel.url("live.m3u8").replace(channel.id, f"{channel.id}@240p"))
        assert reply.status == 404


def test_a_recording_contains_the_chosen_tracks_completely(gateway: Gateway, channel: Channel) -> None:
    files = clients.until(lambda: sorted(gateway.data.glob(f"media/{channel.id}/mp4/**/*.mp4"))[1:], "two recordings")
    command = ["ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams", str(files[0])]
    streams = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["streams"]
    video = {s["height"]: s for s in streams if s["codec_type"] == "video"}
    assert {height: int(s["nb_read_frames"]) for height, s in video.items()} == {360: 75, 144: 75}
    audio = [(s["tags"]["language"], s["tags"]["handler_name"]) for s in streams if s["codec_type"] == "audio"]
    assert audio == [("eng", "English"), ("fra", "Français")]
    starts = [float(s["start_time"]) for s in streams]
    assert max(starts) - min(starts) < 0.05


def test_a_relay_sends_all_tracks_to_a_target_that_accepts_them(channel: Channel, target: Channel) -> None:
    def seen(of: Channel) -> list[tuple[str, int, str, str]]:
        return [(t["kind"], t["id"], t["rendition"], t["language"]) for t in of.session()["tracks"]]

    clients.until(lambda: seen(target) == seen(channel), "the same tracks at the target")
    target.wait_playable("audio2/index.m3u8")
    assert tone(target.url("audio2/index.m3u8")) == pytest.approx(1200, rel=0.03)


def test_the_api_and_obs_get_the_same_encoder_configuration(gateway: Gateway, channel: Channel) -> None:
    reply = gateway.api("GET", f"/videostream/{channel.id}/obs-multitrack?size=1280x720&fps=60&encoder=nvenc&tracks=2")
    assert reply.status == 200, reply.text
    canvas = {"width": 1280, "height": 720, "framerate": {"numerator": 60, "denominator": 1}}
    wanted = {
        "authentication": channel.obs_key,
        "capabilities": {"gpu": [{"vendor_id": 0x10DE}]},
        "preferences": {"canvases": [canvas], "maximum_video_tracks": 2},
    }
    answer = http("POST", channel.url("GetClientConfiguration"), body=wanted)
    assert answer.status == 200, answer.text
    assert answer.json() == reply.json()
    assert answer.json()["ingest_endpoints"] == [
        {
            "protocol": "RTMP",
            "url_template": f"{channel.obs_server}/{{stream_key}}",
            "authentication": channel.obs_key,
        }
    ]
    assert gateway.api("GET", f"/videostream/{channel.id}/obs-multitrack?size=9x9").status == 400
    assert gateway.api("GET", "/videostream/none/obs-multitrack").status == 404


@pytest.mark.parametrize(
    ("id", "body", "status"),
    [
        ("", {"authentication": "{key}0"}, 403),
        ("", {"authentication": "other?sign={sign}"}, 403),
        ("unknown", {"authentication": "unknown?sign={sign}"}, 403),
        ("", {"authentication": 5}, 400),
        ("", [], 400),
        ("", {"authentication": "{key}", "preferences": {"canvases": [{"width": 10**9}]}}, 400),
        ("", {"authentication": "x" * 70_000}, 413),
    ],
)
def test_clients_without_a_valid_key_get_no_configuration(channel: Channel, id: str, body: object, status: int) -> None:
    text = json.dumps(body).replace("{key}", channel.obs_key).replace("{sign}", channel.key)
    address = channel.url("GetClientConfiguration").replace(channel.id, id or channel.id)
    reply = http("POST", address, body=json.loads(text))
    assert reply.status == status, reply.text
    assert channel.key not in reply.text
