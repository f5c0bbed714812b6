"""Keys for pushing and playing over RTMP: each refusal has its code and closes the connection."""

import asyncio
import sqlite3
import time
from urllib.parse import quote

import pytest

from gateway.channels.stream_key import Algorithm, SignatureUse, sign
from gateway.ingest.refusal_texts import REVOKED_KEY, WRONG_KEY
from gateway.ingest.rtmp.refusals import SIGN_PLACE
from tests.support.clients import until
from tests.support.gateway import Channel, Gateway
from tests.support.rtmp import ServerCommand, connected
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

SECRET, PREVIOUS = "the-secret-of-these-tests", "the-secret-before-it"
STARTED, UNAUTHORIZED = "NetStream.Publish.Start", "NetStream.Publish.Unauthorized"
FAR = 2_080_000_000
MISSING = f"Authorization required: {SIGN_PLACE}"


gateway = shared_gateway(
    MILLRACE_SIGNING__SECRET=SECRET,
    MILLRACE_SIGNING__PREVIOUS_SECRET=PREVIOUS,
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
    MILLRACE_STREAM__LINGER="30",
    MILLRACE_STREAM__TAKEOVER_AFTER="1",
    MILLRACE_STREAM__END_AT_EXPIRY="true",
    MILLRACE_STREAM__WAIT_FOR_PUBLISHER="1",
)


@pytest.fixture(scope="module")
def one(gateway: Gateway) -> Channel:
    """A channel for refused pushes, which all tests share."""
    return gateway.channel()


async def _publish(gateway: Gateway, key: str, app: str = "stream") -> ServerCommand:
    """The answer to a publish; a refusal must close the socket in time."""
    async with connected(gateway.ports["rtmp"]) as peer:
        said = await peer.publish(key, app=app)
        if said.level == "error":
            assert await peer.closed()
        return said


async def _refused(gateway: Gateway, key: str, app: str = "stream", text: str = WRONG_KEY) -> None:
    """Checks a refusal. All wrong keys and unknown ids get the same `text`, which hides the wrong part."""
    said = await _publish(gateway, key, app)
    assert (said.level, said.code) == ("error", UNAUTHORIZED)
    assert said.info["description"] == text


def _changed(key: str, at: int) -> str:
    return key[:at] + ("0" if key[at] != "0" else "1") + key[at + 1 :]


# ---- where the sign may stand ----


async def test_the_key_may_be_in_the_stream_name(gateway: Gateway) -> None:
    channel = gateway.channel()
    assert (await _publish(gateway, channel.obs_key)).code == STARTED


async def test_the_key_may_be_in_the_app(gateway: Gateway) -> None:
    channel = gateway.channel()
    assert (await _publish(gateway, channel.id, f"stream?sign={channel.key}")).code == STARTED


