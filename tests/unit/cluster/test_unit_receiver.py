"""Receiving a rendition from a worker that replaces another one: time does not go back."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.cluster.streams.unit_receiver import UnitReceiver
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import SinkNeeds
from gateway.media.track import AccessUnit, Tracks
from gateway.protocols import wire
from gateway.protocols.nodes import LinkMessage
from gateway.protocols.wire import StreamMessage
from tests.support import builders
from tests.support.builders import picture

RUNG = "c1@360p"


class Transport:
    """The parts of a transport that a receiver uses."""

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return False


class Lease:
    def release(self) -> None: ...


def publisher(hub: Hub) -> StreamPublisher:
    return hub.publish_from(PushOrigin("t", "", keep_time=True), builders.channel(), RUNG, lambda reason: None)


def taken(by: StreamPublisher, *units: AccessUnit, keep_time: bool) -> UnitReceiver:
    """A receiver to which a worker has pushed these units."""
    taker = UnitReceiver(cast(Any, Transport()), cast(Any, Lease()), RUNG, keep_time)
    tracks = wire.frame(StreamMessage.TRACKS, wire.encode_tracks(Tracks(builders.VIDEO, None, 0, {})))
    taker.begin(by, tracks + b"".join(wire.frame(StreamMessage.UNIT, wire.encode_unit(unit)) for unit in units))
    return taker


@pytest.mark.parametrize(("keep_time", "times"), [(True, [160, 200]), (False, [0, 40, 80, 120, 160, 200])])
async def test_units_that_the_stream_already_has_are_skipped_until_a_key_frame(
    keep_time: bool, times: list[int]
) -> None:
    hub = builders.hub()
    before = publisher(hub)
    taken(before, picture(0, True), picture(40), picture(80), keep_time=keep_time).connection_lost(None)
    recorder = builders.Recorder()
    before.stream.attach(recorder, SinkNeeds(cache=False))
    units = (picture(0, True), picture(40), picture(80), picture(120), picture(160, True), picture(200))
    taken(publisher(hub), *units, keep_time=keep_time).connection_lost(None)
    assert [unit.dts for unit in recorder.units] == times


async def test_the_first_worker_of_a_rung_begins_with_its_first_picture() -> None:
    hub = builders.hub()
    first = publisher(hub)
    recorder = builders.Recorder()
    first.stream.attach(recorder)
    taken(first, picture(0, True), picture(40), keep_time=True).connection_lost(None)
    assert [unit.dts for unit in recorder.units] == [0, 40]


async def test_the_node_with_the_stream_knows_unusable_tracks() -> None:
    hub = builders.hub()
    by = publisher(hub)
    taker = taken(by, picture(0, True), keep_time=False)
    fields = {"leftOut": {"DTS": "audio"}, "reasons": ["", ""]}
    taker.data_received(wire.frame(LinkMessage.UNUSABLE, wire.write_json(fields)))
    assert by.unusable.left_out_text == "The encoder sends DTS: choose AAC."
    taker.data_received(wire.frame(LinkMessage.UNUSABLE, wire.write_json({})))
    assert by.unusable.left_out_text == ""
    taker.connection_lost(None)
