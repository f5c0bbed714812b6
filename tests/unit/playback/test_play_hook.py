"""How long an answer about a viewer is valid."""

from __future__ import annotations

import pytest

from gateway.http.request import Request
from gateway.playback.hooked_playback import HookedPlayback
from gateway.playback.play_hook import ALLOWED, REMEMBERED, PlayHook
from gateway.ports.auth_hook import HookAction, HookMode, HookRequest
from gateway.ports.errors import NoSuchChannel, NotAuthorized
from tests.support.builders import channel
from tests.support.clock import Clock


class Service:
    def __init__(self):
        self.answers, self.asked = {}, []

    def asks(self, action):
        return True

    async def ask(self, request, *, exempt=False):
        self.asked.append(request.name)
        return self.answers.get(request.name)


class Rig:
    def __init__(self, mode=HookMode.BOTH):
        self.service, self.clock, self.refused = Service(), Clock(100.0), {}
        self.hook = PlayHook(self.service, mode, self, self.id_of, self.refused, self.clock)

    async def get(self, id):
        if id != "known":
            raise NoSuchChannel(id)
        return channel("known")

    async def id_of(self, name):
        return "known" if name == "slug" else name

    async def allowed(self, name, *, fetches=False, address="192.0.2.1"):
        return await self.hook.allowed(HookRequest(HookAction.PLAY, name, address), fetches=fetches)


async def test_a_connection_is_asked_about_each_second_and_a_reader_of_files_seldom():
    rig = Rig()
    rig.service.answers = {"a": "a"}
    for fetches, seconds in ((False, REMEMBERED), (True, ALLOWED)):
        rig.service.asked.clear()
        rig.clock.now += 100
        for _ in range(3):
            assert await rig.allowed("a", fetches=fetches) == "a"
        assert rig.service.asked == ["a"]
        rig.clock.now += seconds
        await rig.allowed("a", fetches=fetches)
        assert rig.service.asked == ["a", "a"]


async def test_a_refusal_is_remembered_for_a_second_and_for_one_address():
    rig = Rig()
    for _ in range(2):
        with pytest.raises(NotAuthorized):
            await rig.allowed("a", fetches=True)
    assert (rig.service.asked, rig.refused) == (["a"], {"hook": 2})
    rig.service.answers = {"a": "a"}
    assert await rig.allowed("a", fetches=True, address="192.0.2.2") == "a"
    rig.clock.now += REMEMBERED
    assert await rig.allowed("a", fetches=True) == "a"


async def test_another_name_is_not_asked_about_again():
    rig = Rig()
    rig.service.answers = {"a": "b", "b": "a"}
    assert await rig.allowed("a", fetches=True) == "b"
    assert await rig.allowed("b", fetches=True) == "b"
    assert rig.service.asked == ["a"]


async def test_the_service_gets_the_id_of_a_slug():
    rig = Rig()
    rig.service.answers = {"known": "known"}
    assert await rig.allowed("slug") == "slug"
    assert rig.service.asked == ["known"]


async def test_only_unknown_names_are_asked_about():
    rig = Rig(HookMode.UNKNOWN)
    assert await rig.allowed("known") == "known"
    with pytest.raises(NotAuthorized):
        await rig.allowed("other")
    assert rig.service.asked == ["other"]


class Router:
    def requested_file(self, request):
        return request.path.split("/")[1]

    async def refusal(self, request, name):
        return None


@pytest.mark.parametrize(
    ("raw", "location"),
    [
        ("/a@720p/live.m3u8", "/b@720p/live.m3u8?x=1"),
        ("/%61/vod/%E2%98%83%3F.mp4", "/b/vod/%E2%98%83%3F.mp4?x=1"),
        ("/a/vod/a%20b.mp4", "/b/vod/a%20b.mp4?x=1"),
    ],
)
async def test_an_address_of_another_name_stays_as_it_was_sent(raw, location):
    rig = Rig()
    rig.service.answers = {"a": "b"}
    answer = await HookedPlayback(Router(), rig.hook)(Request("GET", raw, "x=1", {"host": "a"}, "192.0.2.1"))
    assert (answer.status, answer.headers["Location"]) == (307, location)
    assert answer.head()
