"""SRT at a real gateway: keys, codes of refusals, encryption, take-over, linger, kick, expiry, backup inputs."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from gateway.formats.mp4.reader import parse_fragments
from gateway.lib.rfc3339 import rfc3339
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject
from tests.support.at_night import at_night
from tests.support.clients import Program, pull, take_of, until
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.media import PLAIN, Film
from tests.support.mp4 import shown_times
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import PATIENT, call, libsrt_refusal, srt_push
from tests.support.tools import need
from tests.unit.formats.ts.test_program_reader import framehash
from tests.unit.packaging.test_exact_times import stream

SECRET = "a long passphrase"
FILM = Film("srt", seconds=40)


gateway = shared_gateway(
    "ffmpeg",
    films=[FILM, PLAIN],
    MILLRACE_STREAM__LINGER="5",
    MILLRACE_STREAM__TAKEOVER_AFTER="1",
    MILLRACE_STREAM__WAIT_FOR_PUBLISHER="1",
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
    **PATIENT,
)


@pytest.fixture(scope="module")
def secret() -> Iterator[Gateway]:
    """A gateway with a passphrase for all channels, and a second for the first media of a push."""
    need("ffmpeg")
    limits = {"MILLRACE_LIMITS__REFUSALS_PER_MINUTE": "0", "MILLRACE_LIMITS__FIRST_MEDIA": "1"}
    with running(MILLRACE_SRT__PASSPHRASE=SECRET, **limits) as gateway:
        yield gateway


def push_id(channel: Channel) -> str:
    return f"publish:{channel.id}?sign={channel.key}"


def refusal(gateway: Gateway, stream_id: str, **options: object) -> int:
    """Returns the code with which a caller is refused; 0: it is not."""
    try:
        call(gateway.ports["srt"], stream_id, **options).close()
    except HandshakeRefused as error:
        return error.code
    return 0


@contextlib.contextmanager
def live(channel: Channel, *more: str) -> Iterator[Program]:
    with srt_push(FILM, channel.srt_push, *more, loop=True) as publisher:
        channel.wait_live()
        yield publisher


# ---- times ----


@pytest.mark.nightly
def test_fragments_have_the_times_of_the_push_to_the_tick(gateway: Gateway) -> None:
    path, channel = stream("23.976 with B-frames"), gateway.channel()
    source = sorted(pts for _, pts, _ in framehash(path)[0])
    with call(gateway.ports["srt"], push_id(channel), latency=1.0) as peer:
        peer.play(path.read_bytes(), 8.0)
        playlist = http("GET", channel.url("video/index.m3u8")).text
        names = re.findall(r"^[\w/-]+-\d+\.m4s$", playlist, re.MULTILINE)
        fragments = [f for name in names for f in parse_fragments(http("GET", channel.url(f"video/{name}")).body)]
    found = shown_times(fragments)
    assert len(found) > 120
    assert found == [pts - source[0] for pts in source[: len(found)]]


# ---- refusals ----


@pytest.mark.parametrize("stream_id", ["", "publish:", "#!::r=,m=publish", "read:../x"])
def test_a_malformed_stream_id_is_refused_with_1400(stream_id: str, gateway: Gateway) -> None:
    assert refusal(gateway, stream_id) == Reject.BAD_REQUEST


def test_a_missing_wrong_or_expired_key_is_refused_with_1401(gateway: Gateway) -> None:
    channel = gateway.channel()
    ended = gateway.channel(outdate=rfc3339(time.time() - 60, "seconds"))
    for stream_id in (
        f"publish:{channel.id}",
        f"publish:{channel.id}?sign={channel.key[:-4]}0000",
        f"publish:{channel.id}?sign=nonsense",
        push_id(ended),
        "publish:unknown?sign=4102444800-" + "0" * 64,
    ):
        assert refusal(gateway, stream_id) == Reject.UNAUTHORIZED, stream_id


@pytest.mark.nightly
def test_an_idle_or_unknown_stream_is_refused_with_1404_after_the_wait(gateway: Gateway) -> None:
    channel = gateway.channel()
    began = time.monotonic()
    assert refusal(gateway, f"read:{channel.id}") == Reject.NOT_FOUND
    assert time.monotonic() - began > 0.9, "it waits for a publisher"
    assert refusal(gateway, "read:unknown") == Reject.NOT_FOUND


def test_a_second_push_is_refused_with_1409_while_the_first_one_sends(gateway: Gateway) -> None:
    channel = gateway.channel()
    with live(channel):
        assert refusal(gateway, push_id(channel)) == Reject.CONFLICT
        assert channel.session()["state"] == "live"


def test_too_many_pushes_or_viewers_are_refused_with_1402() -> None:
    with running(MILLRACE_LIMITS__PUBLISHERS="1") as gateway:
        channel, other = gateway.channel("one", maxViewerMbps=0.1), gateway.channel("two")
        with live(channel):
            assert refusal(gateway, push_id(other)) == Reject.OVERLOADED
            until(lambda: refusal(gateway, f"read:{channel.id}") == Reject.OVERLOADED, "the bit rate is known")


def test_libsrt_reads_the_codes(gateway: Gateway) -> None:
    channel, secret, port = gateway.channel(), gateway.channel(srtPassphrase=SECRET), gateway.ports["srt"]
    assert libsrt_refusal(port, "publish:") == Reject.BAD_REQUEST
    assert libsrt_refusal(port, f"publish:{channel.id}") == Reject.UNAUTHORIZED
    assert libsrt_refusal(port, f"read:{channel.id}") == Reject.NOT_FOUND
    assert libsrt_refusal(port, push_id(secret), "another passphrase") == Reject.BAD_SECRET - 1000
    assert libsrt_refusal(port, push_id(secret)) == Reject.UNSECURE - 1000
    assert libsrt_refusal(port, push_id(secret), SECRET) == 0
    with live(channel):
        assert libsrt_refusal(port, push_id(channel)) == Reject.CONFLICT


def test_an_idle_stream_is_refused_before_libsrt_gives_up(secret: Gateway) -> None:
    """Without an answer it would report a time-out, though the gateway would wait for 20 s."""
    assert libsrt_refusal(secret.ports["srt"], f"read:{secret.channel().id}") == Reject.NOT_FOUND


def test_ffmpeg_ends_at_once_if_it_is_refused(gateway: Gateway) -> None:
    channel = gateway.channel()
    with srt_push(FILM, channel.srt_push[:-4]) as publisher:
        publisher.wait(15)
        assert publisher.process.returncode != 0
    assert channel.session()["state"] == "idle"


# ---- encryption ----


@pytest.mark.parametrize("bytes_", [*at_night(16, 24), 32])
def test_a_passphrase_of_the_channel_encrypts_push_and_play(bytes_: int, gateway: Gateway) -> None:
    channel = gateway.channel(srtPassphrase=SECRET)
    options = (f"passphrase={SECRET}", f"pbkeylen={bytes_}")
    with live(channel, *options), pull("&".join((channel.srt, *options)), seconds=2) as player:
        take = take_of(player)
    digests = [frame.digest for frame in FILM.hashes().video]
    start = digests.index(take.video[0].digest)
    assert [frame.digest for frame in take.video] == digests[start : start + len(take.video)]


def test_a_passphrase_for_all_channels_holds_unless_a_channel_has_its_own(secret: Gateway) -> None:
    channel, own = secret.channel("global"), secret.channel("own", srtPassphrase="another passphrase")
    assert refusal(secret, push_id(channel)) == Reject.UNSECURE
    assert refusal(secret, push_id(own), passphrase=SECRET) == Reject.BAD_SECRET
    assert refusal(secret, push_id(channel), passphrase=SECRET) == 0
    assert refusal(secret, push_id(own), passphrase="another passphrase", key_size=32) == 0


def test_a_wrong_missing_or_needless_passphrase_is_refused(gateway: Gateway) -> None:
    channel, plain = gateway.channel(srtPassphrase=SECRET), gateway.channel()
    assert refusal(gateway, push_id(channel), passphrase="not the passphrase") == Reject.BAD_SECRET
    assert told(channel) == ["The SRT passphrase is wrong: copy it from the channel again."]
    assert refusal(gateway, push_id(channel)) == Reject.UNSECURE
    assert told(channel)[0] == "The SRT passphrase is missing: set that of the channel."
    assert refusal(gateway, push_id(plain), passphrase=SECRET) == Reject.UNSECURE
    assert told(plain) == ["An SRT passphrase is set, but the channel has none: remove it."]


def told(channel: Channel) -> list[str]:
    """What the session tells of refused pushes that have the right key, the newest first."""
    return [one["text"] for one in channel.session()["refusals"] if one["reason"] == "unusable"]


# ---- the life of a push ----


@pytest.mark.nightly
def test_a_viewer_stays_while_the_caller_reconnects(gateway: Gateway) -> None:
    channel = gateway.channel()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(live(channel))
        viewer = stack.enter_context(pull(channel.srt, seconds=None))
        until(lambda: viewer.output.count("\n") > 60, "the viewer sees it")
        first.kill()
        # ffmpeg does not try again if the channel is still in use.
        until(lambda: channel.session()["publisher"] is None, "the gateway notices that the caller is gone")
        stack.enter_context(srt_push(FILM, channel.srt_push, loop=True))
        seen = viewer.output.count("\n")
        until(lambda: viewer.output.count("\n") > seen + 100, "and goes on", 25)
        assert viewer.running


def test_a_kicked_push_is_told_that_it_is_over(gateway: Gateway) -> None:
    channel = gateway.channel()
    with live(channel) as publisher:
        assert gateway.api("DELETE", f"/videostream/{channel.id}/session").status in (200, 204)
        until(lambda: not publisher.running, "ffmpeg notices")


def test_the_deletion_of_a_channel_ends_push_and_players(gateway: Gateway) -> None:
    channel = gateway.channel()
    with live(channel) as publisher, call(gateway.ports["srt"], f"read:{channel.id}") as player:
        player.run(0.5)
        assert gateway.api("DELETE", f"/videostream/{channel.id}").status in (200, 204)
        until(lambda: not publisher.running, "ffmpeg notices")
        player.run(5)
        assert player.connection is not None
        assert player.connection.ended == "the peer has closed"


@pytest.mark.nightly
def test_a_push_outlives_the_date_of_its_key_and_cannot_return(gateway: Gateway) -> None:
    channel = gateway.channel(outdate=rfc3339(time.time() + 4, "seconds"))
    with live(channel) as publisher:
        until(lambda: refusal(gateway, push_id(channel)) == Reject.UNAUTHORIZED, "the key has expired", 10)
        assert publisher.running
        assert channel.session()["state"] == "live"


@pytest.mark.nightly
def test_a_backup_input_takes_over_and_gives_back(gateway: Gateway) -> None:
    channel = gateway.channel()
    inputs = [{"name": "main", "kind": "push"}, {"name": "van", "kind": "backup"}]
    reply = gateway.api("PUT", f"/videostream/{channel.id}/inputs", inputs)
    assert reply.status == 200, reply.text
    key = next(entry["key"] for entry in reply.json() if entry["name"] == "van")

    def on_air() -> list[str]:
        entries = gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
        return [entry["name"] for entry in entries if entry["state"] == "on air"]

    # ffmpeg takes `&` for the end of the stream id. This form has none.
    van = f"{channel.srt_server}?streamid=#!::r={channel.id},m=publish,sign={key},input=van"
    assert refusal(gateway, f"{push_id(channel)}&input=van") == Reject.UNAUTHORIZED, "each input has its own key"
    with srt_push(FILM, van, loop=True):
        with live(channel):
            until(lambda: on_air() == ["main"], "main is on air")
        until(lambda: on_air() == ["van"], "the backup takes over")
        with live(channel):
            until(lambda: on_air() == ["main"], "main is back", 30)


def test_a_silent_push_ends_in_time(secret: Gateway) -> None:
    with call(secret.ports["srt"], push_id(secret.channel()), passphrase=SECRET) as peer:
        peer.run(10)
        assert peer.connection is not None
        assert peer.connection.ended == "the peer has closed"


@pytest.mark.nightly
def test_a_protected_channel_needs_the_sign_of_players(gateway: Gateway) -> None:
    channel = gateway.channel(playAuth="sign")
    url = channel.item["playUrls"]["srt"]
    sign = url.partition("?sign=")[2].partition("&")[0]
    assert sign
    with live(channel):
        assert refusal(gateway, f"read:{channel.id}") == Reject.UNAUTHORIZED
        assert refusal(gateway, f"read:{channel.id}?sign={channel.key}") == Reject.UNAUTHORIZED
        assert refusal(gateway, f"read:{channel.id}?sign={sign}") == 0
        with pull(url, seconds=2) as player:
            assert len(take_of(player).video) > 30
