"""Pushes over SRT on a thin link whose conditions the test changes."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support import srt
from tests.support.clients import Program
from tests.support.gateway import Channel
from tests.support.link_conditions import Conditions
from tests.support.media import Film, made_once
from tests.support.udp_link import UdpLink


@contextlib.contextmanager
def udp_link(target: int, conditions: Conditions) -> Iterator[UdpLink]:
    """A running link to a port. Its `conditions` may change."""
    link = UdpLink(conditions, ("127.0.0.1", target))
    running = threading.Thread(target=link.run, daemon=True)
    running.start()
    try:
        yield link
    finally:
        link.is_stopped = True
        running.join()


def srt_url(channel: Channel, port: int, key: str = "", input: str = "") -> str:
    """The address to push to. port: of the gateway, or of a link. key: another than the channel's. input: a backup.

    ffmpeg ends the stream id at the first "&", so a backup needs the form with commas.
    """
    key = key or channel.key
    name = f"#!::r={channel.id},m=publish,sign={key},input={input}" if input else f"publish:{channel.id}?sign={key}"
    return f"srt://127.0.0.1:{port}?streamid={name}&latency=120000&pkt_size=1316"


def srt_push(channel: Channel, film: Film, port: int, *, key: str = "", input: str = "") -> Program:
    """ffmpeg that publishes the film to a channel, again and again. port, key, input: see `srt_url`."""
    return srt.srt_push(film, srt_url(channel, port, key, input), loop=True)


def film_with_black(begin: int, end: int) -> Path:
    """A test picture with sound, black between two seconds: then it needs less than 150 kbit/s. Made once per run."""
    picture = f"testsrc2=size=320x180:rate=25,drawbox=enable='between(t,{begin},{end})':t=fill:color=black"
    command = ["ffmpeg", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "anoisesrc=amplitude=0.2:sample_rate=48000"]
    command += ["-t", str(end + 25), "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p"]
    return made_once("ts", [*command, "-b:v", "800k", "-c:a", "aac", "-b:a", "64k", "-f", "mpegts"])


def srt_push_file(channel: Channel, port: int, film: Path) -> Program:
    """ffmpeg that publishes a transport stream once, in real time."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", str(film), "-c", "copy", "-f", "mpegts"]
    return Program([*command, srt_url(channel, port)])
