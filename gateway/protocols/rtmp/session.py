"""ServerSession: the state of a server connection, and its answers to the commands of the peer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection

from gateway.media.track import AmfValue
from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.rtmp.command import Command, command, fourcc_capabilities, on_status, status
from gateway.protocols.rtmp.events import (
    CommandIgnored,
    Connected,
    Paused,
    PlayEnded,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    Receiving,
    ServerEvent,
)
from gateway.protocols.rtmp.handshake import Random, ServerHandshake
from gateway.protocols.rtmp.message import (
    SET_PEER_BANDWIDTH,
    USER_CONTROL,
    Message,
    UserControl,
    peer_bandwidth,
    user_control,
)
from gateway.protocols.rtmp.state import SERVER, Machine, RtmpState, Step
from gateway.protocols.rtmp.url import StreamTarget, app_allowed, resolve
from gateway.protocols.rtmp.wire import Wire, WireLimits

CHUNK_SIZE = 65536  # ffmpeg adopts the announced size: 3.5 times less work for both sides than with 128
WINDOW = 5_000_000
_MAX_STREAMS = 8

Events = list[ServerEvent]


class ServerSession:
    """The base of ServerConnection that handles the peer's commands."""

    def __init__(
        self,
        *,
        apps: Collection[str] = frozenset({"stream"}),
        limits: WireLimits | None = None,
        chunk_size: int = CHUNK_SIZE,
        window: int = WINDOW,
        random: Random = os.urandom,
    ) -> None:
        self._apps = apps
        self._limits = limits or WireLimits()
        self._chunk_size = chunk_size
        self._handshake: ServerHandshake | None = ServerHandshake(random)
        self._wire = Wire(self._limits, window)
        self._trust(False)
        self._window = window
        self._machine = Machine(SERVER)
        self._app_field = ""
        self._tc_url = ""
        self._connect: Command | None = None  # a connect that is accepted but not answered yet
        self._streams: set[int] = set()
        self._stream_id = 0  # the message stream that publishes or plays
        self._fc_publish = False
        self._held: deque[Message] = deque()  # messages after a request that is not answered yet
        self._held_size = 0
        self._stray_size = 0  # bytes of unexpected media; none of it is kept
        self.asked = 0
        """Messages so far that were neither audio nor video: commands, control messages, data."""
        self.close_reason = ""
        """Why the connection is being closed; empty while it is not."""
        self._commands: dict[str, Callable[[Command, Message, Events], None]] = {
            "connect": self._on_connect,
            "releaseStream": self._on_release,
            "FCPublish": self._on_fc_publish,
            "FCUnpublish": self._on_fc_unpublish,
            "FCSubscribe": self._on_fc_subscribe,
            "createStream": self._on_create_stream,
            "initStream": self._on_answered,
            "_checkbw": self._on_answered,
            "getStreamLength": self._on_stream_length,
            "publish": self._on_publish,
            "play": self._on_play,
            "play2": self._on_play2,
            "pause": self._on_pause,
            "pauseRaw": self._on_pause,
            "seek": self._on_seek,
            "receiveAudio": self._on_receiving,
            "receiveVideo": self._on_receiving,
            "closeStream": self._on_close_stream,
            "deleteStream": self._on_close_stream,
        }

    # Commands on the connection

    def _on_connect(self, got: Command, message: Message, events: Events) -> None:
        raw = got.object if isinstance(got.object, dict) else {}
        self._machine.peer(Step.CONNECT)
        self._tc_url = _text(raw, "tcUrl")
        self._app_field = _text(raw, "app") or _app_of(self._tc_url)
        if not app_allowed(self._app_field, self._apps):
            app = short(self._app_field.partition("?")[0])
            description = f"No app {app!r} here; the address is rtmp://host/{'|'.join(sorted(self._apps))}."
            info = status("error", "NetConnection.Connect.InvalidApp", description)
            self._wire.send_command(0, command("_error", got.transaction, None, info))
            self._machine.owner(Step.REJECT)
            self._refuse(0, "NetConnection.Connect.InvalidApp", description)
            return
        self._connect = got
        target = resolve(self._app_field, self._tc_url, "")
        fourccs = raw.get("fourCcList")
        listed = tuple(f for f in fourccs if isinstance(f, str)) if isinstance(fourccs, list) else ()
        instance = target.instance or target.name
        flash_ver = _text(raw, "flashVer")
        events.append(Connected(target.app, instance, target.query, self._tc_url, flash_ver, listed, raw))

    def _answer_connect(self) -> None:
        """Answers `connect`. Delayed until something else is sent or read, so that the owner can still refuse with
        `_error`.
        """
        got, self._connect = self._connect, None
        assert got is not None, "only called while there is one"
        raw = got.object if isinstance(got.object, dict) else {}
        wire = self._wire
        wire.send_window(self._window)
        wire.send_control(SET_PEER_BANDWIDTH, peer_bandwidth(self._window))
        wire.send_chunk_size(self._chunk_size)
        properties: dict[str, AmfValue] = {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0}
        encoding = raw.get("objectEncoding")
        info = status(
            "status",
            "NetConnection.Connect.Success",
            "Connection succeeded.",
            objectEncoding=encoding if isinstance(encoding, float) else 0.0,
        )
        if any(key in raw for key in ("fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx")):
            properties |= fourcc_capabilities()
            info |= fourcc_capabilities()
        wire.send_command(0, command("_result", got.transaction, properties, info))

    def _on_answered(self, got: Command, message: Message, events: Events) -> None:
        self._result(got, None)

    _on_release = _on_answered

    def _on_fc_publish(self, got: Command, message: Message, events: Events) -> None:
        self._fc_publish = True  # onFCPublish contains Publish.Start, so it is sent when the publish is accepted
        self._result(got, None)

    def _on_fc_subscribe(self, got: Command, message: Message, events: Events) -> None:
        info = status("status", "NetStream.Play.Start", "Subscribed.")
        self._result(got, None)
        self._wire.send_command(0, command("onFCSubscribe", 0, None, info))

    def _on_stream_length(self, got: Command, message: Message, events: Events) -> None:
        self._result(got, 0.0)  # a live stream has no length

    def _on_create_stream(self, got: Command, message: Message, events: Events) -> None:
        stream_id = next(i for i in range(1, _MAX_STREAMS + 2) if i not in self._streams)
        if stream_id > _MAX_STREAMS:
            info = status("error", "NetConnection.Call.Failed", "Too many streams.")
            self._wire.send_command(0, command("_error", got.transaction, None, info))
            return
        self._streams.add(stream_id)
        self._result(got, float(stream_id))

    # Commands on a stream

    def _on_publish(self, got: Command, message: Message, events: Events) -> None:
        stream_id = message.stream_id or 1  # some send it on stream 0
        if not self._machine.may(Step.PUBLISH):
            self._status_on(stream_id, "error", "NetStream.Publish.BadConnection", "One publish on a connection.")
            events.append(CommandIgnored("publish", f"while {self._machine.state.name.lower()}"))
            return
        target = self._target(got.text(0))
        if not target.name:
            self._stream_id = stream_id
            self._machine.owner(Step.REJECT)
            self._refuse(stream_id, "NetStream.Publish.BadName", "The stream name (key) is empty.")
            return
        self._machine.peer(Step.PUBLISH)
        self._stream_id = stream_id
        kind = got.text(1)
        events.append(PublishRequested(target.app, target.instance, target.name, target.query, kind))

    def _on_play(self, got: Command, message: Message, events: Events) -> None:
        self._play(got.text(0), got.number(1, -2), got.number(2, -1), message, events)

    def _on_play2(self, got: Command, message: Message, events: Events) -> None:
        wanted = got.arguments[0] if got.arguments else None
        self._play(_text(wanted if isinstance(wanted, dict) else {}, "streamName"), -2, -1, message, events)

    def _play(self, field: str, start: float, duration: float, message: Message, events: Events) -> None:
        stream_id = message.stream_id or 1
        if self._machine.state is RtmpState.PLAYING:
            self._end("play", events)  # the player changes to another stream
        if not self._machine.may(Step.PLAY):
            self._status_on(stream_id, "error", "NetStream.Play.Failed", "This connection publishes.")
            events.append(CommandIgnored("play", f"while {self._machine.state.name.lower()}"))
            return
        target = self._target(field)
        self._stream_id = stream_id
        if stream_id > _MAX_STREAMS:
            self._machine.owner(Step.REJECT)
            self._refuse(stream_id, "NetStream.Play.Failed", "createStream gave no such stream id.")
            return
        if not target.name:
            self._machine.owner(Step.REJECT)
            self._refuse(stream_id, "NetStream.Play.StreamNotFound", "The stream name is empty.")
            return
        self._machine.peer(Step.PLAY)
        events.append(PlayRequested(target.app, target.instance, target.name, target.query, start, duration))

    def _on_pause(self, got: Command, message: Message, events: Events) -> None:
        if self._machine.state is not RtmpState.PLAYING:
            events.append(CommandIgnored(got.name, "not playing"))
            return
        paused = bool(got.arguments and got.arguments[0])
        if paused:
            self._status("status", "NetStream.Pause.Notify", "Paused.")
        else:
            self._stream_event(UserControl.STREAM_BEGIN)
            self._status("status", "NetStream.Unpause.Notify", "Playing on.")
        events.append(Paused(paused))

    def _on_seek(self, got: Command, message: Message, events: Events) -> None:
        # Live cannot seek, but an error would make ffmpeg stop, so the player is told that the stream goes on.
        self._status_on(message.stream_id, "status", "NetStream.Seek.Notify", "Live plays on.")
        events.append(CommandIgnored("seek", "live"))

    def _on_receiving(self, got: Command, message: Message, events: Events) -> None:
        wanted = not got.arguments or bool(got.arguments[0])
        if got.transaction > 0:
            self._result(got, None)
        if got.name == "receiveAudio":
            events.append(Receiving(audio=wanted, video=None))
        else:
            events.append(Receiving(audio=None, video=wanted))

    def _on_fc_unpublish(self, got: Command, message: Message, events: Events) -> None:
        if self._machine.state is RtmpState.PUBLISHING:
            info = status("status", "NetStream.Unpublish.Success", "Unpublished.")
            self._wire.send_command(0, command("onFCUnpublish", 0, None, info))
            self._end("FCUnpublish", events)
        if got.transaction > 0:
            self._result(got, None)

    def _on_close_stream(self, got: Command, message: Message, events: Events) -> None:
        stream_id = message.stream_id
        if got.name == "deleteStream":
            number = got.number(0, 0.0)
            stream_id = int(number) if 0 <= number <= 0xFFFFFFFF else 0
            self._streams.discard(stream_id)
        if stream_id in (0, self._stream_id):
            self._end(got.name, events)

    # Below

    def _end(self, reason: str, events: Events) -> None:
        """Ends the running publish or play, or the one that was requested."""
        state = self._machine.state
        if state in (RtmpState.PUBLISHING, RtmpState.PUBLISH_PENDING):
            self._machine.peer(Step.END)
            self._trust(False)
            self._status("status", "NetStream.Unpublish.Success", "Unpublished.")
            events.append(PublishEnded(reason))
        elif state in (RtmpState.PLAYING, RtmpState.PLAY_PENDING):
            self._machine.peer(Step.END)
            self._status("status", "NetStream.Play.Stop", "Stopped playing.")
            events.append(PlayEnded(reason))
        self._fc_publish = False

    def _trust(self, publishes: bool) -> None:
        """Sets the memory bounds: only an accepted publisher may have large unfinished messages. Others have shown no
        key.
        """
        limits = self._limits
        self._wire.bound(limits.message, limits.pending if publishes else min(limits.pending, limits.early_media))

    def _target(self, name_field: str) -> StreamTarget:
        return resolve(self._app_field, self._tc_url, name_field)

    def _publish_step(self, step: Step) -> None:
        if self._machine.state is not RtmpState.PUBLISH_PENDING:
            raise LocalProtocolError(f"{step.name.lower()} of a publish while {self._machine.state.name.lower()}")
        self._machine.owner(step)

    def _play_step(self, step: Step) -> None:
        if self._machine.state not in (RtmpState.PLAY_PENDING, RtmpState.PLAYING):
            raise LocalProtocolError(f"{step.name.lower()} of a play while {self._machine.state.name.lower()}")
        self._machine.owner(step)

    def _result(self, got: Command, value: AmfValue) -> None:
        self._wire.send_command(0, command("_result", got.transaction, None, value))

    def _status(self, level: str, code: str, description: str) -> None:
        self._status_on(self._stream_id, level, code, description)

    def _status_on(self, stream_id: int, level: str, code: str, description: str) -> None:
        self._wire.send_command(stream_id, on_status(level, code, description))

    def _stream_event(self, event: UserControl) -> None:
        self._wire.send_control(USER_CONTROL, user_control(event, self._stream_id))

    def _refuse(self, stream_id: int, code: str, description: str) -> None:
        self._status_on(stream_id, "error", code, description)
        self._close(code)

    def _close(self, reason: str) -> None:
        self._machine.owner(Step.CLOSE)
        self._held.clear()
        self._wire.forget()
        self.close_reason = self.close_reason or reason


def _text(values: dict[str, AmfValue], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _app_of(tc_url: str) -> str:
    """Returns the app of an address "rtmp://host:port/app/instance", for peers that send only tcUrl."""
    return tc_url.partition("://")[2].partition("/")[2]


def short(name: str) -> str:
    """Returns a peer's text, shortened for a log line."""
    return name if len(name) <= 64 else name[:64] + "…"