async def test_the_key_may_be_only_in_the_tc_url(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.handshake()
        await peer.connect("stream", tcUrl=f"rtmp://127.0.0.1/stream?sign={channel.key}")
        assert (await peer.publish_again(channel.id)).code == STARTED


async def test_the_key_may_be_url_encoded(gateway: Gateway) -> None:
    channel = gateway.channel()
    encoded = "".join(f"%{ord(c):02X}" for c in channel.key)
    assert (await _publish(gateway, f"{channel.id}?sign={encoded}")).code == STARTED


async def test_the_key_may_be_among_other_parameters(gateway: Gateway) -> None:
    channel = gateway.channel()
    assert (await _publish(gateway, f"{channel.id}?a=1&sign={channel.key}&b=/x")).code == STARTED


async def test_the_key_in_the_stream_name_takes_precedence_over_the_app(gateway: Gateway, one: Channel) -> None:
    channel, wrong = gateway.channel(), f"{FAR}-{'0' * 64}"
    assert (await _publish(gateway, channel.obs_key, f"stream?sign={wrong}")).code == STARTED
    await _refused(gateway, f"{one.id}?sign={wrong}", f"stream?sign={one.key}")


async def test_the_first_of_two_keys_counts(gateway: Gateway, one: Channel) -> None:
    channel, wrong = gateway.channel(), f"{FAR}-{'0' * 64}"
    assert (await _publish(gateway, f"{channel.obs_key}&sign={wrong}")).code == STARTED
    await _refused(gateway, f"{one.id}?sign={wrong}&sign={one.key}")


# ---- keys ----


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("secret", [SECRET, PREVIOUS])
async def test_both_algorithms_work_with_both_secrets(gateway: Gateway, algorithm: Algorithm, secret: str) -> None:
    channel = gateway.channel()
    stored = sign(channel.id, FAR, secret, algorithm)
    _store(gateway, channel.id, stored)
    assert (await _publish(gateway, f"{channel.id}?sign={stored}")).code == STARTED
    await _refused(gateway, channel.obs_key, text=REVOKED_KEY)  # verifies, but is not the stored one


async def test_a_stored_key_without_a_valid_signature_is_refused(gateway: Gateway) -> None:
    channel = gateway.channel()
    for stored in (f"{FAR}-{'a' * 64}", "open sesame", sign(channel.id, FAR, "another-secret")):
        _store(gateway, channel.id, stored)
        await _refused(gateway, f"{channel.id}?sign={quote(stored)}")


async def test_wrong_signatures_are_refused(gateway: Gateway, one: Channel) -> None:
    key = one.key
    expiry, digest = key.split("-")
    wrong = {
        "last digit": _changed(key, len(key) - 1),
        "first digit of the hash": _changed(key, len(expiry) + 1),
        "later expiry": f"{int(expiry) + 1}-{digest}",
        "earlier expiry": f"{int(expiry) - 1}-{digest}",
        "negative expiry": f"-{expiry}-{digest}",
        "huge expiry": f"{'9' * 40}-{digest}",
        "beyond 64 bits": f"{2**63}-{digest}",
        "leading zero": f"0{key}",
        "plus": f"%2B{key}",
        "space before": f"%20{key}",
        "newline behind": f"{key}%0A",
        "NUL behind": f"{key}%00",
        "other digits": key.translate({ord(str(n)): 0x0660 + n for n in range(10)}),
        "uppercase": f"{expiry}-{digest.upper()}",
        "hash alone": digest,
        "expiry alone": expiry,
        "no dash": expiry + digest,
        "empty": "",
        "dash": "-",
        "truncated hash": key[:-1],
        "hash cut to MD5's length": f"{expiry}-{digest[:32]}",
        "longer hash": key + "0",
        "ten thousand digits": f"{expiry}-{digest * 160}",
        "half a surrogate": "\ud800",
        "the play sign": sign(one.id, FAR, SECRET, use=SignatureUse.PLAY),
        "another channel's": sign("another", FAR, SECRET),
        "another secret": sign(one.id, FAR, "guessed"),
    }
    for name, value in wrong.items():
        try:
            sent = f"{one.id}?sign={value.encode('utf-8', 'surrogatepass').decode('latin-1')}"
            await _refused(gateway, sent, text=WRONG_KEY if value else MISSING)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


async def test_a_push_without_a_key_is_refused(gateway: Gateway, one: Channel) -> None:
    for key in (one.id, f"{one.id}?", f"{one.id}?sign", f"{one.id}?key={one.key}", f"{one.id}?SIGN={one.key}"):
        await _refused(gateway, key, text=MISSING)
    await _refused(gateway, f"{one.id}?" + "&".join(f"a{n}=1" for n in range(100)) + f"&sign={one.key}", text=MISSING)


async def test_unknown_channel_ids_are_refused(gateway: Gateway, one: Channel) -> None:
    for id in (
        "00000000-0000-4000-8000-000000000000",
        f"../stream/{one.id}",
        f"x/../{one.id}",
        f"{one.id}/..",
        f"{one.id}@720p",
        f"{one.id} ",
        f"{one.id}%00",
        f"{one.id.upper()}X",
        "x" * 10_000,
        "'; DROP TABLE channels; --",
        ".",
        "%2e%2e",
        "💧",
    ):
        # Genuinely signed: only the missing channel is wrong.
        await _refused(gateway, f"{id}?sign={sign(id, FAR, SECRET)}")
        await _refused(gateway, f"{id}?sign={one.key}")


async def test_an_expired_key_is_refused(gateway: Gateway) -> None:
    channel = gateway.channel(outdate=1_700_000_000)
    text = "The key expired on 2023-11-14 22:13 UTC. Renew the channel's expiry, then copy its new key."
    await _refused(gateway, channel.obs_key, text=text)


async def test_a_revoked_key_and_the_key_of_a_deleted_channel_are_refused(gateway: Gateway) -> None:
    channel = gateway.channel()
    gateway.api("PUT", f"/videostream/{channel.id}", {"outdate": "2034-05-06"})
    await _refused(gateway, channel.obs_key, text=REVOKED_KEY)
    again = gateway.api("GET", f"/videostream/{channel.id}").json()["key"]
    assert (await _publish(gateway, f"{channel.id}?sign={again}")).code == STARTED
    gateway.api("DELETE", f"/videostream/{channel.id}")
    await _refused(gateway, f"{channel.id}?sign={again}")


async def test_keys_are_not_logged(gateway: Gateway, one: Channel) -> None:
    await _refused(
        gateway, f"{one.id}?sign={one.key[:-1]}0" if one.key[-1] != "0" else f"{one.id}?sign={one.key[:-1]}1"
    )
    until(lambda: "push refused" in gateway.log, "a refusal in the log")
    assert one.key.split("-")[1][:20] not in gateway.log


# ---- while live ----


async def test_a_channel_in_use_refuses_a_second_publisher(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as first:
        await first.publish(channel.obs_key)
        await first.headers()
        await first.film([0])
        assert (await _publish(gateway, channel.obs_key)).code == "NetStream.Publish.BadName"
        await first.film([40])
        assert not await first.closed(0.1)


async def test_an_encoder_that_returns_before_the_end_of_its_old_connection_is_noticed_is_not_refused(
    gateway: Gateway,
) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as old, connected(gateway.ports["rtmp"]) as new:
        await old.publish(channel.obs_key)
        await old.headers()
        await old.film([0])
        await old.settle()
        await new.handshake()
        await new.connect()
        await new.create_stream()
        await new.command("publish", 5, None, channel.obs_key, "live", stream=1)
        with pytest.raises(TimeoutError):  # the answer waits for the old connection's end
            await new.until(STARTED, timeout=0.1)
        await old.reset()
        assert (await new.until(STARTED)).code == STARTED


async def test_a_silent_publisher_is_replaced_and_gets_an_error(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as dead, connected(gateway.ports["rtmp"]) as player:
        await dead.publish(channel.obs_key)
        await dead.headers()
        await dead.film(range(0, 400, 33), gop=100)
        assert (await player.play(channel.id)).code == "NetStream.Play.Start"
        await asyncio.sleep(1.1)  # the pause under test
        async with connected(gateway.ports["rtmp"]) as alive:
            assert (await alive.publish(channel.obs_key)).code == STARTED
            said = await dead.until()
            assert (said.level, said.code) == ("error", "NetStream.Publish.BadName")
            assert await dead.closed()
            await alive.headers()
            await alive.film(range(0, 400, 33), gop=100)
            media = await player.media(24)
            times = [m.timestamp for m in media]
            assert times == sorted(times), "the viewer stays, and its time goes on"


async def test_a_second_publish_on_one_connection_is_refused(gateway: Gateway) -> None:
    channel, other = gateway.channel(), gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        said = await peer.publish_again(other.obs_key, stream=2)
        assert (said.level, said.code, said.stream) == ("error", "NetStream.Publish.BadConnection", 2)
        await peer.headers()
        await peer.film(range(0, 700, 33))
        channel.wait_live()
        assert other.session()["state"] == "idle"


async def test_a_connection_can_publish_again_after_fc_unpublish(gateway: Gateway) -> None:
    channel, other = gateway.channel(), gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        await peer.headers()
        await peer.film(range(0, 700, 33))
        await peer.command("FCUnpublish", 6, None, channel.id)
        assert (await peer.until("NetStream.Unpublish.Success")).level == "status"
        await peer.command("deleteStream", 7, None, 1)
        for key in (channel.obs_key, other.obs_key):
            assert await peer.create_stream() == 1
            assert (await peer.publish_again(key)).code == STARTED
            await peer.headers()
            await peer.film(range(0, 700, 33))
            await peer.command("closeStream", 0, None, stream=1)
            await peer.until("NetStream.Unpublish.Success")
            await peer.command("deleteStream", 8, None, 1)
        assert (await peer.publish_again(f"{other.id}?sign=wrong")).code == UNAUTHORIZED
        assert await peer.closed()


@pytest.mark.parametrize("how", ["kick", "delete", "expire"])
async def test_an_end_by_the_operator_disconnects_publisher_and_players_at_once(gateway: Gateway, how: str) -> None:
    """The gateway's linger time is 30 s, but the end does not wait for it."""
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer, connected(gateway.ports["rtmp"]) as player:
        await peer.publish(channel.obs_key)
        await peer.headers()
        await peer.film(range(0, 700, 33))
        await player.play(channel.id)
        if how == "kick":
            assert gateway.api("DELETE", f"/videostream/{channel.id}/session").status == 200
        elif how == "delete":
            gateway.api("DELETE", f"/videostream/{channel.id}")
        else:
            gateway.api("PUT", f"/videostream/{channel.id}", {"outdate": int(time.time()) - 10})
        told = await peer.until(timeout=4)
        assert (told.level, told.code) == ("error", "NetStream.Publish.Failed")
        assert await peer.closed()
        assert (await player.until("NetStream.Play.UnpublishNotify")).level == "status"
        assert await player.closed()
    if how == "kick":
        assert (await _publish(gateway, channel.obs_key)).code == STARTED
    else:
        await _refused(gateway, channel.obs_key, text=WRONG_KEY if how == "delete" else REVOKED_KEY)


async def test_a_new_key_keeps_the_push_and_the_old_key_is_refused(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        await peer.headers()
        await peer.film(range(0, 700, 33))
        gateway.api("PUT", f"/videostream/{channel.id}", {"outdate": "2033-01-02"})
        assert not await peer.closed(1.5)
        await _refused(gateway, channel.obs_key, text=REVOKED_KEY)
        assert channel.session()["state"] == "live"


# ---- playing ----


async def test_a_protected_channel_needs_a_valid_play_signature(gateway: Gateway) -> None:
    channel = gateway.channel(playAuth="sign")
    async with connected(gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        await peer.headers()
        await peer.film(range(0, 700, 33))
        good = sign(channel.id, FAR, SECRET, use=SignatureUse.PLAY)
        for name, app, wanted in (
            (f"{channel.id}?sign={good}", "stream", "NetStream.Play.Start"),
            (channel.id, f"stream?sign={good}", "NetStream.Play.Start"),
            (
                f"{channel.id}?sign={sign(channel.id, FAR, PREVIOUS, Algorithm.MD5, SignatureUse.PLAY)}",
                "stream",
                "NetStream.Play.Start",
            ),
            (channel.id, "stream", "NetStream.Play.Unauthorized"),
            (channel.obs_key, "stream", "NetStream.Play.Unauthorized"),
            (
                f"{channel.id}?sign={sign(channel.id, 1000, SECRET, use=SignatureUse.PLAY)}",
                "stream",
                "NetStream.Play.Unauthorized",
            ),
            (f"{channel.id}@720p", "stream", "NetStream.Play.Unauthorized"),
        ):
            async with connected(gateway.ports["rtmp"]) as player:
                said = await player.play(name, app=app)
                assert said.code == wanted, name
                if wanted != "NetStream.Play.Start":
                    assert await player.closed()


# ---- the store ----


def _store(gateway: Gateway, id: str, key: str) -> None:
    """Writes a channel's key past the API."""
    with sqlite3.connect(gateway.data / "millrace.db") as database:
        database.execute("UPDATE channels SET item = json_set(item, '$.key', ?) WHERE id = ?", (key, id))
    database.close()


async def test_an_unavailable_store_is_reported_in_time_and_live_streams_continue(gateway: Gateway) -> None:
    """It runs last in this module, because it renames the table for a while."""
    live, other = gateway.channel(), gateway.channel()
    async with connected(gateway.ports["rtmp"]) as peer, connected(gateway.ports["rtmp"]) as player:
        await peer.publish(live.obs_key)
        await peer.headers()
        await peer.film(range(0, 700, 33))
        database = sqlite3.connect(gateway.data / "millrace.db", isolation_level=None)
        database.execute("ALTER TABLE channels RENAME TO gone")
        try:
            began = time.monotonic()
            said = await _publish(gateway, other.obs_key)
            assert (said.level, said.code) == ("error", "NetStream.Publish.Failed")
            assert time.monotonic() - began < at_most(8)
            await peer.film(range(700, 1400, 33), number=22)
            assert live.session()["state"] == "live"
            assert (await player.play(live.id)).code == "NetStream.Play.Start"
        finally:
            database.execute("ALTER TABLE gone RENAME TO channels")
            database.close()
    assert (await _publish(gateway, other.obs_key)).code == STARTED
    assert "Traceback" not in gateway.log
