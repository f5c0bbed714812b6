"""ServerConnection: the server side of an RTMP connection. It reads bytes and returns events; the owner answers."""

from collections import deque
from collections.abc import Callable, Collection, Sized
from typing import cast

from gateway.formats import amf0
from gateway.media.track import AmfValue
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.rtmp.chunk_writer import SERVER_CHUNK_SIZE
from gateway.protocols.rtmp.command import PULL_MARK, Command, command, fourcc_capabilities, status, text_of
from gateway.protocols.rtmp.connection import Connection
from gateway.protocols.rtmp.events import (
    CommandIgnored,
    Connected,
    Paused,
    PlayEnded,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    ServerEvent,
)
from gateway.protocols.rtmp.handshake import ServerHandshake
from gateway.protocols.rtmp.message import (
    AUDIO,
    DATA,
    SET_PEER_BANDWIDTH,
    USER_CONTROL,
    VIDEO,
    Message,
    UserControl,
    peer_bandwidth,
    user_control,
)
from gateway.protocols.rtmp.state import SERVER, RtmpState, StateMachine, Step
from gateway.protocols.rtmp.url import StreamTarget, app_allowed, resolve
from gateway.protocols.rtmp.wire import Wire, WireLimits

WINDOW = 5_000_000  # bytes
_MAX_STREAMS = 8
_CSID_STREAM_DATA = 7  # not CSID_DATA, which is for shared messages with full headers
_MESSAGE_OVERHEAD = 128  # memory of a held message in addition to its payload, in bytes
_PUBLISHING = RtmpState.PUBLISHING
_CLOSING = RtmpState.CLOSING
_PENDING = (RtmpState.PUBLISH_PENDING, RtmpState.PLAY_PENDING)

Events = list[ServerEvent]


