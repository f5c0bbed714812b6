"""Media that no player can use, by every protocol: the session, the events and the refusals name the cause.

All pushes of a kind begin together, because most sentences come after some seconds. Bodies and transport streams begin
with the first test, so that the other ones need not wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway.protocols.srt.send_buffer import split
from tests.support.clients import Program, until
from tests.support.gateway import Channel, Gateway
from tests.support.media import made_once
from tests.support.pushing import page
from tests.support.rtmp import AAC_HEADER, AUDIO, AVC_HEADER, VIDEO, connected, picture, sound
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import call
from tests.support.time_outs import at_most
from tests.support.webrtc import Client
from tests.support.whip_client import ask, offer
from tests.unit.formats.ts.test_program_reader import FILLING, data_pes, pat, pmt, section_packet

WITHIN = 14.0  # seconds; contract: a sentence within 12 s. The machine may be busy
FIRST_MEDIA = 5  # seconds, so that refusals come sooner
PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x96:r=10")
TONE = ("-f", "lavfi", "-i", "sine=f=440:r=48000")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10")
PLAIN = (*H264, "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac")
DTS = ("-c:a", "dca", "-strict", "-2", "-ac", "2")

# name: protocol, arguments of ffmpeg, code of the fault (or "refused"), words.
PUSHES: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "H.263 and AAC": (
        "rtmp", (*PICTURE, *TONE, "-c:v", "flv1", *AAC), "stream_left_out",
        "The encoder sends Sorenson H.263: choose H.264 or HEVC.",
    ),
    "Screen Video alone": (
        "rtmp", (*PICTURE, "-c:v", "flashsv", "-pix_fmt", "bgr24"), "refused",
        "The encoder sends Screen Video: choose H.264 or HEVC.",
    ),
    "4:2:2 of 10 bits": (
        "rtmp", (*PICTURE, *TONE, *H264, "-pix_fmt", "yuv422p10le", *AAC), "pixel_format",
        "The pictures have 4:2:2 and 10 bits, which most browsers and phones do not play: choose 4:2:0 and 8 bits.",
    ),
    "MPEG-2 and AAC": (
        "srt", (*PICTURE, *TONE, "-c:v", "mpeg2video", "-r", "25", *AAC), "stream_left_out",
        "The encoder sends MPEG-2 video: choose H.264 or HEVC.",
    ),
    "MPEG-4 part 2 and DTS": (
        "srt", (*PICTURE, *TONE, "-c:v", "mpeg4", *DTS), "refused",
        "The encoder sends MPEG-4 part 2: choose H.264 or HEVC. The encoder sends DTS: choose AAC.",
    ),
    "H.264 and DTS": (
        "srt", (*PICTURE, *TONE, *PLAIN, *DTS), "stream_left_out", "The encoder sends DTS: choose AAC.",
    ),
}  # fmt: skip
# name: protocol, arguments of ffmpeg for sound that becomes AAC.
SOUNDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Speex": ("rtmp", ("-c:a", "libspeex", "-ar", "16000", "-ac", "1")),
    "Nellymoser": ("rtmp", ("-c:a", "nellymoser", "-ar", "22050", "-ac", "1")),
    "ADPCM": ("rtmp", ("-c:a", "adpcm_swf", "-ar", "22050", "-ac", "2")),
    "G.711 A-law": ("rtmp", ("-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1")),
    "G.711 mu-law": ("rtmp", ("-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1")),
    "PCM": ("rtmp", ("-c:a", "pcm_s16le", "-ar", "44100", "-ac", "2")),
    "SMPTE 302M": ("srt", ("-c:a", "s302m", "-strict", "-2", "-ac", "2")),
}

# A busy machine delays sound, and silence replaces it.
NO_SILENCE = "silenceremove=start_periods=1:stop_periods=-1:start_threshold=-50dB:stop_threshold=-50dB"

gateway = shared_gateway("ffmpeg", MILLRACE_LIMITS__FIRST_MEDIA=str(FIRST_MEDIA), MILLRACE_STREAM__LINGER="60")


@pytest.fixture(scope="module", autouse=True)
def begun(bodies: dict[str, Channel], transports: dict[str, Channel], lossy: Channel) -> None:
    """Begins these pushes with the first test."""


@contextlib.contextmanager
def pushing(gateway: Gateway, pushes: dict[str, tuple[str, tuple[str, ...]]]) -> Iterator[dict[str, Channel]]:
    """Channels by name, into which ffmpeg pushes. pushes: protocol and arguments by name."""
    with contextlib.ExitStack() as stack:
        channels = {}
        for name, (protocol, how) in pushes.items():
            channel = channels[name] = gateway.channel(videoname=name)
            target = ("flv", channel.push) if protocol == "rtmp" else ("mpegts", channel.srt_push)
            stack.enter_context(Program(["ffmpeg", "-nostdin", "-v", "error", "-re", *how, "-f", *target]))
        yield channels


@pytest.fixture(scope="module")
def pushed(gateway: Gateway) -> Iterator[dict[str, Channel]]:
    with pushing(gateway, {name: row[:2] for name, row in PUSHES.items()}) as channels:
        yield channels


def findings(channel: Channel) -> list[tuple[str, str]]:
    return [(finding["code"], finding["text"]) for finding in channel.session()["health"]]


def refusals(channel: Channel) -> list[tuple[str, str]]:
    return [(refusal["reason"], refusal.get("text", "")) for refusal in channel.session()["refusals"]]


def events(channel: Channel, kind: str) -> list[dict[str, Any]]:
    reply = channel.gateway.api("GET", f"/events?channel={channel.id}&type={kind}&limit=50")
    assert reply.status == 200, reply.text
    return [event["data"] for event in reply.json()]


@pytest.mark.parametrize("name", PUSHES)
def test_the_session_and_the_events_name_the_cause(pushed: dict[str, Channel], name: str) -> None:
    channel, (_, _, code, text) = pushed[name], PUSHES[name]
    if code == "refused":
        until(lambda: ("unusable", text) in refusals(channel), f"{name}: refused", WITHIN)
        told = until(lambda: events(channel, "publish.refused"), f"{name}: an event", WITHIN)
        assert told[-1].items() >= {"reason": "unusable", "text": text}.items()
    else:
        until(lambda: (code, text) in findings(channel), f"{name}: found", WITHIN)
        told = until(lambda: [e for e in events(channel, "stream.health") if e["code"] == code], "an event", WITHIN)
        assert (told[-1]["state"], told[-1]["text"]) == ("begun", text)
        assert "video_missing" not in [found for found, _ in findings(channel)], "its advice would be wrong"


@pytest.fixture(scope="module")
def sounding(gateway: Gateway) -> Iterator[dict[str, Channel]]:
    with pushing(gateway, {n: (p, (*PICTURE, *TONE, *PLAIN, *how)) for n, (p, how) in SOUNDS.items()}) as channels:
        yield channels


@pytest.fixture(scope="module")
def heard(sounding: dict[str, Channel]) -> Iterator[dict[str, Program]]:
    """By name, a player that measures the sound. All play at the same time."""
    with contextlib.ExitStack() as stack:
        players = {}
        for name, channel in sounding.items():
            until(lambda channel=channel: channel.session()["tracks"], f"{name}: tracks")  # type: ignore[misc]
            measure = ["ffmpeg", "-nostdin", "-hide_banner", "-t", "2", "-i", channel.url("live.flv"), "-vn", "-af"]
            players[name] = stack.enter_context(Program([*measure, f"{NO_SILENCE},astats", "-f", "null", "-"]))
        yield players


@pytest.mark.parametrize("name", SOUNDS)
def test_old_sound_becomes_aac_of_the_same_pitch(
    sounding: dict[str, Channel], heard: dict[str, Program], name: str
) -> None:
    channel, player = sounding[name], heard[name]
    assert [track["codec"] for track in channel.session()["tracks"]] == ["h264", "aac"]
    player.wait(30)
    assert player.process.returncode == 0, player.errors
    rate = next(line.split(": ")[1] for line in player.errors.splitlines() if "Zero crossings rate" in line)
    assert float(rate) * 48_000 / 2 == pytest.approx(440, rel=0.1)
    assert "stream_left_out" not in [code for code, _ in findings(channel)]


# ---- bytes that no ffmpeg would send ----

GARBAGE = b"\x27\x01\0\0\0" + bytes(range(1, 200))
NO_LENGTHS = b"\x17\x01\0\0\0" + bytes(range(1, 200))
Body = tuple[int, bytes]


def good(n: int) -> list[Body]:
    return [(VIDEO, picture(n, n % 10 == 0)), (AUDIO, sound(n))]


# name: the bodies before all others, those of each picture, the code of the fault (or "refused"), words.
BODIES: dict[str, tuple[list[Body], Callable[[int], list[Body]], str, str]] = {
    "encrypted pictures": (
        [(VIDEO, AVC_HEADER), (AUDIO, AAC_HEADER)], lambda n: [(VIDEO, GARBAGE), (AUDIO, sound(n))],
        "pictures_unreadable", "damaged, encrypted, or of another codec",
    ),
    "encrypted pictures alone": (
        [(VIDEO, AVC_HEADER)], lambda n: [(VIDEO, NO_LENGTHS)], "refused", "damaged, encrypted, or of another codec",
    ),
    "no sequence header": (
        [(AUDIO, AAC_HEADER)], lambda n: [(VIDEO, picture(n, n % 10 == 0)), (AUDIO, sound(n))],
        "pictures_unreadable", "parameter sets (the sequence header) did not come",
    ),
    "no sequence header and no sound": (
        [], lambda n: [(VIDEO, picture(n, n % 10 == 0))], "refused", "the sequence header",
    ),
    "no sequence header of the sound": (
        [(VIDEO, AVC_HEADER)], good, "stream_left_out",
        "The encoder sends AAC without its sequence header: connect it again.",
    ),
    "no key frame": (
        [(VIDEO, AVC_HEADER), (AUDIO, AAC_HEADER)], lambda n: [(VIDEO, picture(n)), (AUDIO, sound(n))],
        "pictures_unreadable", "no key frame came",
    ),
    "an unreadable record": (
        [(VIDEO, b"\x17\0\0\0\0\x01\x64\0\x1f\xff\xe1\xff\xff\x67"), (AUDIO, AAC_HEADER)], good,
        "pictures_unreadable", "parameter sets cannot be read",
    ),
    "a record without parameter sets": (
        [(VIDEO, b"\x17\0\0\0\0\x01\x42\xc0\x1e\xff\xe0\0"), (AUDIO, AAC_HEADER)], good,
        "pictures_unreadable", "parameter sets (the sequence header) did not come",
    ),
    "MPEG-TS in RTMP": (
        [], lambda n: [(VIDEO, b"\x47\x41\0\x10" + bytes(184))], "refused", "packets of MPEG-TS",
    ),
    "VP6": (
        [(AUDIO, AAC_HEADER)], lambda n: [(VIDEO, b"\x24" + bytes(99)), (AUDIO, sound(n))], "stream_left_out",
        "The encoder sends VP6: choose H.264 or HEVC.",
    ),
    "H.266": (
        [(AUDIO, AAC_HEADER)], lambda n: [(VIDEO, b"\x91vvc1" + bytes(99)), (AUDIO, sound(n))], "stream_left_out",
        "The encoder sends FourCC 'vvc1': choose H.264 or HEVC.",
    ),
    "nothing at all": ([], lambda n: [], "refused", "No media in time."),
}  # fmt: skip


async def send_bodies(channel: Channel, name: str, stop: asyncio.Event) -> None:
    first, each, *_ = BODIES[name]
    with contextlib.suppress(ConnectionError, EOFError):
        async with connected(channel.gateway.ports["rtmp"]) as peer:
            await peer.publish(channel.obs_key)
            for kind, body in first:
                await peer.body(kind, body)
            for n in range(100_000):
                for kind, body in each(n):
                    await peer.body(kind, body, n * 50)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await stop.wait()
                        return


async def send_all(channels: dict[str, Channel], stop: asyncio.Event) -> None:
    await asyncio.gather(*(send_bodies(channel, name, stop) for name, channel in channels.items()))


@contextlib.contextmanager
def in_thread(run: Callable[[asyncio.Event], Any]) -> Iterator[None]:
    """Runs a coroutine in an event loop of its own until the end of the block."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run(stop)))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def bodies(gateway: Gateway) -> Iterator[dict[str, Channel]]:
    channels = {name: gateway.channel(videoname=name) for name in BODIES}
    with in_thread(lambda stop: send_all(channels, stop)):
        yield channels


