"""What pages at an edge show of a channel while nobody pushes, as the gateways know it."""

from __future__ import annotations

import json

import pytest

from gateway.cluster.members.peers import Peers
from gateway.lib.tasks import Tasks
from proxy.edge.gateways import Gateways, configured_gateways
from proxy.edge.idle_channels import edge_posters
from tests.support import builders
from tests.support.edge import storing
from tests.support.holder import Where, answer, holding

PICTURE = "images/2026/3/1/capture-2026-03-01_00-30-05.jpg"


async def test_the_last_picture_of_an_idle_channel_is_asked_for_once() -> None:
    async with holding() as holder, Peers("cluster") as peers, Tasks("test") as tasks:
        holder.says["c1/snapshot.json"] = answer(json.dumps({"key": f"c1/{PICTURE}"}), "application/json")
        async with storing(Gateways(configured_gateways([holder.place.address])), Where(), peers) as files:
            posters = edge_posters(files, tasks)
            for _ in range(2):
                assert await posters.path(builders.channel("c1")) == f"vod/{PICTURE}"
            assert holder.asked == ["c1/snapshot.json"]
            own = builders.channel("c2", poster="c2/poster/0123456789abcdef.jpg")
            assert await posters.path(own) == "vod/poster/0123456789abcdef.jpg"


@pytest.mark.parametrize("said", ["[]", "{", '{"key": 1}', '{"key": "c2/images/a.jpg"}', None])
async def test_an_edge_has_no_picture_where_no_gateway_names_one_of_the_channel(said: str | None) -> None:
    async with holding() as holder, Peers("cluster") as peers, Tasks("test") as tasks:
        if said is not None:
            holder.says["c1/snapshot.json"] = answer(said, "application/json")
        async with storing(Gateways(configured_gateways([holder.place.address])), Where(), peers) as files:
            assert await edge_posters(files, tasks).path(builders.channel("c1")) is None
