"""Senders of transport streams over SRT and UDP: ffmpeg with a film, and free ports."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.pull.pull_source import PullSource
from gateway.lib.egress import Egress
from gateway.media import nal
from gateway.media.track import Kind
from gateway.ports.errors import OutputError
from gateway.settings import load
from tests.support import films, sources
from tests.support.clients import Program
from tests.support.inputs import FakeInput, growing, running_source, worker_pool

LOOPBACK = ("127.0.0.0/8",)


def film() -> Path:
    """Two seconds with B-frames and sound, with a key frame every second."""
    return films.film(
        "pulled.mp4", *sources.pictures("320x180", "25"), *sources.tone(), "-t", "2", *sources.X264, "-g", "25", "-bf",
        "2", "-pix_fmt", "yuv420p", *sources.AAC,
    )  # fmt: skip


def send(url: str, *how: str, container: str = "mpegts", loop: bool = False) -> Program:
    """ffmpeg that sends the film in real time. how: its codecs; copied if there are none."""
    again = ["-stream_loop", "-1"] if loop else []
    coding = how or ("-c", "copy")
    return Program(
        ["ffmpeg", "-nostdin", "-v", "error", "-re", *again, "-i", str(film()), *coding, "-f", container, url]
    )


def pull_source(url: str, allow: tuple[str, ...] = LOOPBACK) -> PullSource:
    services: Any = SimpleNamespace(egress=Egress(allow), tls=None, workers=worker_pool(), settings=load(environ={}))
    return PullSource(services, InputSpec("p", InputKind.PULL, url=url))


@contextlib.asynccontextmanager
async def pulling(url: str, allow: tuple[str, ...] = LOOPBACK) -> AsyncIterator[FakeInput]:
    """Runs a pull during the block. Yields the input, whose recorder has the media."""
    context = FakeInput()
    async with running_source(pull_source(url, allow), context):
        yield context


async def failure(url: str, allow: tuple[str, ...] = LOOPBACK, context: FakeInput | None = None) -> str:
    """Returns the text with which a pull fails."""
    with pytest.raises(OutputError) as caught:
        await pull_source(url, allow).run(context or FakeInput())
    return str(caught.value)


def slices(payload: bytes) -> list[bytes]:
    return [u for u in nal.split(payload) if u[0] & 0x1F in (1, 5)]


def check_media(context: FakeInput, *, least: int = 45) -> None:
    """Checks that frames of the film came unchanged, in order and without a gap. least: pictures, of 50."""
    original, played = sources.read(film()), context.recorder
    want = [slices(u.payload) for u in original.of(Kind.VIDEO)]
    got = [slices(u.payload) for u in played.of(Kind.VIDEO)]
    assert len(got) >= least
    start = want.index(got[0])
    assert got == want[start : start + len(got)]
    sounds, heard = [u.payload for u in original.of(Kind.AUDIO)], [u.payload for u in played.of(Kind.AUDIO)]
    start = sounds.index(heard[0])
    assert heard == sounds[start : start + len(heard)]
    for kind in Kind:
        assert all(0 < step < 100 for step in growing(played.of(kind)))
    assert len(played.tracks) == 1