async def test_a_correct_picture_clears_the_fault(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        await peer.headers()

        async def until_found(bad: bool, wanted: bool) -> None:
            for n in range(600):
                await peer.body(VIDEO, GARBAGE if bad else picture(n, n % 10 == 0), 50 * n)
                await peer.body(AUDIO, sound(n), 50 * n)
                health = await asyncio.to_thread(findings, channel)
                if any(code == "pictures_unreadable" for code, _ in health) is wanted and (n > 20):
                    return
                await asyncio.sleep(0.05)
            pytest.fail(f"pictures_unreadable is not {wanted}")

        await until_found(True, True)
        await until_found(False, False)


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_cannot_be_used_are_explained(bodies: dict[str, Channel], name: str) -> None:
    channel, (_, _, code, words) = bodies[name], BODIES[name]
    if code == "refused":
        found = until(lambda: refusals(channel), f"{name}: refused", WITHIN)
        assert found[-1][0] == "unusable"
    else:
        found = until(lambda: [f for f in findings(channel) if f[0] == code], f"{name}: found", WITHIN)
    assert words in found[-1][1]


def test_a_push_that_ends_by_itself_before_its_refusal_is_explained(gateway: Gateway) -> None:
    channel = gateway.channel()
    how = ("-nostdin", "-v", "error", *PICTURE, "-c:v", "flv1", "-t", "1", "-f", "flv", channel.push)
    subprocess.run(["ffmpeg", *how], check=True, timeout=at_most(30))
    until(lambda: ("unusable", "The encoder sends Sorenson H.263: choose H.264 or HEVC.") in refusals(channel), "told")


# ---- transport streams ----

VIDEO_PES = data_pes(0x100, b"\0\0\0\x01\x09\xf0" + bytes(100), 900, 0xE0)
SCRAMBLED = VIDEO_PES[:3] + bytes((VIDEO_PES[3] | 0x80,)) + VIDEO_PES[4:]
TABLES = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x1B, 0x100, b"")]))
TRANSPORTS = {
    "FLV": (b"FLV\x01\x05\0\0\0\x09" + bytes(1000), "the data are FLV instead of MPEG-TS"),
    "random bytes": (bytes(range(1, 71)) * 20, "of an unknown kind instead of MPEG-TS"),
    "no PAT": (VIDEO_PES + FILLING, "no table of programs (PAT)"),
    "no PMT": (section_packet(0, pat({1: 0x20})) + FILLING, "no map of a program (PMT)"),
    "no pictures": (TABLES + FILLING, "they are announced, but none came"),
    "no key frame": (TABLES + VIDEO_PES * 2 + FILLING, "no key frame with its parameter sets came"),
    "scrambled": (TABLES + SCRAMBLED + FILLING, "scrambled video: send it without scrambling"),
    "an unknown type": (
        section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0xA0, 0x100, b"")])) + FILLING,
        "The encoder sends unknown stream type 0xa0: choose H.264 or HEVC.",
    ),
    "JPEG XS": (
        section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x32, 0x100, b"")])) + FILLING,
        "The encoder sends JPEG XS: choose H.264 or HEVC.",
    ),
}


