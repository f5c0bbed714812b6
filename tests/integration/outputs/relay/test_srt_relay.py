"""Relays to SRT listeners: ffmpeg, srt-live-transmit and another gateway get every frame, also after a restart."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.at_night import at_night
from tests.support.clients import Program, new_ffmpeg, probe, pull, push, take_of, take_of_cut, until
from tests.support.free_ports import free_port
from tests.support.gateway import Channel, Gateway, running
from tests.support.link_conditions import Conditions
from tests.support.media import BFRAMES, PLAIN, Film, Take, judge
from tests.support.srt import PATIENT
from tests.support.srt_link import udp_link
from tests.support.time_outs import at_most
from tests.support.tools import need

LAB = {"MILLRACE_EGRESS__ALLOW": "127.0.0.0/8", "MILLRACE_STREAM__LINGER": "1", **PATIENT}
PASSPHRASE = "a passphrase, secret"


@pytest.fixture(scope="module")
def gateways() -> Iterator[tuple[Gateway, Gateway]]:
    """Yields a gateway that relays and a gateway that is the target."""
    need("ffmpeg")
    with running(**LAB) as near, running(**PATIENT) as far:
        yield near, far


def srt(channel: Channel, **query: object) -> str:
    """The address to push to over SRT."""
    more = "".join(f"&{name}={value}" for name, value in query.items())
    stream_id = f"publish:{channel.id}%3Fsign%3D{channel.key}"
    return f"srt://127.0.0.1:{channel.gateway.ports['srt']}?streamid={stream_id}{more}"


def reaches(channel: Channel, state: str, also: Callable[[dict[str, Any]], bool] = lambda t: True) -> dict[str, Any]:
    """Returns the first target's report once it is in this state."""

    def there() -> dict[str, Any] | None:
        relay = next(o for o in channel.session()["outputs"] if o["name"] == "relay")
        found = next(iter(relay.get("targets", ())), None)
        return found if found and found["state"] == state and also(found) else None

    return dict(until(there, f"the relay's target is {state}"))


@pytest.mark.parametrize("film", [BFRAMES, *at_night(PLAIN)], ids=["b-frames", "plain"])
def test_a_second_gateway_gets_every_frame(gateways: tuple[Gateway, Gateway], film: Film) -> None:
    near, far = gateways
    there = far.channel("there")
    here = near.channel("here", isRelay=True, relayURL=[srt(there, latency=200)])
    shown = near.api("GET", f"/videostream/{here.id}").json()["relayURL"]
    assert shown == [f"srt://127.0.0.1:{far.ports['srt']}?********"]
    with push(film, here.push):
        here.wait_live()
        there.wait_live()
        with pull(there.url("live.flv"), seconds=3.5) as player:
            take = take_of(player)
        report = reaches(here, "live", lambda t: t["sent"] > 100_000)
        assert report["error"] is None and report["dropped"] == 0
    judge(take, film, least=3, cut=True)
    assert there.key not in str(here.session()) + near.log
    until(lambda: there.session()["state"] != "live", "the end was passed on")


def test_a_target_with_a_passphrase_gets_every_frame(gateways: tuple[Gateway, Gateway]) -> None:
    near, far = gateways
    there = far.channel("there", srtPassphrase=PASSPHRASE)
    secret = PASSPHRASE.replace(" ", "%20").replace(",", "%2C")
    here = near.channel("here", isRelay=True, relayURL=srt(there, passphrase=secret, pbkeylen=32))
    with push(PLAIN, here.push):
        there.wait_live()
        with pull(there.url("live.flv"), seconds=3.5) as player:
            take = take_of(player)
    judge(take, PLAIN, least=3)
    assert PASSPHRASE not in near.log and secret not in near.log


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda there, url: url[:-4] + "beef", "refused: the key is missing or wrong (1401)"),
        (lambda there, url: url.replace(there.id, "nobody0123"), "refused: "),
        (
            lambda there, url: url + "&passphrase=not-the-right-one",
            "refused: a passphrase is required, or not expected",
        ),
    ],
    ids=["wrong key", "no channel", "unexpected passphrase"],
)
def test_a_refusal_is_told_in_words_without_secrets(
    gateways: tuple[Gateway, Gateway], change: Callable[[Channel, str], str], words: str
) -> None:
    near, far = gateways
    there = far.channel("there")
    here = near.channel("here", isRelay=True, relayURL=change(there, srt(there)))
    with push(PLAIN, here.push):
        here.wait_live()
        report = reaches(here, "retrying")
        assert report["error"].startswith(words)
        failures = near.api("GET", f"/events?channel={here.id}&limit=50").json()
        for secret in (there.key[11:30], "not-the-right-one"):
            assert secret not in str(here.session()) + near.log + str(failures)


