"""Who may push: right keys at an address where others are wrong, and what wrong ones cost."""

import pytest
import structlog

from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.admission import Admission
from gateway.lib.refusals import Refusals
from gateway.ports.errors import (
    AtCapacity,
    NameInUse,
    NoSuchChannel,
    NotAuthorized,
    StoreUnavailable,
    TooManyRefusals,
)
from gateway.ports.events import Events
from tests.support.builders import FAR, channel
from tests.support.clock import Clock

SECRETS = SigningSecrets("a-secret-for-tests")
GOOD, OLD = SECRETS.sign("c1", FAR), SECRETS.sign("c1", FAR - 1)
HERE = "192.0.2.1"


class Store:
    def __init__(self):
        self.key, self.reads = GOOD, 0

    async def get(self, id):
        self.reads += 1
        if id != "c1":
            raise NoSuchChannel(id)
        return channel("c1", key=self.key)


class Rig:
    def __init__(self, refusals=3):
        self.store, self.clock, self.events = Store(), Clock(1000.0), Events()
        self.told = []
        self.events.listen(self.told.append)
        self.admission = Admission(
            self.store,
            SECRETS,
            self.events,
            publishers_per_address=0,
            refusals=Refusals(refusals),
            monotonic=self.clock,
        )

    async def refusal(self, key, id="c1", address=HERE, **how):
        with pytest.raises((NotAuthorized, TooManyRefusals)) as caught:
            await self.admission.channel(id, key, address, **how)
        self.admission.refuse(id, address, "rtmp", caught.value)
        return type(caught.value)


async def test_a_right_key_is_admitted_where_many_wrong_ones_came_from():
    rig = Rig()
    kinds = [await rig.refusal("1-00") for _ in range(50)]
    assert kinds == [NotAuthorized] * 3 + [TooManyRefusals] * 47
    assert (await rig.admission.channel("c1", GOOD, HERE)).id == "c1"
    assert rig.store.reads == 1, "keys that cannot be genuine cost the store nothing"


async def test_the_minute_ends_and_other_addresses_are_not_concerned():
    rig = Rig()
    for _ in range(4):
        await rig.refusal("1-00")
    assert await rig.refusal("1-00", address="192.0.2.2") is NotAuthorized
    rig.clock.now += 61
    assert await rig.refusal("1-00") is NotAuthorized


async def test_beyond_the_limit_refusals_are_counted_and_not_told():
    rig = Rig()
    with structlog.testing.capture_logs() as lines:
        for _ in range(10):
            await rig.refusal("1-00")
    assert len(lines) == len(rig.told) == 3
    assert rig.admission.refused == {"NotAuthorized": 3, "TooManyRefusals": 7}


async def test_a_revoked_key_reads_the_store_once_a_second_beyond_the_limit():
    rig = Rig()
    for _ in range(3):
        await rig.refusal(OLD)
    assert rig.store.reads == 3
    for _ in range(20):
        await rig.refusal(OLD)
    assert rig.store.reads == 3
    rig.clock.now += 1
    await rig.refusal(OLD)
    assert rig.store.reads == 4


async def test_a_key_that_was_made_the_stored_one_again_is_admitted_within_a_second():
    rig = Rig()
    for _ in range(20):
        await rig.refusal(OLD)
    rig.store.key = OLD
    assert (await rig.admission.channel("c1", OLD, "192.0.2.2")).id == "c1"
    rig.clock.now += 1
    assert (await rig.admission.channel("c1", OLD, HERE)).id == "c1"


async def test_genuine_signs_of_unknown_channels_are_wrong_like_any_other():
    rig = Rig()
    assert await rig.refusal(SECRETS.sign("c2", FAR), id="c2") is NotAuthorized
    assert await rig.refusal(None) is NotAuthorized
    assert await rig.refusal(GOOD, id="../c1") is NotAuthorized


@pytest.mark.parametrize(
    ("id", "key", "reason", "reads"),
    [
        ("c1", None, "missing", 0),
        ("c1", "", "missing", 0),
        ("../c1", None, "missing", 0),
        ("c1", f"{FAR}-{'0' * 64}", "wrong", 0),
        ("../c1", GOOD, "wrong", 0),
        ("c1", SECRETS.sign("c1", 1_000_000_000), "expired", 0),
        ("c1", OLD, "revoked", 1),
        ("c2", SECRETS.sign("c2", FAR), "wrong", 1),
    ],
)
async def test_a_refusal_has_its_reason_and_wrong_keys_cost_no_read(id, key, reason, reads):
    rig = Rig()
    await rig.refusal(key, id=id)
    (told,) = rig.told
    assert told.data["refusal"] == reason
    assert told.data.get("expired") == (1_000_000_000 if reason == "expired" else None)
    assert told.channel == ("" if "/" in id else id)
    assert rig.store.reads == reads


async def test_beyond_the_limit_a_key_has_the_verdict_of_its_last_read():
    rig = Rig(refusals=1)
    assert await rig.refusal(OLD) is NotAuthorized
    for other in ("192.0.2.1", "192.0.2.2"):
        rig.told.clear()
        await rig.refusal(OLD, address=other)
    assert [event.data["refusal"] for event in rig.told] == ["revoked"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NameInUse("c1"), "in_use"),
        (AtCapacity("full"), "full"),
        (StoreUnavailable("away"), None),
        (NotAuthorized("pages of this origin may not push"), None),
    ],
)
def test_load_and_competition_are_reasons_and_an_absent_store_is_none(error, reason):
    rig = Rig()
    rig.admission.refuse("c1", HERE, "rtmp", error)
    (told,) = rig.told
    assert told.data.get("refusal") == reason


async def test_a_listed_proxy_is_not_limited():
    rig = Rig()
    assert {await rig.refusal("1-00", exempt=True) for _ in range(9)} == {NotAuthorized}
