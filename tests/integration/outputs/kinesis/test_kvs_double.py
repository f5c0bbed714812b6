"""The Kinesis double refuses what the service refuses, with the right error ids, and accepts other valid writers."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from gateway.adapters.aws.kvs import put_media_headers, sign
from gateway.formats.mkv import ebml, writer
from gateway.formats.mkv.writer import header
from tests.support.builders import AUDIO, VIDEO
from tests.support.kvs_rules import Begun, Broken, Judge, Whole
from tests.support.media import Film
from tests.support.putmedia import KvsDouble, VideoStream
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("kvs-judged", seconds=10, gop=60)
BFRAMES = Film("kvs-judged-b", seconds=10, gop=60, bframes=3)
KEYS = ReadOnlyCredentials("AKIATEST", "test", None)
IDR = b"\0\0\0\2\x65\x88"


def judge(data: bytes, *, strict: bool = True, piece: int = 4096) -> list[Whole | Begun]:
    made = Judge(strict=strict)
    events: list[Whole | Begun] = []
    for at in range(0, len(data), piece):
        events += made.receive(data[at : at + piece], 0.0)
    return [*events, *made.finish()]


def error(data: bytes, **how: Any) -> int | str:
    with pytest.raises(Broken) as caught:
        judge(data, **how)
    return caught.value.id or caught.value.code


def block(track: int = 1, offset: int = 0, payload: bytes = IDR, key: bool = True) -> bytes:
    return writer.simple_block(track, offset, key, payload)


HEAD = header([VIDEO])
BOTH = header([VIDEO, AUDIO])


@pytest.mark.parametrize("film", [FILM, BFRAMES], ids=lambda f: f.name)
def test_default_matroska_of_ffmpeg_is_refused(film: Film) -> None:
    need("ffmpeg")
    command = ["ffmpeg", "-v", "error", "-i", str(film.path()), "-c", "copy"]

    def written(*options: str) -> bytes:
        done = subprocess.run(
            [*command, *options, "-f", "matroska", "-"], check=True, capture_output=True, timeout=at_most(60)
        )
        return done.stdout

    assert error(written()) == 4006, "by our own rules at its SeekHead already"
    assert error(written(), strict=False) == 4006, "by the service's own at the checksum before a cluster's time"
    assert error(written("-write_crc32", "0"), strict=False) in (4004, "MIN_FRAGMENT_DURATION_REACHED")


def test_valid_matroska_of_libav_is_accepted(tmp_path: Path) -> None:
    need("ffmpeg")
    path = tmp_path / "live.mkv"
    options = {"live": "1", "cluster_time_limit": "19000", "cluster_size_limit": "52428800", "write_crc32": "0"}
    with av.open(str(FILM.path())) as source, av.open(str(path), "w", format="matroska", options=options) as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    fragments = [e for e in judge(path.read_bytes(), strict=False) if isinstance(e, Whole)]
    assert len(fragments) == 5


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0" * 20, 4006),
        (HEAD[4:], 4006),
        (HEAD.replace(b"matroska", b"matroskb"), 4006),
        (HEAD + HEAD, 4006),
        (HEAD + ebml.SEGMENT + ebml.UNKNOWN_SIZE, 4006),
        (HEAD + ebml.element(ebml.TRACKS), 4006),
        (HEAD + ebml.element(b"\x11\x4d\x9b\x74"), 4006),
        (HEAD + ebml.element(b"\xec", b"\0\0"), 4006),
        (HEAD + ebml.element(b"\x1a\x2b", b""), 4006),
        (header([VIDEO])[: header([VIDEO]).index(ebml.TRACKS)] + writer.cluster(1), 4006),
        (HEAD + ebml.CLUSTER + ebml.UNKNOWN_SIZE + block(), 4006),
        (HEAD + writer.cluster(1) + block(key=False), 4006),
        (HEAD + writer.cluster(1) + block(payload=b"\0\0\0\2\x41\x88"), 4006),
        (HEAD + writer.cluster(1) + ebml.element(b"\xbf", b"1234") + block(), 4006),
        (HEAD + writer.cluster(1) + block()[:-1], 4006),
        (HEAD + writer.cluster(5000) + block() + writer.cluster(4000) + block(), 4004),
        (HEAD + writer.cluster(5000) + block(offset=1500) + writer.cluster(6400) + block(), 4004),
        (HEAD + writer.cluster(5000) + block() + writer.cluster(5900) + block(), "MIN_FRAGMENT_DURATION_REACHED"),
        (HEAD + writer.cluster(5000) + block() + block(offset=20_000, key=False), 4002),
        (HEAD + writer.cluster(5000) + block(track=2), 4010),
        (BOTH + writer.cluster(5000) + block(), 4011),
        (HEAD.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/AVX"), 4006),
    ],
)
def test_each_violated_rule_has_its_error_id(data: bytes, expected: int | str) -> None:
    for piece in (1 << 20, 7):
        assert error(data, piece=piece) == expected


def test_more_than_three_tracks_give_error_4012() -> None:
    entry = HEAD[HEAD.index(ebml.TRACK_ENTRY, HEAD.index(ebml.TRACKS) + 4) :]
    entries = [entry.replace(ebml.uint(ebml.TRACK_NUMBER, 1), ebml.uint(ebml.TRACK_NUMBER, n)) for n in range(1, 5)]
    assert error(HEAD[: HEAD.index(ebml.TRACKS)] + ebml.element(ebml.TRACKS, *entries)) == 4012


@pytest.mark.parametrize(
    ("name", "value", "count"), [("AWSx", "1", 1), ("n" * 129, "1", 1), ("n", "v" * 257, 1), ("n", "v", 11)]
)
def test_the_size_and_number_of_tags_are_limited(name: str, value: str, count: int) -> None:
    tag = ebml.element(b"\x67\xc8", ebml.text(b"\x45\xa3", name), ebml.text(b"\x44\x87", value))
    tags = ebml.element(b"\x12\x54\xc3\x67", ebml.element(b"\x73\x73", *[tag] * count))
    assert error(HEAD + tags) == 4009


def test_more_than_50_megabytes_give_error_4001() -> None:
    size = 13_000_000
    big = block(payload=size.to_bytes(4, "big") + b"\x65".ljust(size, b"x"))
    assert error(HEAD + writer.cluster(1) + big * 4, piece=1 << 20) == 4001


@pytest.fixture
async def double() -> AsyncIterator[KvsDouble]:
    async with KvsDouble() as made:
        made.add("lobby")
        yield made


async def endpoint(double: KvsDouble) -> str:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{double.url}/getDataEndpoint", json={"StreamName": "lobby", "APIName": "PUT_MEDIA"}) as reply,
    ):
        return f"{(await reply.json())['DataEndpoint']}/putMedia"


async def put(url: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, str, str]:
    async def pieces() -> AsyncIterator[bytes]:
        yield body

    async with aiohttp.ClientSession() as http, http.post(url, data=pieces(), headers=headers) as reply:
        return reply.status, reply.headers.get("x-amzn-ErrorType", ""), await reply.text()


GOOD = HEAD + writer.cluster(int(time.time() * 1000)) + block()


async def test_a_valid_request_is_stored_and_acknowledged(double: KvsDouble) -> None:
    url = await endpoint(double)
    status, _, acks = await put(url, sign(url, put_media_headers("lobby", 1.7e9), KEYS, "eu-central-1"), GOOD)
    assert status == 200
    assert [e in acks for e in ("BUFFERING", "RECEIVED", "PERSISTED")] == [True] * 3
    assert len(double.streams["lobby"].stored) == 1


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"x-amzn-stream-arn": VideoStream("lobby").arn}, "InvalidArgumentException"),
        ({"x-amzn-stream-name": None}, "InvalidArgumentException"),
        ({"x-amzn-fragment-timecode-type": "SOMETIME"}, "InvalidArgumentException"),
        ({"x-amzn-producer-start-timestamp": "1700000000.5"}, "InvalidArgumentException"),
        ({"x-amzn-fragment-acknowledgment-required": "yes"}, "InvalidArgumentException"),
        ({"x-amzn-stream-name": "attic"}, "ResourceNotFoundException"),
    ],
)  # fmt: skip
async def test_invalid_headers_are_refused(double: KvsDouble, change: dict[str, str | None], kind: str) -> None:
    url = await endpoint(double)
    headers = {k: v for k, v in (put_media_headers("lobby", 1.7e9) | change).items() if v is not None}
    assert (await put(url, sign(url, headers, KEYS, "eu-central-1"), GOOD))[1] == kind


async def test_a_body_that_is_not_chunked_is_refused(double: KvsDouble) -> None:
    url = await endpoint(double)
    headers = sign(url, put_media_headers("lobby", 1.7e9), KEYS, "eu-central-1")
    async with aiohttp.ClientSession() as http, http.post(url, data=GOOD, headers=headers) as reply:
        assert reply.headers["x-amzn-ErrorType"] == "InvalidArgumentException"


class _Streaming(SigV4Auth):
    """A signer for the streaming form of the Java SDK."""

    def payload(self, request: Any) -> str:
        return "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


async def test_all_forms_of_a_signature_are_accepted(double: KvsDouble) -> None:
    url = await endpoint(double)
    headers = put_media_headers("lobby", 1.7e9)
    java = AWSRequest("POST", url, headers={**headers, "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"})
    _Streaming(KEYS, "kinesisvideo", "eu-central-1").add_auth(java)
    assert (await put(url, dict(java.headers.items()), GOOD))[0] == 200
    go = AWSRequest("POST", url, headers=dict(headers), data=b"")
    SigV4QueryAuth(KEYS, "kinesisvideo", "eu-central-1", expires=300).add_auth(go)
    assert (await put(go.url, headers, GOOD))[0] == 200


@pytest.mark.parametrize("fault", ["key", "secret", "region", "header", "late", "token"])
async def test_a_wrong_signature_is_not_authorized(double: KvsDouble, fault: str) -> None:
    url = await endpoint(double)
    keys = {
        "key": ReadOnlyCredentials("AKIAOTHER", "test", None),
        "secret": ReadOnlyCredentials("AKIATEST", "other", None),
        "token": ReadOnlyCredentials("AKIATEST", "test", "sometoken"),
    }.get(fault, KEYS)
    headers = sign(url, put_media_headers("lobby", 1.7e9), keys, "eu-central-1")
    if fault == "region":
        headers["Authorization"] = headers["Authorization"].replace("eu-central-1", "eu-west-1")
    if fault == "header":
        headers["x-amzn-producer-start-timestamp"] = "1700000001.000"
    if fault == "late":
        double.clock = lambda: time.time() + 400
    status, kind, _ = await put(url, headers, GOOD)
    assert (status, kind) == (401, "NotAuthorizedException")


async def test_a_second_connection_and_a_sixth_call_are_refused(double: KvsDouble) -> None:
    url = await endpoint(double)

    def headers() -> dict[str, str]:
        return sign(url, put_media_headers("lobby", 1.7e9), KEYS, "eu-central-1")

    going = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield HEAD
        await going.wait()

    async with aiohttp.ClientSession() as http, http.post(url, data=endless(), headers=headers()) as first:
        assert first.status == 200
        assert (await put(url, headers(), GOOD))[1] == "ConnectionLimitExceededException"
        going.set()
        await first.read()
    kinds = [(await put(url, headers(), HEAD))[1] for _ in range(6)]
    assert kinds[-1] == "ClientLimitExceededException"


async def test_more_than_five_fragments_a_second_are_refused(double: KvsDouble) -> None:
    url = await endpoint(double)
    body = HEAD + b"".join(writer.cluster(int(time.time()) * 1000 + n * 1000) + block() for n in range(6))
    _, _, acks = await put(url, sign(url, put_media_headers("lobby", 1.7e9), KEYS, "eu-central-1"), body)
    assert "CLIENT_LIMIT_EXCEEDED" in acks