@pytest.fixture(scope="module")
def transports(gateway: Gateway) -> Iterator[dict[str, Channel]]:
    channels, stop = {name: gateway.channel(videoname=name) for name in TRANSPORTS}, threading.Event()

    def send(channel: Channel, data: bytes) -> None:
        with call(gateway.ports["srt"], f"publish:{channel.id}?sign={channel.key}") as peer:
            while not stop.is_set() and peer.connection is not None and not peer.connection.ended:
                peer.push([data[at : at + 1316] for at in range(0, len(data), 1316)])
                peer.run(0.1)

    threads = [threading.Thread(target=send, args=(channels[n], data)) for n, (data, _) in TRANSPORTS.items()]
    for thread in threads:
        thread.start()
    yield channels
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_transport_stream_that_cannot_be_used_is_explained(transports: dict[str, Channel], name: str) -> None:
    ((reason, text), *_) = until(lambda: refusals(transports[name]), f"{name}: refused", WITHIN)
    assert reason == "unusable" and TRANSPORTS[name][1] in text


@pytest.fixture(scope="module")
def lossy(gateway: Gateway) -> Iterator[Channel]:
    """A push of a transport stream from which every 200th packet is gone."""
    channel = gateway.channel()
    film = made_once("ts", ["ffmpeg", *PICTURE, *TONE, *PLAIN, "-b:v", "1M", *AAC, "-t", "20", "-f", "mpegts"])
    packets = split(film.read_bytes(), 188)
    left = b"".join(packet for n, packet in enumerate(packets) if n % 200 != 199)

    def send() -> None:
        with call(gateway.ports["srt"], f"publish:{channel.id}?sign={channel.key}") as peer:
            peer.play(left, 20.0)

    thread = threading.Thread(target=send)
    thread.start()
    yield channel
    thread.join()


