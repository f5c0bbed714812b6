"""A process that retires in favour of another one refuses new clients and keeps the connected ones."""

import asyncio
import time

import pytest

from gateway.http.response import Takeover, text
from gateway.http.server import HttpServer
from gateway.lib.sockets import listen_shared, port_of
from gateway.live.publisher import PushOrigin
from gateway.live.sink import EndReason
from gateway.ports.errors import AtCapacity
from tests.support import builders
from tests.support.builders import VIDEO, picture, publish
from tests.support.http import limits
from tests.support.time_outs import at_most


async def test_a_push_continues_in_a_retiring_hub_without_linger():
    hub = builders.hub(linger=10)
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    hub.retire()
    publisher.push(picture(0, key=True), time.monotonic())
    stream = hub.find("c1")
    assert stream is not None and stream.received.bytes > 0
    publisher.close()
    assert (hub.find("c1"), stream.ended) == (None, EndReason.SHUTDOWN), "it does not linger here"
    assert stream.playback.next_numbers.may_go_on, "players of its playlists wait for the next push to another process"
    await hub.drained()


async def test_a_retiring_hub_accepts_only_renditions_of_its_streams():
    hub = builders.hub()
    publish(hub).set_tracks(VIDEO, None, {})
    hub.retire()
    with pytest.raises(AtCapacity):
        publish(hub, "c2")
    rung = hub.publish_from(PushOrigin("ladder", ""), builders.channel("c1"), "c1@720p", lambda reason: None)
    assert rung.active
    hub.drain()
    await hub.drained()


async def test_a_new_push_elsewhere_ends_a_silent_stream_of_a_retiring_hub():
    hub = builders.hub(takeover_after=2)
    told: list[EndReason] = []
    publisher = publish(hub, evicted=told)
    publisher.set_tracks(VIDEO, None, {})
    publisher.push(picture(0, key=True), time.monotonic())
    hub.retire()
    with pytest.raises(AtCapacity):
        publish(hub)
    assert told == [], "it still sends"
    publisher.push(picture(40), time.monotonic() - 3)
    with pytest.raises(AtCapacity):
        publish(hub)
    assert told == [EndReason.SHUTDOWN]
    assert not hub.holds("c1")
    await hub.drained()


async def test_a_retiring_server_serves_its_connections_and_accepts_no_new_ones():
    (sockets,) = listen_shared("http", "127.0.0.1", 0, 1)
    kept = [one.dup() for one in sockets]  # as the master does
    port = port_of(sockets)

    def take(transport, rest, lease):
        transport.write(b"TAKEN ")
        return asyncio.Protocol()

    old = HttpServer(lambda r: Takeover(take) if r.path == "/live" else text(200, "old"), limits())
    new = HttpServer(lambda r: text(200, "new"), limits())
    await old.listen(sockets)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    viewer, viewing = await asyncio.open_connection("127.0.0.1", port)
    viewing.write(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await viewer.readexactly(6) == b"TAKEN "
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    first = await reader.readuntil(b"old\n")
    assert b"Connection: close" not in first
    old.retire()
    waiting, waits = await asyncio.open_connection("127.0.0.1", port)
    waits.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    last = await asyncio.wait_for(reader.read(), at_most(5))
    assert b"Connection: close" in last and last.endswith(b"old\n")
    await new.listen(kept)
    assert await asyncio.wait_for(waiting.readuntil(b"new\n"), at_most(5)), "it waited for the new process"
    assert not viewer.at_eof()
    for one in (writer, viewing, waits):
        one.close()
    await old.close()
    await new.close()