class ServerConnection(Connection[ServerEvent]):
    """One connection. Call `receive`, handle the events, and send `data_to_send` after each call of any method.

    `receive` raises RemoteProtocolError if the peer breaks the protocol or a limit. Then, and whenever `closing` is
    true, send the queued bytes and close.
    After PublishRequested or PlayRequested the connection waits for the answer of its owner: `accept_publish` or
    `reject_publish`, `accept_play` or `reject_play`. Until then it holds all messages of the peer unread, except
    control messages, up to `limits.early_media` bytes. Accepting reads them and returns their events.
    The owner has a clock, and must limit `held` and the growth of `asked`.

    apps: the apps that `connect` may request.
    asked: number of received messages other than audio and video: commands, control messages, data.
    """

    def __init__(self, *, apps: Collection[str] = ("stream",), limits: WireLimits | None = None) -> None:
        self._limits = limits or WireLimits()
        super().__init__(ServerHandshake(), Wire(self._limits), StateMachine(SERVER))
        self._apps = apps
        self._set_limits(False)
        self._app_field = ""
        self._tc_url = ""
        self.pull_mark = ""  # the mark of the gateway's channel that plays; "": any other client
        self._connect: Command | None = None  # an accepted `connect` without an answer yet
        self._streams: set[int] = set()
        self._fc_publish = False
        self._held: deque[Message] = deque()  # messages after a request without an answer yet
        self._held_size = 0
        self._unexpected_size = 0  # bytes of unexpected media so far; it is not held
        self.asked = 0
        self._commands: dict[str, Callable[[Command, Message, Events], None]] = {
            "connect": self._on_connect,
            "releaseStream": self._on_answered,
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

    # Queries and input

    @property
    def chunk_size(self) -> int:
        """The chunk size for `shared_message`."""
        return self._wire.chunk_size

    @property
    def held(self) -> int:
        """Bytes of the peer in memory: its handshake, unfinished messages, and messages before an answer."""
        handshake = self._handshake
        return self._wire.pending + self._held_size + (handshake.buffered if handshake is not None else 0)

    @property
    def queued(self) -> Sized:
        """The list of bytes to send. Checking it is cheaper than `data_to_send`.

        While a publisher sends only media, it is empty except for rare acknowledgements.
        """
        return self._wire.queued

    def data_to_send(self) -> bytes:
        """Returns bytes for the peer; empty if there are none."""
        if self._connect is not None:
            self._answer_connect()
        return self._wire.data_to_send()

    def _read(self, messages: list[Message]) -> list[ServerEvent]:
        machine = self._machine
        if machine.state is _PUBLISHING:
            for message in messages:
                if (message.type_id != VIDEO and message.type_id != AUDIO) or not message.payload:
                    break
            else:
                return cast("Events", messages)  # hot path: only media
        events: Events = []
        for message in messages:
            if (message.type_id == VIDEO or message.type_id == AUDIO) and machine.state is _PUBLISHING:
                if message.payload:  # §7.1.4 does not define empty messages; encoders send them as keep-alive
                    events.append(message)
            elif machine.state in _PENDING and message.type_id >= AUDIO:
                self._hold(message)
            else:
                self._dispatch(message, events)
                if self.closing:
                    break
        return events

    def release_buffers(self) -> None:
        """Frees the memory at once when the connection is closed, without waiting for the garbage collector."""
        if not self.closing:
            self._close("connection closed")
        self._commands.clear()

    def accept_publish(self) -> list[ServerEvent]:
        """Accepts the publish. Returns the events of the held messages.

        Raises RemoteProtocolError if they break the protocol, like `receive`.
        """
        self._require("accept of a publish", RtmpState.PUBLISH_PENDING)
        self._machine.on_own_step(Step.ACCEPT)
        self._set_limits(True)
        if self._fc_publish:
            self._send_info("onFCPublish", "status", "NetStream.Publish.Start", "Publishing.")
        self._send_stream_event(UserControl.STREAM_BEGIN)
        self._send_status("NetStream.Publish.Start", "Publishing.")
        return self._read_held()

    def reject_publish(self, code: str, description: str) -> None:
        """Refuses a publish or ends a running one with onStatus of level error. Then the connection is closing."""
        self._require("reject of a publish", RtmpState.PUBLISH_PENDING, RtmpState.PUBLISHING)
        self._refuse(self.stream_id, code, description)

    def accept_play(self) -> list[ServerEvent]:
        """Accepts the play. Then the bytes of `shared_message` for `stream_id` may be sent.

        Returns and raises like `accept_publish`.
        """
        self._require("accept of a play", RtmpState.PLAY_PENDING)
        self._machine.on_own_step(Step.ACCEPT)
        self._send_stream_event(UserControl.STREAM_BEGIN)
        self._send_status("NetStream.Play.Reset", "Playing and resetting.")
        self._send_status("NetStream.Play.Start", "Started playing.")
        # Without it, Flash shows no picture; other players ignore it.
        sample_access = amf0.encode("|RtmpSampleAccess", True, True)
        self._wire.send(_CSID_STREAM_DATA, DATA, self.stream_id, sample_access)
        return self._read_held()

    def reject_play(self, code: str, description: str) -> None:
        """Refuses a play with onStatus of level error. Then the connection is closing.

        code: such as NetStream.Play.StreamNotFound.
        """
        self._require("reject of a play", RtmpState.PLAY_PENDING, RtmpState.PLAYING)
        self._refuse(self.stream_id, code, description)

    def end_play(self, reason: str) -> None:
        """Sends UnpublishNotify and StreamEOF, because the stream ended. Then the connection is closing."""
        self._require("end of a play", RtmpState.PLAYING)
        self._send_status("NetStream.Play.UnpublishNotify", "The stream is over.")
        self._send_stream_event(UserControl.STREAM_EOF)
        self._send_status("NetStream.Play.Stop", "Stopped playing.")
        self._machine.on_own_step(Step.END)
        self._close(reason)

    # Messages

    def _hold(self, message: Message) -> None:
        self._held_size += len(message.payload) + _MESSAGE_OVERHEAD
        if self._held_size > self._limits.early_media:
            raise self._too_large(self._limits.early_media)
        self._held.append(message)

    def _read_held(self) -> Events:
        events: Events = []
        held = self._held
        self._held_size = self._unexpected_size = 0
        try:
            while held and not self.closing and self._machine.state not in _PENDING:
                self._dispatch(held.popleft(), events)
        except RemoteProtocolError as error:
            self._close(str(error))
            raise
        for message in held:  # messages after another request
            self._held_size += len(message.payload) + _MESSAGE_OVERHEAD
        return events

    def _drop_unexpected(self, message: Message) -> None:
        self._unexpected_size += len(message.payload) + _MESSAGE_OVERHEAD
        if self._unexpected_size > self._limits.unexpected_media:
            raise self._too_large(self._limits.unexpected_media)

    def _too_large(self, limit: int) -> RemoteProtocolError:
        state = self._machine.state.name.lower().replace("_", " ")
        return RemoteProtocolError(f"more than {limit} bytes while {state}")

    def _dispatch(self, message: Message, events: Events) -> None:
        self.asked += 1
        super()._dispatch(message, events)

    def _handle_media(self, message: Message, events: Events) -> None:
        """Handles audio, video and data outside the hot path. Before and after a publish, drops them up to a limit."""
        if not message.payload:
            return
        if self._machine.state is not RtmpState.PUBLISHING:
            self._drop_unexpected(message)
        elif message.type_id in (AUDIO, VIDEO):
            events.append(message)
        else:
            events.append(self._wire.read_script(message))

    def _handle_command(self, request: Command, message: Message, events: Events) -> None:
        if self._connect is not None:
            self._answer_connect()
        handle = self._commands.get(request.name)
        if handle is not None:
            if request.name != "connect" and self._machine.state is RtmpState.CONNECTING:
                raise RemoteProtocolError(f"{_short(request.name)} before connect")
            handle(request, message, events)
            return
        events.append(CommandIgnored(_short(request.name), "unknown"))
        if request.transaction > 0 and not request.name.startswith(("_", "on")):
            self._send_result(request, None)  # a client must not wait forever for the answer to an unknown command

    # Commands on the connection

    def _on_connect(self, request: Command, message: Message, events: Events) -> None:
        raw = request.object if isinstance(request.object, dict) else {}
        self._machine.on_peer_step(Step.CONNECT)
        self._tc_url = text_of(raw, "tcUrl")
        self.pull_mark = text_of(raw, PULL_MARK)
        # Peers that send no app have it in tcUrl: "rtmp://host:port/app/instance".
        self._app_field = text_of(raw, "app") or self._tc_url.partition("://")[2].partition("/")[2]
        if not app_allowed(self._app_field, self._apps):
            app = _short(self._app_field.partition("?")[0])
            description = f"No app {app!r} here; the address is rtmp://host/{'|'.join(sorted(self._apps))}."
            code = "NetConnection.Connect.InvalidApp"
            self._send_info("_error", "error", code, description, transaction=request.transaction)
            self._refuse(0, code, description)
            return
        self._connect = request
        target = self._target("")
        fourccs = raw.get("fourCcList")
        listed = tuple(f for f in fourccs if isinstance(f, str)) if isinstance(fourccs, list) else ()
        instance = target.instance or target.name
        flash_ver = text_of(raw, "flashVer")
        if flash_ver.startswith("Wirecast"):  # it stops at a full window, ours, and announces none
            self._wire.acknowledge(WINDOW)
        events.append(Connected(target.app, instance, target.query, self._tc_url, flash_ver, listed))

    def _answer_connect(self) -> None:
        """Answers `connect`, at the next message or sending. Until then, `connect` can be refused."""
        request, self._connect = self._connect, None
        assert request is not None, "only called if there is one"
        raw = request.object if isinstance(request.object, dict) else {}
        wire = self._wire
        wire.send_window(WINDOW)
        wire.send_control(SET_PEER_BANDWIDTH, peer_bandwidth(WINDOW))
        wire.send_chunk_size(SERVER_CHUNK_SIZE)
        properties: dict[str, AmfValue] = {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0}
        encoding = raw.get("objectEncoding")
        encoding = encoding if isinstance(encoding, float) else 0.0
        info = status("status", "NetConnection.Connect.Success", "Connection succeeded.", objectEncoding=encoding)
        if any(key in raw for key in ("fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx")):
            properties |= fourcc_capabilities()
            info |= fourcc_capabilities()
        wire.send_command(0, command("_result", request.transaction, properties, info))

    def _on_answered(self, request: Command, message: Message, events: Events) -> None:
        """Answers a command that needs no action."""
        self._send_result(request, None)

    def _on_fc_publish(self, request: Command, message: Message, events: Events) -> None:
        self._fc_publish = True  # onFCPublish means Publish.Start, so it is sent when the publish is accepted
        self._send_result(request, None)

    def _on_fc_subscribe(self, request: Command, message: Message, events: Events) -> None:
        self._send_result(request, None)
        self._send_info("onFCSubscribe", "status", "NetStream.Play.Start", "Subscribed.")

    def _on_stream_length(self, request: Command, message: Message, events: Events) -> None:
        self._send_result(request, 0.0)  # a live stream has no length

    def _on_create_stream(self, request: Command, message: Message, events: Events) -> None:
        stream_id = next(i for i in range(1, _MAX_STREAMS + 2) if i not in self._streams)
        if stream_id > _MAX_STREAMS:
            code = "NetConnection.Call.Failed"
            self._send_info("_error", "error", code, "Too many streams.", transaction=request.transaction)
            return
        self._streams.add(stream_id)
        self._send_result(request, float(stream_id))

    # Commands on a stream

    def _on_publish(self, request: Command, message: Message, events: Events) -> None:
        if request.arguments[:1] == (False,):  # Wirecast and Flash end a publish with publish(false)
            self._on_close_stream(request, message, events)
            return
        stream_id = message.stream_id or 1  # some clients send it on stream 0
        if not self._machine.allows(Step.PUBLISH):
            self._send_status_on(stream_id, "error", "NetStream.Publish.BadConnection", "One publish on a connection.")
            events.append(CommandIgnored("publish", f"while {self._machine.state.name.lower()}"))
            return
        target = self._target(request.text(0))
        if not target.name:
            self.stream_id = stream_id
            self._refuse(stream_id, "NetStream.Publish.BadName", "The stream name (key) is empty.")
            return
        self._machine.on_peer_step(Step.PUBLISH)
        self.stream_id = stream_id
        kind = request.text(1)
        events.append(PublishRequested(target.app, target.instance, target.name, target.query, kind))

    def _on_play(self, request: Command, message: Message, events: Events) -> None:
        self._play(request.text(0), request.number(1, -2), request.number(2, -1), message, events)

    def _on_play2(self, request: Command, message: Message, events: Events) -> None:
        options = request.arguments[0] if request.arguments else None
        self._play(text_of(options if isinstance(options, dict) else {}, "streamName"), -2, -1, message, events)

    def _play(self, field: str, start: float, duration: float, message: Message, events: Events) -> None:
        stream_id = message.stream_id or 1
        if self._machine.state is RtmpState.PLAYING:
            self._end("play", events)  # the player changes to another stream
        if not self._machine.allows(Step.PLAY):
            self._send_status_on(stream_id, "error", "NetStream.Play.Failed", "This connection publishes.")
            events.append(CommandIgnored("play", f"while {self._machine.state.name.lower()}"))
            return
        target = self._target(field)
        self.stream_id = stream_id
        if stream_id > _MAX_STREAMS:
            self._refuse(stream_id, "NetStream.Play.Failed", "createStream gave no such stream id.")
            return
        if not target.name:
            self._refuse(stream_id, "NetStream.Play.StreamNotFound", "The stream name is empty.")
            return
        self._machine.on_peer_step(Step.PLAY)
        events.append(PlayRequested(target.app, target.instance, target.name, target.query, start, duration))

    def _on_pause(self, request: Command, message: Message, events: Events) -> None:
        if self._machine.state is not RtmpState.PLAYING:
            events.append(CommandIgnored(request.name, "not playing"))
            return
        paused = bool(request.arguments and request.arguments[0])
        if paused:
            self._send_status("NetStream.Pause.Notify", "Paused.")
        else:
            self._send_stream_event(UserControl.STREAM_BEGIN)
            self._send_status("NetStream.Unpause.Notify", "Playing on.")
        events.append(Paused(paused))

    def _on_seek(self, request: Command, message: Message, events: Events) -> None:
        # Live cannot seek, but an error would stop ffmpeg. So the answer says that the stream continues.
        self._send_status_on(message.stream_id, "status", "NetStream.Seek.Notify", "Live plays on.")
        events.append(CommandIgnored("seek", "live"))

    def _on_receiving(self, request: Command, message: Message, events: Events) -> None:
        if request.transaction > 0:  # the player gets audio and video in any case
            self._send_result(request, None)

    def _on_fc_unpublish(self, request: Command, message: Message, events: Events) -> None:
        if self._machine.state is RtmpState.PUBLISHING:
            self._send_info("onFCUnpublish", "status", "NetStream.Unpublish.Success", "Unpublished.")
            self._end("FCUnpublish", events)
        if request.transaction > 0:
            self._send_result(request, None)

    def _on_close_stream(self, request: Command, message: Message, events: Events) -> None:
        stream_id = message.stream_id
        if request.name == "deleteStream":
            number = request.number(0, 0.0)
            stream_id = int(number) if 0 <= number <= 0xFFFFFFFF else 0
            self._streams.discard(stream_id)
        if stream_id in (0, self.stream_id):
            self._end(request.name, events)

    # Helpers

    def _end(self, reason: str, events: Events) -> None:
        """Ends the running or requested publish or play."""
        state = self._machine.state
        if state in (RtmpState.PUBLISHING, RtmpState.PUBLISH_PENDING):
            self._machine.on_peer_step(Step.END)
            self._set_limits(False)
            self._send_status("NetStream.Unpublish.Success", "Unpublished.")
            events.append(PublishEnded(reason))
        elif state in (RtmpState.PLAYING, RtmpState.PLAY_PENDING):
            self._machine.on_peer_step(Step.END)
            self._send_status("NetStream.Play.Stop", "Stopped playing.")
            events.append(PlayEnded(reason))
        self._fc_publish = False

    def _set_limits(self, publishes: bool) -> None:
        """Sets the memory limits: only an accepted publisher may have large unfinished messages, because of its key."""
        limits = self._limits
        self._wire.set_limits(limits.message, limits.pending if publishes else min(limits.pending, limits.early_media))

    def _target(self, name_field: str) -> StreamTarget:
        return resolve(self._app_field, self._tc_url, name_field)

    def _require(self, action: str, *states: RtmpState) -> None:
        """Raises LocalProtocolError if the connection is in another state."""
        if self._machine.state not in states:
            raise LocalProtocolError(f"{action} while {self._machine.state.name.lower()}")

    def _send_result(self, request: Command, value: AmfValue) -> None:
        self._wire.send_command(0, command("_result", request.transaction, None, value))

    def _send_status(self, code: str, description: str) -> None:
        self._send_info("onStatus", "status", code, description, stream_id=self.stream_id)

    def _send_status_on(self, stream_id: int, level: str, code: str, description: str) -> None:
        self._send_info("onStatus", level, code, description, stream_id=stream_id)

    def _send_info(
        self, name: str, level: str, code: str, description: str, *, stream_id: int = 0, transaction: float = 0
    ) -> None:
        """Sends a command whose argument is an information object."""
        info = status(level, code, description)
        self._wire.send_command(stream_id, command(name, transaction, None, info))

    def _send_stream_event(self, event: UserControl) -> None:
        self._wire.send_control(USER_CONTROL, user_control(event, self.stream_id))

    def _refuse(self, stream_id: int, code: str, description: str) -> None:
        """Sends onStatus with an error. Then the connection is closing."""
        self._machine.on_own_step(Step.REJECT)
        self._send_status_on(stream_id, "error", code, description)
        self._close(code)

    def _close(self, reason: str) -> None:
        super()._close(reason)
        self._held.clear()
        self._wire.release_buffers()


def _short(name: str) -> str:
    """Returns a text of the peer, shortened for a log line."""
    return name if len(name) <= 64 else name[:64] + "…"