def test_packets_that_were_lost_before_the_push_are_found(lossy: Channel) -> None:
    told = until(lambda: [e for e in events(lossy, "stream.health") if e["code"] == "media_damaged"], "told", WITHIN)
    assert "came damaged, and pictures stand still" in told[-1]["text"]


def test_a_file_that_is_pushed_without_re_is_found_also_if_it_has_ended(gateway: Gateway) -> None:
    channel = gateway.channel()
    film = made_once("flv", ["ffmpeg", *PICTURE, *TONE, *PLAIN, *AAC, "-t", "60", "-f", "flv"])
    how = ("-nostdin", "-v", "error", "-i", str(film), "-c", "copy", "-f", "flv", channel.push)
    subprocess.run(["ffmpeg", *how], check=True, timeout=at_most(30))
    told = until(lambda: [e for e in events(channel, "stream.health") if e["code"] == "arrivals_early"], "told", WITHIN)
    assert told[-1]["text"].endswith("viewers cannot follow: send it in real time (ffmpeg: -re before -i).")


# ---- browsers and WebRTC ----


@contextlib.asynccontextmanager
async def recording(channel: Channel, *how: str) -> AsyncIterator[Any]:
    """A page that sends a Matroska recording."""
    film = made_once("mkv", ["ffmpeg", *PICTURE, *TONE, *how, "-t", "2", "-f", "matroska", "-live", "1"])
    url = f"ws://127.0.0.1:{channel.gateway.ports['ws']}/stream/{channel.id}?sign={channel.key}"
    async with page(url, frames=False) as opened:
        await opened.send(film.read_bytes())
        yield opened


async def test_a_recording_without_usable_tracks_is_refused(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with recording(channel, "-c:v", "mpeg2video", "-r", "25", "-an") as opened:
        assert await opened.closed() == 1003
        assert "V_MPEG2" in opened.reason
    ((reason, text),) = await asyncio.to_thread(refusals, channel)
    assert reason == "unusable" and "V_MPEG2" in text


async def test_a_track_that_a_recording_lacks_is_named_while_it_is_live(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with recording(channel, "-c:v", "mpeg2video", "-r", "25", "-c:a", "libopus"):
        found = await asyncio.to_thread(until, lambda: findings(channel), "found", WITHIN)
    assert ("stream_left_out", "The encoder sends V_MPEG2: choose H.264 or HEVC.") in found


async def test_an_offer_without_a_usable_codec_is_a_refusal(gateway: Gateway) -> None:
    channel = gateway.channel()
    body = offer(Client(), "sendonly").replace("H264", "H263-1998")
    assert (await ask("POST", f"{channel.url('whip')}?sign={channel.key}", body)).status == 406
    ((reason, text),) = await asyncio.to_thread(refusals, channel)
    assert reason == "unusable" and "H.264" in text
