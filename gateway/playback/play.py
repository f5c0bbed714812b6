"""Play: checks whether a client may play a stream, counts it for its address, and waits for the publisher."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of, is_stream_name, pull_mark
from gateway.channels.stores import ChannelReader, find_channel
from gateway.lib.quota import Quota
from gateway.live.stream import Stream
from gateway.playback.play_hook import PlayHook
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.protection import PlaybackProtection
from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.auth_hook import NO_DETAILS, HookAction, HookDetails, HookRequest
from gateway.ports.errors import AtCapacity, NoSuchStream, OwnOutput


async def _same(id: str) -> str:
    """The default for `channel_id`: no channel has a slug."""
    return id


@dataclass(frozen=True, slots=True)
class ViewerRequest:
    """A request to play, from any protocol.

    name: of the stream, with the id or slug of its channel. sign: the play sign; None without one.
    details: for the auth hook. exempt: whether the address is that of a trusted proxy, which is not limited.
    counted: whether the play counts for its address; False: its connection counts.
    own: connections of the client that count already, and end when the play begins.
    pull_mark: that of a channel that pulls; "": the client is none.
    judge: raises GatewayError if the client may not play (stream, channel). None: the play sign decides.
    """

    name: str
    address: str
    sign: str | None = None
    details: HookDetails = NO_DETAILS
    exempt: bool = False
    counted: bool = True
    own: int = 0
    pull_mark: str = ""
    judge: Callable[[str, Channel | None], None] | None = None


@dataclass(frozen=True, slots=True)
class PlayAdmission:
    """The services that decide about plays, for all protocols.

    wait: seconds that a viewer waits for a publisher. limits: refuses viewers above a bandwidth.
    connections: counts the connections of each address over all protocols.
    channel_id: returns the id of a channel by its slug or id. hook: asks the operator's service; None: nobody is asked.
    """

    channels: ChannelReader
    protection: PlaybackProtection
    wait: float
    limits: ViewerLimits = field(default_factory=lambda: ViewerLimits(0.0, {}))
    connections: Quota = field(default_factory=lambda: Quota(0))
    channel_id: Callable[[str], Awaitable[str]] = _same
    hook: PlayHook | None = None


@dataclass(slots=True, eq=False)
class Play:
    """One play: name, rights, hook, place of the address, publisher, bandwidth, in this order. `end` must be called.

    name: of the stream; the hook may have chosen another one. channel: None if it is unknown.
    waited: whether it waited for the publisher, and gets the stream from the first frame.
    """

    admission: PlayAdmission
    streams: PlayableStreams
    request: ViewerRequest
    name: str = field(init=False)
    channel: Channel | None = field(default=None, init=False)
    waited: bool = field(default=False, init=False)
    _checked: str = field(default="", init=False)  # the name whose rights were checked
    _has_place: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.name = self.request.name

    async def check(self) -> None:
        """Finds the channel, checks the rights, and asks the hook. Raises GatewayError."""
        request, admission = self.request, self.admission
        if not is_stream_name(request.name):
            raise NoSuchStream(request.name)
        channel = channel_of(request.name)
        id, rendition = await admission.channel_id(channel), request.name[len(channel) :]
        self.name = self._checked = id + rendition
        if request.pull_mark and request.pull_mark == pull_mark(id):
            raise OwnOutput(self.name)
        stream = self.streams.find(self.name)
        self._judge(stream.channel if stream is not None else await find_channel(admission.channels, id))
        if admission.hook is not None:
            question = HookRequest(HookAction.PLAY, id, request.address, request.details)
            self.name = await admission.hook.allowed(question, exempt=request.exempt) + rendition

    async def wait(self, longest: float = math.inf) -> Stream:
        """Takes a place of the address, and returns the stream when it can be played. Raises GatewayError.

        Checks the client first if nobody did, and again if the channel has changed. longest: seconds.
        """
        if not self._checked:
            await self.check()
        request, places = self.request, self.admission.connections
        try:
            if request.counted and not request.exempt and not self._has_place:
                if not places.take(request.address, request.own):
                    raise AtCapacity("too many players from this address")
                self._has_place = True
            self.waited = self.streams.find(self.name) is None
            stream = await self.streams.wait(self.name, min(longest, self.admission.wait))
            if stream.channel is not self.channel and self.name == self._checked:
                self._judge(stream.channel)
        except BaseException:
            self.end()
            raise
        self.channel = stream.channel
        return stream

    async def begin(self, longest: float = math.inf) -> Stream:
        """Does what `wait` does, and counts the bandwidth of the new viewer. Raises GatewayError."""
        stream, request = await self.wait(longest), self.request
        try:
            self.admission.limits.admit(stream, "" if request.exempt else request.address)
        except AtCapacity:
            self.end()
            raise
        return stream

    def end(self) -> None:
        """Gives the place of the address back. Idempotent."""
        if self._has_place:
            self._has_place = False
            self.admission.connections.give(self.request.address)

    def _judge(self, channel: Channel | None) -> None:
        request, self.channel = self.request, channel
        if request.judge is not None:
            request.judge(self.name, channel)
        else:
            address = None if request.exempt else request.address
            self.admission.protection.judge_sign(self.name, channel, request.sign, address)
