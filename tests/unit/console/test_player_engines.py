"""The engines of the player pages, executed with node: what they do with the element, and with what they were told."""

from __future__ import annotations

from tests.support.node import run

_WHEP = """
const other = { kind: "the stream of the next engine" };
const video = { srcObject: null };
const engine = whepEngine(video, "http://media.test/whep", Date.now, {});
engine.close();
video.srcObject = other;
await new Promise((done) => setImmediate(done)); // the engine sends its offer after two promises
answered({ ok: true, text: async () => "", headers: new Headers(), url: "http://media.test/whep" });
await new Promise((done) => setImmediate(done));
out(video.srcObject === other);
"""
_WEBRTC = """
globalThis.MediaStream = class { addTrack() {} };
globalThis.RTCPeerConnection = class extends EventTarget {
  localDescription = { sdp: "" };
  addTransceiver() {}
  async createOffer() { return { sdp: "" }; }
  async setLocalDescription() {}
  close() {}
};
let answered;
globalThis.fetch = () => new Promise((done) => { answered ??= done; });
"""


def test_the_late_answer_to_a_closed_webrtc_engine_does_not_take_the_element() -> None:
    assert run("players/whep-engine.js", "whepEngine", _WHEP, before=_WEBRTC) is True
