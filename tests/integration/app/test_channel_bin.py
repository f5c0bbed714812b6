"""A deleted channel in the bin of a real gateway: its push ends, its key is refused, and all of it returns."""

from tests.support.clients import push, until
from tests.support.gateway import running
from tests.support.media import Film
from tests.support.tools import need

FILM = Film("channel bin", seconds=20, size="320x180")
INPUTS = [{"name": "main", "kind": "push"}, {"name": "spare", "kind": "backup"}, {"name": "card", "kind": "slate"}]


def test_an_encoder_pushes_with_its_old_key_after_the_restoration() -> None:
    need("ffmpeg")
    with running() as gateway:
        channel = gateway.channel(videoname="Stage", slug="stage", isHls=True, inputs=INPUTS)
        path = f"/videostream/{channel.id}"
        before = gateway.api("GET", path).json()
        with push(FILM, channel.push, loop=True) as encoder:
            channel.wait_playable("live.m3u8")
            assert gateway.api("DELETE", path).status == 200
            until(lambda: encoder.process.poll() is not None, "the push ends")
        assert gateway.api("GET", path).status == 404
        (deleted,) = gateway.api("GET", "/bin").json()
        assert (deleted["id"], deleted["kind"], deleted["title"]) == (channel.id, "channel", "Stage")
        with push(FILM, channel.push) as encoder:
            until(lambda: encoder.process.poll() is not None, "the key is refused while the channel is in the bin")
        assert gateway.api("POST", f"/bin/{channel.id}/restore").status == 200
        assert gateway.api("GET", path).json() == before
        with push(FILM, channel.push, loop=True):
            channel.wait_playable("live.m3u8")
        assert gateway.api("GET", "/bin").json() == []
