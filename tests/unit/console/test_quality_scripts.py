"""How an FLV player changes the quality while it plays: no picture and no sound is lost or comes twice; with node."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.node import run

# The gateway: each socket first gets the pictures since the last key frame, as a player that begins does.
# A quality has `lag` (seconds behind the source), `shift` (ms of its decode times before those of presentation) and
# `gop` (pictures). The first byte of each body's data is the number of its quality.
_GATEWAY = """
let now = input.begins;
performance.now = () => now;
const looks = [], sockets = [];
globalThis.setInterval = (look) => looks.push(look);
globalThis.clearInterval = () => undefined;
globalThis.location = { protocol: "http:" };
const names = Object.keys(input.levels);
globalThis.WebSocket = class {
  constructor(url) {
    this.name = decodeURIComponent(url).includes("@480p") ? "480p" : "source";
    this.level = input.levels[this.name];
    this.opened = now;
    sockets.push(this);
  }
  close() { this.closed = true; }
  send(...parts) { this.onmessage?.({ data: Uint8Array.from(parts.flat()).buffer }); }
  brings() {
    if (this.closed || now < this.opened + 40 || input.silent?.includes(this.name) && now > input.silence) return;
    if (this.due === undefined) {
      this.send([0x46, 0x4c, 0x56, 1, 5, 0, 0, 0, 9, 0, 0, 0, 0], tag(9, 0, [0x17, 0, 0, 0, 0]), tag(8, 0, [0xaf, 0]));
      const newest = Math.floor((now - this.level.lag * 1000) / FRAME);
      this.due = newest - newest % this.level.gop;
      this.sound = Math.ceil((this.due * FRAME - this.level.shift) / SOUND);
    }
    const number = names.indexOf(this.name);
    for (; this.due * FRAME + this.level.lag * 1000 <= now; this.due++) {
      const pts = Math.round(this.due * FRAME), dts = pts - this.level.shift;
      const key = this.due % this.level.gop === 0;
      for (; this.sound * SOUND < dts; this.sound++) {
        this.send(tag(8, Math.round(this.sound * SOUND), [0xaf, 1, number]));
      }
      this.send(tag(9, dts, [key ? 0x17 : 0x27, 1, 0, pts - dts >> 8, pts - dts & 255, number]));
    }
  }
};
const FRAME = 1000 / 15, SOUND = 1024 / 44.1;
function tag(type, time, body) {
  const times = [time >> 16 & 255, time >> 8 & 255, time & 255, time >> 24];
  return [type, 0, 0, body.length, ...times, 0, 0, 0, ...body, 0, 0, 0, 11 + body.length];
}
function passes(seconds) {
  for (const end = now + seconds * 1000; now < end; now += 20) {
    for (const socket of sockets) socket.brings();
    if (now % 240 === 0) for (const look of looks) look();
  }
}
"""
_CHANGE = """
const pictures = [], sound = [], holes = [], changes = [];
const status = { bitrate: 2e6, renditions: [{ name: "480p", bitrate: 1e6, outputs: ["flv"] }] };
const changed = () => changes.push(pictures.length);
const hole = (...times) => holes.push(times);
const owner = { changed, hole, tags: (tags) => tags.forEach(took), ended: () => undefined };
function took({ type, time, body }) {
  if (type === 9 && body[1] === 1) pictures.push([time + (body[3] << 8 | body[4]), names[body[5]], time]);
  if (type === 8 && body[1] === 1) sound.push(time);
}
const live = { status, renew: async () => null };
const stream = new FlvStream("ws://gateway/live/c1.flv", () => now, live, input.from, owner);
passes(input.before);
stream.quality(input.to);
passes(8);
stream.close();
out({ pictures, sound, holes, changes, open: sockets.filter(({ closed }) => !closed).length });
"""


def change(*, of: str = "480p", to: str = "source", before: float = 4.0, **fields: Any) -> dict[str, Any]:
    """Plays `of`, and chooses `to` after `before` seconds."""
    given = {"from": of, "to": to, "before": before, "begins": 20_000, **fields}
    found: dict[str, Any] = run("players/flv-stream.js", "FlvStream", _CHANGE, given, before=_GATEWAY)
    assert found["open"] == 0, "connections stay open"
    names = [name for _, name, _ in found["pictures"]]
    assert found["changes"] == [at for at in range(1, len(names)) if names[at] != names[at - 1]]
    return found


def levels(lag: float, shift: int, gop: int = 15) -> dict[str, Any]:
    return {"source": {"lag": 0, "shift": 133, "gop": 15}, "480p": {"lag": lag, "shift": shift, "gop": gop}}


@pytest.mark.parametrize(("of", "to"), [("480p", "source"), ("source", "480p")])
@pytest.mark.parametrize(("lag", "shift"), [(0.3, 0), (0.3, 133), (1.5, 0), (1.5, 133), (0.3, 267), (0.0, 0)])
@pytest.mark.parametrize("before", [4.0, 4.6])
def test_a_change_loses_no_picture_and_no_sound(of: str, to: str, lag: float, shift: int, before: float) -> None:
    found = change(of=of, to=to, before=before, levels=levels(lag, shift))
    shown = [time for time, _, _ in found["pictures"]]
    assert [name for name, _ in itertools.groupby(name for _, name, _ in found["pictures"])] == [of, to]
    assert {later - earlier for earlier, later in itertools.pairwise(shown)} == {66, 67}
    sound = [later - earlier for earlier, later in itertools.pairwise(found["sound"])]
    assert min(sound) >= 23
    # A connection begins with the sound beside its first key frame, which is later if its decode times are less early.
    assert max(sound) <= 24 + max(0, shift - 133 if of == "480p" else 133 - shift)
    assert sum(one > 24 for one in sound) <= 1
    assert found["holes"] == []


@pytest.mark.parametrize(("of", "to"), [("480p", "source"), ("source", "480p")])
def test_key_frames_at_other_times_delay_a_change_and_lose_nothing(of: str, to: str) -> None:
    found = change(of=of, to=to, levels=levels(1.0, 0, gop=22))
    shown = [time for time, _, _ in found["pictures"]]
    assert [name for name, _ in itertools.groupby(name for _, name, _ in found["pictures"])] == [of, to]
    assert max(later - earlier for earlier, later in itertools.pairwise(shown)) <= 67


def test_a_rendition_without_new_pictures_is_replaced_by_the_source() -> None:
    found = change(levels=levels(1.0, 0), silent=["480p"], silence=24_200)
    assert found["pictures"][-1][1] == "source"
    assert found["pictures"][-1][0] > 31_500


def test_a_rendition_that_brings_nothing_more_does_not_stop_the_source() -> None:
    found = change(of="source", to="480p", levels=levels(0.3, 133), silent=["480p"], silence=24_100)
    assert {name for _, name, _ in found["pictures"]} == {"source"}
    assert found["pictures"][-1][0] > 31_500
    shown = [time for time, _, _ in found["pictures"]]
    assert {later - earlier for earlier, later in itertools.pairwise(shown)} == {66, 67}
