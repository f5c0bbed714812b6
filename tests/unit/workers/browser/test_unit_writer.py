"""The output of a browser worker, and its order."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks
from gateway.workers.programs.unit_writer import UnitWriter
from tests.support.builders import AUDIO, VIDEO, picture, sound

BOTH = (Kind.VIDEO, Kind.AUDIO)
OTHER = MediaTrack(Kind.VIDEO, VIDEO.codec, 1000, VIDEO.config + b"\0")


class Heard:
    """The messages that the gateway would receive."""

    def __init__(self) -> None:
        self.items: list[Tracks | AccessUnit] = []

    def send_tracks(self, tracks: Tracks) -> None:
        self.items.append(tracks)

    def send_units(self, units: Iterable[AccessUnit]) -> None:
        self.items.extend(units)

    def said(self) -> list[object]:
        return [(i.video, i.audio, i.epoch) if isinstance(i, Tracks) else i.dts for i in self.items]


def outlet() -> tuple[UnitWriter, Heard]:
    heard = Heard()
    return UnitWriter(heard.send_tracks, heard.send_units), heard


def test_units_wait_for_the_announced_track() -> None:
    out, heard = outlet()
    out.open(BOTH)
    out.set_track(AUDIO)
    out.send_units([sound(0), sound(21)])
    assert heard.said() == []
    out.set_track(VIDEO)
    out.send_units([picture(30, key=True)])
    assert heard.said() == [(VIDEO, AUDIO, 1), 0, 21, 30]
    out.send_units([sound(42)])
    assert heard.said()[-1] == 42


def test_units_wait_at_most_a_second_for_a_missing_track() -> None:
    out, heard = outlet()
    out.open(BOTH)
    out.set_track(AUDIO)
    for n in range(60):
        out.send_units([sound(n * 20)])
    assert heard.said()[:2] == [(None, AUDIO, 1), 0]
    assert len(heard.items) == 61
    out.set_track(VIDEO)
    out.send_units([picture(1200, key=True)])
    assert heard.said()[-2:] == [(VIDEO, AUDIO, 1), 1200]


def test_a_changed_track_is_sent_before_its_units() -> None:
    out, heard = outlet()
    out.open((Kind.VIDEO,))
    for track, time in ((VIDEO, 0), (VIDEO, 40), (OTHER, 80)):
        out.set_track(track)
        out.send_units([picture(time, track=track)])
    assert heard.said() == [(VIDEO, None, 1), 0, 40, (OTHER, None, 1), 80]


def test_units_that_wait_during_a_change_keep_their_old_track() -> None:
    out, heard = outlet()
    out.open(BOTH)
    out.set_track(VIDEO)
    out.send_units([picture(0)])
    out.set_track(OTHER)
    out.send_units([picture(40, track=OTHER)])
    assert heard.said() == [(VIDEO, None, 1), 0, (OTHER, None, 1), 40]


def test_another_recording_begins_another_epoch() -> None:
    out, heard = outlet()
    for _ in range(2):
        out.open((Kind.VIDEO,))
        out.set_track(VIDEO)
        out.send_units([picture(0)])
    assert heard.said() == [(VIDEO, None, 1), 0, (VIDEO, None, 2), 0]


def test_the_end_sends_waiting_units() -> None:
    out, heard = outlet()
    out.open(BOTH)
    out.set_track(VIDEO)
    out.send_units([picture(0)])
    out.flush()
    assert heard.said() == [(VIDEO, None, 1), 0]


def test_units_do_not_wait_above_a_number_of_bytes() -> None:
    out, heard = outlet()
    out.open(BOTH)
    out.set_track(VIDEO)
    for n in range(9):
        out.send_units([picture(n, size=1_000_000)])
    assert len(heard.items) == 10
