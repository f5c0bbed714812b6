"""One gateway for all conformance tests, and one push per kind of film for those that only look at it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.clients import push
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import Film
from tests.support.srt import PATIENT
from tests.support.tools import need


@pytest.fixture(scope="package")
def gateway() -> Iterator[Gateway]:
    """The gateway that every client here talks to."""
    with running(MILLRACE_STREAM__LINGER="2", **PATIENT) as instance:
        yield instance


@pytest.fixture(scope="module")
def live(gateway: Gateway) -> Iterator[Callable[[Film], Channel]]:
    """`live(film)`: a new channel to which ffmpeg pushes the film, playable in every format that can carry it."""
    need("ffmpeg", "ffprobe")
    with ExitStack() as stack:

        def start(film: Film) -> Channel:
            film.hashes()  # made before the clock runs
            channel = gateway.channel(film.name)
            stack.enter_context(push(film, channel.push, ffmpeg=film.ffmpeg))
            channel.wait_live()
            # Players of HLS in MPEG-TS read no AV1: the gateway does not make what nobody can play.
            hls = () if film.video == "libsvtav1" else ("live.m3u8",)
            channel.wait_playable(*hls, "master.m3u8", "manifest.mpd")
            return channel

        yield start
