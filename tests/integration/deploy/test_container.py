"""The image of the Dockerfile in a real container: its rights, its end, and its data."""

from __future__ import annotations

import pytest

from tests.support.clients import pull, push, take_of
from tests.support.containers import Container, build, container, need_containers, plays, podman, volume
from tests.support.gateway import Channel
from tests.support.media import Film, judge

# The base image and the image of the Dockerfile take minutes.
pytestmark = pytest.mark.nightly

FILM = Film("contained", seconds=20)


def test_a_push_plays_from_a_read_only_container_without_rights(data: str) -> None:
    with container(data) as gateway:
        assert "millrace" in gateway.run("cat", "/proc/1/cmdline")
        fields = gateway.rights()
        assert fields["Uid"].split() == fields["Gid"].split() == ["10001"] * 4
        assert {fields[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
        assert fields["NoNewPrivs"] == "1"
        channel = gateway.channel()
        with push(FILM, channel.push):
            plays(channel, FILM, seconds=6)


def test_a_container_that_is_stopped_while_it_starts_ends_in_time(data: str) -> None:
    gateway = Container(data)
    try:
        assert gateway.stop() == 0, gateway.log
    finally:
        gateway.remove()


def test_an_image_may_have_fewer_fonts_and_names_the_others() -> None:
    need_containers()
    small = build("--build-arg=FONTS=fonts-dejavu-core", tag="localhost/millrace-tests:few-fonts")
    said = podman("run", "--rm", "--no-healthcheck", small, "doctor")
    assert "(Debian: fonts-noto-core, fonts-noto-cjk, fonts-noto-color-emoji)" in said, said


def test_an_edge_in_a_container_plays_the_streams_of_a_gateway_in_another(data: str) -> None:
    secret = {"MILLRACE_CLUSTER__SECRET": "known to both containers of this test"}
    with container(data, **secret) as gateway, volume() as own:
        address = f"{gateway.address}:8080"
        with container(own, arguments=("edge",), MILLRACE_EDGE__UPSTREAM=address, **secret) as edge:
            channel = gateway.channel()
            with push(FILM, channel.push):
                channel.wait_playable("live.m3u8")
                with pull(Channel(edge, channel.item).url("live.flv"), seconds=5) as player:
                    judge(take_of(player), FILM)
