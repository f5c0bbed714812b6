"""GStreamer's webrtcbin as a WHIP publisher or a WHEP viewer: a program for Debian's python3, not for this project's.

    /usr/bin/python3 -P tests/support/gst_webrtc.py whip URL [--seconds 10] [--bearer TOKEN] [--size 640x360]
    /usr/bin/python3 -P tests/support/gst_webrtc.py whep URL [--seconds 10] [--bearer TOKEN] [--sound-only]

-P keeps the `http` of this folder out of the way of Python's own. Debian: gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice
gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav python3-gi. Debian 12 has webrtcbin (GStreamer
1.22), but not whipsink and whepsrc: these are in gst-plugins-rs, which it does not package. So the HTTP exchange is
done here.

Standard output has one JSON object a line: {"event": "connected"} and {"event": "ended", …}; for each video frame sent
or received {"kind": "video", "at": monotonic seconds, "key": …, "sha256": of its slices}; for each sound packet the
same with kind "audio". The exit status is 1 when nothing was sent or received.
"""

import argparse
import hashlib
import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

SENDING = """
webrtcbin name=web bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate=30/1 !
  x264enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max=60 bframes=0 !
  video/x-h264,profile=constrained-baseline ! h264parse name=video config-interval=-1 !
  video/x-h264,stream-format=byte-stream,alignment=au ! rtph264pay aggregate-mode=zero-latency mtu=1200 !
  application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000 ! web.
audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=2 !
  opusenc name=sound frame-size=20 ! rtpopuspay !
  application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2 ! web.
"""
VIDEO = (
    "application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,rtcp-fb-nack=true,"
    "rtcp-fb-nack-pli=true"
)
AUDIO = "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2"
RECEIVING = {
    "H264": "rtph264depay ! h264parse name=out ! video/x-h264,stream-format=byte-stream,alignment=au !"
    " fakesink sync=false",
    "OPUS": "rtpopusdepay name=out ! fakesink sync=false",
}


# Looked up once here, because gi looks up names at first use, which is not safe in several threads.
SENDONLY = GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY
RECVONLY = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
SOURCE_PAD = Gst.PadDirection.SRC
PASS_ON = Gst.PadProbeReturn.OK
GATHERED = GstWebRTC.WebRTCICEGatheringState.COMPLETE
CONNECTED, FAILED = GstWebRTC.WebRTCPeerConnectionState.CONNECTED, GstWebRTC.WebRTCPeerConnectionState.FAILED
_PRINTING = threading.Lock()  # separate threads print the lines of sound and video


def say(**what: object) -> None:
    with _PRINTING:
        print(json.dumps(what), flush=True)


def slices_hash(data: bytes) -> tuple[str, bool]:
    """Returns SHA-256 of the slices of an Annex B access unit, and whether it is a key frame."""
    digest, key = hashlib.sha256(), False
    for unit in data.split(b"\x00\x00\x01"):
        unit = unit.rstrip(b"\x00")
        if unit and unit[0] & 0x1F in (1, 5):
            key = key or unit[0] & 0x1F == 5
            digest.update(unit)
    return digest.hexdigest(), key