def test_a_wrong_passphrase_is_named(gateways: tuple[Gateway, Gateway]) -> None:
    near, far = gateways
    there = far.channel("there", srtPassphrase=PASSPHRASE)
    here = near.channel("here", isRelay=True, relayURL=srt(there, passphrase="another-passphrase"))
    with push(PLAIN, here.push):
        here.wait_live()
        assert "passphrase" in reaches(here, "retrying")["error"]


@contextlib.contextmanager
def ffmpeg_target(port: int, out: Path, *query: str) -> Iterator[Program]:
    """ffmpeg that listens, and stores what it gets."""
    url = "&".join((f"srt://127.0.0.1:{port}?mode=listener", *query))
    with Program(["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", url, "-c", "copy", str(out)]) as program:
        yield program


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.nightly
def test_ffmpeg_as_listener_survives_its_own_death(gateways: tuple[Gateway, Gateway], tmp_path: Path) -> None:
    """The gateway finds the dead peer after 5 s, and the new one within two seconds of its start."""
    near, _ = gateways
    port = free_port()
    here = near.channel("here", isRelay=True, relayURL=[f"srt://127.0.0.1:{port}?passphrase=0123456789abc&pbkeylen=24"])
    with push(PLAIN, here.push, loop=True):
        here.wait_live()
        with ffmpeg_target(port, tmp_path / "a.ts", "passphrase=0123456789abc", "pbkeylen=24") as first:
            reaches(here, "live")
            until(lambda: size(tmp_path / "a.ts") > 100_000, "the first target stores it")
            first.kill()
        assert reaches(here, "retrying")["error"]
        with ffmpeg_target(port, tmp_path / "b.ts", "passphrase=0123456789abc", "pbkeylen=24"):
            began = time.monotonic()
            report = reaches(here, "live")
            assert time.monotonic() - began < at_most(4)
            assert report["error"] is None and report["attempts"] >= 2
            until(lambda: size(tmp_path / "b.ts") > 100_000, "the second target stores it")
    events = [e["type"] for e in near.api("GET", f"/events?channel={here.id}&limit=50").json()]
    assert "output.failed" in events
    with pull(str(tmp_path / "b.ts"), seconds=None) as player:
        take = take_of(player)
    judge(Take(take.video[:-1], take.audio[:-1]), PLAIN, least=1)  # the kill cuts the last frames


def test_a_target_that_restarts_gets_the_stream_again_at_once(gateways: tuple[Gateway, Gateway]) -> None:
    need("srt-live-transmit")
    near, _ = gateways
    port = free_port()
    command = ["srt-live-transmit", "-q", f"srt://127.0.0.1:{port}?mode=listener", "file://con"]
    here = near.channel("here", isRelay=True, relayURL=[f"srt://127.0.0.1:{port}"])
    with push(PLAIN, here.push, loop=True):
        with Program(command) as first:
            here.wait_live()
            until(lambda: len(output_of(first)) > 100_000, "it is received")
            first.stop()  # its end is told, so nobody waits for a silence
        began = time.monotonic()
        with Program(command) as second:
            until(lambda: len(output_of(second)) > 100_000, "it is received again")
            assert time.monotonic() - began < at_most(5)
            assert reaches(here, "live")["attempts"] >= 2


