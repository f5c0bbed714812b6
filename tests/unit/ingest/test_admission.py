"""Admission of publishers: valid keys at an address with many wrong ones, and the cost of wrong keys."""

from types import SimpleNamespace

import pytest
import structlog

from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.admission import Admission, PublishHook, PushRequest
from gateway.ingest.push import CHECKED_SECONDS, Push
from gateway.lib.refusals import Refusals
from gateway.ports.auth_hook import HookMode
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
    def __init__(self, refusals=3, hook=None):
        self.store, self.clock, self.events = Store(), Clock(1000.0), Events()
        self.told = []
        self.events.listen(self.told.append)
        self.admission = Admission(
            self.store,
            SECRETS,
            self.events,
            publishers_per_address=0,
            refusals=Refusals(refusals),
            hook=hook,
            monotonic=self.clock,
        )

    async def admit(self, id, key, address, **how):
        return await self.admission.admit(PushRequest(id, key, address, "rtmp", **how))

    async def refusal(self, key, id="c1", address=HERE, **how):
        with pytest.raises((NotAuthorized, TooManyRefusals)) as caught:
            await self.admit(id, key, address, **how)
        self.admission.refuse(id, address, "rtmp", caught.value)
        return type(caught.value)


async def test_a_valid_key_is_admitted_after_many_wrong_ones_from_its_address():
    rig = Rig()
    kinds = [await rig.refusal("1-00") for _ in range(50)]
    assert kinds == [NotAuthorized] * 3 + [TooManyRefusals] * 47
    assert (await rig.admit("c1", GOOD, HERE)).id == "c1"
    assert rig.store.reads == 1, "keys that cannot be genuine cost the store nothing"


async def test_the_refusal_limit_is_per_address_and_lasts_a_minute():
    rig = Rig()
    for _ in range(4):
        await rig.refusal("1-00")
    assert await rig.refusal("1-00", address="192.0.2.2") is NotAuthorized
    rig.clock.now += 61
    assert await rig.refusal("1-00") is NotAuthorized


async def test_refusals_above_the_limit_are_counted_but_not_logged():
    rig = Rig()
    with structlog.testing.capture_logs() as lines:
        for _ in range(10):
            await rig.refusal("1-00")
    assert len(lines) == len(rig.told) == 3
    assert rig.admission.refused == {"NotAuthorized": 3, "TooManyRefusals": 7}


async def test_above_the_limit_a_revoked_key_reads_the_store_once_a_second():
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


async def test_a_key_that_becomes_valid_again_is_admitted_within_a_second():
    rig = Rig()
    for _ in range(20):
        await rig.refusal(OLD)
    rig.store.key = OLD
    assert (await rig.admit("c1", OLD, "192.0.2.2")).id == "c1"
    rig.clock.now += 1
    assert (await rig.admit("c1", OLD, HERE)).id == "c1"


async def test_a_genuine_key_for_an_unknown_channel_is_refused_like_a_wrong_key():
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
async def test_refusals_have_a_reason_and_wrong_keys_do_not_read_the_store(id, key, reason, reads):
    rig = Rig()
    await rig.refusal(key, id=id)
    (told,) = rig.told
    assert told.data["refusal"] == reason
    assert told.data.get("expired") == (1_000_000_000 if reason == "expired" else None)
    assert told.channel == ("" if "/" in id else id)
    assert rig.store.reads == reads


async def test_a_cached_refusal_keeps_its_reason():
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
def test_only_some_errors_have_a_public_refusal_reason(error, reason):
    rig = Rig()
    rig.admission.refuse("c1", HERE, "rtmp", error)
    (told,) = rig.told
    assert told.data.get("refusal") == reason


async def test_a_trusted_proxy_has_no_refusal_limit():
    rig = Rig()
    assert {await rig.refusal("1-00", exempt=True) for _ in range(9)} == {NotAuthorized}


class Service:
    """An auth hook with answers by name. Others are refused."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def asks(self, action):
        return True

    async def ask(self, request, *, exempt=False):
        self.asked.append(request.name)
        return self.answers.get(request.name)


async def test_a_valid_sign_needs_the_permission_of_the_hook_too():
    service = Service(c1="c1")
    rig = Rig(hook=PublishHook(service, HookMode.BOTH))
    await rig.refusal("1-00")
    assert not service.asked
    assert (await rig.admit("c1", GOOD, HERE)).id == "c1"
    service.answers = {}
    with pytest.raises(NotAuthorized) as caught:
        await rig.admit("c1", GOOD, HERE)
    assert caught.value.reason == "hook"


@pytest.mark.parametrize("mode", [HookMode.BOTH, HookMode.INSTEAD])
async def test_the_hook_may_choose_another_channel(mode):
    service = Service(c1="c1", secret="c1")
    rig = Rig(hook=PublishHook(service, mode))
    if mode is HookMode.INSTEAD:
        for key in (None, "1-00", GOOD):
            assert (await rig.admit("secret", key, HERE)).id == "c1"
    else:
        await rig.refusal(GOOD, "secret")
    service.answers = {"c1": "nobody"}
    assert await rig.refusal(GOOD) is NotAuthorized
    service.answers = {"c1": "no/name"}
    assert await rig.refusal(GOOD) is NotAuthorized


async def test_the_sign_of_a_channel_decides_if_only_unknown_names_are_asked():
    made = []

    async def make(id):
        made.append(id)
        return channel(id)

    service = Service(c1="c1", new="new")
    rig = Rig(refusals=10, hook=PublishHook(service, HookMode.UNKNOWN, make))
    assert (await rig.admit("c1", GOOD, HERE)).id == "c1"
    for key in (None, "1-00", OLD):
        await rig.refusal(key)
    assert not service.asked
    assert (await rig.admit("new", None, HERE)).id == "new"
    await rig.refusal(None, "other")
    await rig.refusal(None, "new", input="backup")
    assert (service.asked, made) == (["new", "other", "new"], ["new", "new"])


async def test_refusals_of_the_hook_count_for_their_address():
    rig = Rig(hook=PublishHook(Service(), HookMode.INSTEAD))
    kinds = [await rig.refusal(None, "a") for _ in range(5)]
    assert kinds == [NotAuthorized] * 3 + [TooManyRefusals] * 2


class Publishers:
    """Gives a publisher of no stream, and counts them."""

    def __init__(self):
        self.given = 0

    async def __call__(self, channel, origin, evict, input=""):
        self.given += 1


@pytest.mark.parametrize("wait", [0.0, CHECKED_SECONDS + 1])
async def test_a_key_that_is_revoked_long_after_its_check_begins_no_push(monkeypatch, wait):
    rig, publishers, clock = Rig(), Publishers(), Clock(5.0)
    monkeypatch.setattr("gateway.ingest.push.time", SimpleNamespace(monotonic=clock))
    push = Push(rig.admission, publishers, PushRequest("c1", GOOD, HERE, "rtsp"))
    await push.check_key()
    rig.store.key = SECRETS.sign("c1", FAR - 2)
    clock.now += wait
    if not wait:  # no second question to the store and the auth hook
        await push.begin(lambda reason: None)
        assert (publishers.given, rig.store.reads) == (1, 1)
        return
    with pytest.raises(NotAuthorized, match="revoked"):
        await push.begin(lambda reason: None)
    assert not publishers.given and rig.told[-1].data["refusal"] == "revoked"