class Client:
    """One session, from the offer to the DELETE."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loop = GLib.MainLoop()
        self.session = ""
        self.counts = {"video": 0, "audio": 0}
        self.error = ""
        self.offered = False
        width, height = options.size.split("x")
        if options.way == "whip":
            self.pipeline = Gst.parse_launch(SENDING.format(width=width, height=height))
            self.watch(self.pipeline.get_by_name("video"), "video")
            self.watch(self.pipeline.get_by_name("sound"), "audio")
        else:
            self.pipeline = Gst.Pipeline.new()
            self.pipeline.add(Gst.parse_launch("webrtcbin name=web bundle-policy=max-bundle latency=100"))
        self.web = self.pipeline.get_by_name("web")
        # libnice leaves loopback out unless it is told of it. The attribute keeps the agent: Python has taken over the
        # only reference to it.
        self.ice = self.web.get_property("ice-agent")
        self.ice.emit("add-local-ip-address", "127.0.0.1")
        self.web.connect("on-negotiation-needed", self.offer)
        self.web.connect("notify::ice-gathering-state", self.gathered)
        self.web.connect("notify::connection-state", self.connection_changed)
        self.web.connect("pad-added", self.receive)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: self.fail(message.parse_error()[0].message))

    def fail(self, why: str) -> None:
        self.error = self.error or why
        self.loop.quit()

    def watch(self, element: Gst.Element, kind: str) -> None:
        """Prints each buffer that leaves an element."""

        def seen(_: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
            buffer = info.get_buffer()
            data = buffer.extract_dup(0, buffer.get_size())
            digest, key = slices_hash(data) if kind == "video" else (hashlib.sha256(data).hexdigest(), True)
            self.counts[kind] += 1
            say(kind=kind, at=time.monotonic(), bytes=len(data), key=key, sha256=digest)
            return PASS_ON

        element.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, seen)

    def start(self) -> int:
        if self.options.way == "whep":
            for caps in [AUDIO] if self.options.sound_only else [VIDEO, AUDIO]:
                self.web.emit("add-transceiver", RECVONLY, Gst.Caps.from_string(caps))
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add(int(self.options.seconds * 1000), self.loop.quit)
        self.loop.run()
        if self.session:
            self.request("DELETE", self.session)
        self.pipeline.set_state(Gst.State.NULL)
        say(event="ended", error=self.error, **self.counts)
        return 0 if any(self.counts.values()) and not self.error else 1

    def offer(self, _: Gst.Element) -> None:
        if self.offered:
            return
        self.offered = True
        if self.options.way == "whip":
            at = 0
            while transceiver := self.web.emit("get-transceiver", at):
                transceiver.set_property("direction", SENDONLY)
                transceiver.set_property("do-nack", True)
                at += 1
        self.web.emit("create-offer", None, Gst.Promise.new_with_change_func(self.set_offer, None))

    def set_offer(self, promise: Gst.Promise, _: object) -> None:
        reply = promise.get_reply()
        if not reply.has_field("offer"):
            GLib.idle_add(self.fail, f"no offer: {reply.to_string()}")
            return
        self.web.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def gathered(self, *_: object) -> None:
        if self.web.get_property("ice-gathering-state") == GATHERED:
            GLib.idle_add(self.exchange)

    def exchange(self) -> None:
        text = self.web.get_property("local-description").sdp.as_text()
        try:
            reply = self.request("POST", self.options.url, text)
        except urllib.error.HTTPError as error:
            self.fail(f"answer {error.code}: {error.read(300)!r}")
            return
        except OSError as error:
            self.fail(f"no answer: {error}")
            return
        self.session = urllib.parse.urljoin(self.options.url, reply.headers["Location"])
        _, message = GstSdp.SDPMessage.new_from_text(reply.read().decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.web.emit("set-remote-description", answer, Gst.Promise.new())

    def request(self, method: str, url: str, body: str | None = None) -> urllib.request.addinfourl:
        """Sends an HTTP request. Raises `HTTPError` for 4xx and 5xx, `OSError` without an answer."""
        headers = {"Content-Type": "application/sdp"} if body else {}
        if self.options.bearer:
            headers["Authorization"] = f"Bearer {self.options.bearer}"
        request = urllib.request.Request(url, body.encode() if body else None, headers, method=method)
        return urllib.request.urlopen(request, timeout=10)

    def connection_changed(self, *_: object) -> None:
        state = self.web.get_property("connection-state")
        if state == CONNECTED:
            say(event="connected", at=time.monotonic())
        elif state == FAILED:
            GLib.idle_add(self.fail, "the connection failed")

    def receive(self, _: Gst.Element, pad: Gst.Pad) -> None:
        if pad.direction != SOURCE_PAD:
            return
        name = pad.get_current_caps().get_structure(0).get_string("encoding-name")
        if name not in RECEIVING:
            GLib.idle_add(self.fail, f"the server sends {name}")
            return
        bin_ = Gst.parse_bin_from_description(RECEIVING[name], True)
        self.watch(bin_.get_by_name("out"), "video" if name == "H264" else "audio")
        self.pipeline.add(bin_)
        bin_.sync_state_with_parent()
        pad.link(bin_.get_static_pad("sink"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["whip", "whep"])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--bearer", default="")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--sound-only", action="store_true")
    Gst.init(None)
    return Client(parser.parse_args()).start()


if __name__ == "__main__":
    sys.exit(main())