def test_srt_live_transmit_gets_an_intact_transport_stream(gateways: tuple[Gateway, Gateway], tmp_path: Path) -> None:
    need("srt-live-transmit")
    near, _ = gateways
    port, out = free_port(), tmp_path / "out.ts"
    here = near.channel("here", isRelay=True, relayURL=[f"srt://127.0.0.1:{port}?latency=300"])
    command = ["srt-live-transmit", "-q", f"srt://127.0.0.1:{port}?mode=listener&latency=100", "file://con"]
    with Program(command) as program, push(PLAIN, here.push):
        here.wait_live()
        reaches(here, "live", lambda t: t["sent"] > 200_000)
        until(lambda: len(output_of(program)) > 200_000, "it is received")
        out.write_bytes(output_of(program))
    stream = out.read_bytes()
    assert set(stream[::188]) == {0x47}
    assert probe(out)["video"]["codec_name"] == "h264"
    judge(take_of_cut(out), PLAIN, least=1)


def output_of(program: Program) -> bytes:
    """The standard output of a program, until now."""
    return Path(f"/proc/{program.process.pid}/fd/1").read_bytes()


def test_opus_is_left_out_with_a_warning_and_av1_is_refused(gateways: tuple[Gateway, Gateway]) -> None:
    near, far = gateways
    there = far.channel("there")
    here = near.channel("here", isRelay=True, relayURL=[srt(there)])
    film = Film("opus", seconds=12, audio="libopus", ffmpeg=new_ffmpeg())
    with push(film, here.push, ffmpeg=new_ffmpeg()):
        here.wait_live()
        report = reaches(here, "live")
        assert report["warnings"] == ["the sound is left out: a transport stream cannot carry opus"]
        there.wait_live()
        there.wait_playable("live.m3u8")
    until(lambda: here.session()["state"] != "live", "the first push has ended")
    film = Film("av1", seconds=12, video="libsvtav1", ffmpeg=new_ffmpeg())
    with push(film, here.push, ffmpeg=new_ffmpeg()):
        here.wait_live()
        report = reaches(here, "failed")
        assert report["error"] == "SRT carries H.264 and H.265 video in a transport stream, and this is av1"


def test_a_latency_that_is_too_short_for_the_link_has_a_warning_with_the_latency_it_needs() -> None:
    with (
        running(MILLRACE_EGRESS__ALLOW="127.0.0.0/8") as near,
        running() as far,
        udp_link(far.ports["srt"], Conditions(loss=3, delay=100)) as thin,
    ):
        there = far.channel("there")
        address = srt(there).replace(str(far.ports["srt"]), str(thin.port))
        here = near.channel("here", isRelay=True, relayURL=[address])
        with push(PLAIN, here.push, loop=True):
            here.wait_live()
            report = reaches(here, "live", lambda t: bool(t["warnings"]))
            text, needed = re.fullmatch(r"(.*, and this link needs )(\d+) ms", report["warnings"][0]).groups()  # type: ignore[union-attr]
            assert text == "lost packets come too late: the latency is 120 ms, and this link needs "
            assert 800 <= int(needed) < 2_000
            changed = {"relayURL": [f"{address}&latency={needed}"]}
            assert near.api("PUT", f"/videostream/{here.id}", changed).status == 200
            before = reaches(here, "live", lambda t: not t["warnings"])["sent"]
            assert reaches(here, "live", lambda t: t["sent"] > before + 300_000)["warnings"] == []


def test_an_address_outside_the_policy_is_not_called(gateways: tuple[Gateway, Gateway]) -> None:
    near, _ = gateways
    here = near.channel("here", isRelay=True, relayURL=["srt://10.1.2.3:9000?streamid=x"])
    with push(PLAIN, here.push):
        here.wait_live()
        assert "egress.allow" in reaches(here, "failed")["error"]
