"""One target of a relay: connects, starts at a key frame, and reconnects after errors."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from gateway.channels import relay_urls
from gateway.formats import amf0
from gateway.formats.flv import muxer
from gateway.formats.flv.tag import AUDIO, FOURCC, SCRIPT, VIDEO
from gateway.lib.backoff import Backoff
from gateway.lib.egress import MOQ, RTMP, SRT, Egress, EgressRefused
from gateway.lib.extras import INSTALL_AWS, INSTALL_MOQ
from gateway.lib.rfc3339 import rfc3339
from gateway.live.additional_sinks import AdditionalSinks
from gateway.live.output_fault import OutputFault
from gateway.live.pushed_tracks import PushedTrack
from gateway.live.sink import SinkNeeds
from gateway.live.stream import Stream
from gateway.live.subscription import AdditionalUnit, End, Item, Subscription
from gateway.media.clock import MILLISECONDS
from gateway.media.timed_data import PrivateData
from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MediaTrack, TimedData, Tracks
from gateway.outputs.relay import redact_target, silent_track, srt_push
from gateway.outputs.relay.ivs_rules import IvsRules, is_ivs_address, is_realtime, with_app
from gateway.outputs.relay.rtmp_push import PushRefused, RtmpPush, open_push
from gateway.outputs.relay.srt_push import SrtRelayPush
from gateway.ports.errors import GatewayError, OutputError, OutputUnsupported
from gateway.ports.events import Events
from gateway.ports.stores import IvsDirectory
from gateway.protocols import moq_url
from gateway.protocols.moq_url import MoqUrl
from gateway.protocols.rtmp.client import ConnectFeatures
from gateway.protocols.rtmp.url import RtmpUrl, parse_url
from gateway.protocols.srt.url import LatencyRange, SrtUrl
from gateway.protocols.srt.url import parse_url as parse_srt_url
from gateway.settings.models import RelaySettings

if TYPE_CHECKING:
    from gateway.outputs.relay.moq_push import MoqRelayPush  # it loads the library

log = structlog.get_logger(__name__)

BACKLOG_SECONDS: Final = 10.0  # seconds of media that wait for a slow server; then whole groups of pictures are dropped
_FIRST_PAUSE: Final = 1.0
_STABLE_SECONDS: Final = 30.0  # seconds; a target that was live this long is tried again after the shortest pause
_SLOW_SECONDS: Final = 60.0  # seconds for which a warning follows each loss of media
_REVOKED_KEY_SECONDS: Final = 10.0  # seconds; an IVS connection that ends earlier may have had a revoked key
_PLAIN: Final = frozenset({Codec.H264, Codec.AAC, Codec.MP3})  # codecs without Enhanced RTMP
_VIDEO: Final = Kind.VIDEO
_SET_DATA_FRAME: Final = amf0.encode("@setDataFrame")
_Url = TypeVar("_Url")


class TargetState(StrEnum):
    CONNECTING = "connecting"
    LIVE = "live"
    RETRYING = "retrying"
    FAILED = "failed"  # the policy, the address or the codecs must change; tried again rarely


@dataclass(frozen=True, slots=True)
class RelayContext:
    """The services that all relay targets share.

    events: get the failures of single targets. ivs: the directory of IVS channels; None without AWS.
    tls: returns the TLS context; called for RTMPS targets.
    latency: of SRT targets.
    """

    relay: RelaySettings
    egress: Egress
    events: Events
    ivs: IvsDirectory | None
    tls: Callable[[], ssl.SSLContext]
    latency: LatencyRange


@dataclass(frozen=True, slots=True)
class _TargetAddress:
    """The current address of a target. secrets: texts to mask in all messages about it."""

    url: RtmpUrl | SrtUrl | MoqUrl
    address: str
    secrets: tuple[str, ...]
    rules: IvsRules | None


class RelayTarget:
    """One target of one stream. `run` returns when the stream ends.

    text: the target in the channel's field. body: returns the FLV body of a unit.
    `report` and logs contain no keys, even if a server repeats them.
    """

    def __init__(self, text: str, stream: Stream, context: RelayContext, body: Callable[[AccessUnit], bytes]) -> None:
        self.shown = str(relay_urls.masked([text])[0])
        self.state = TargetState.CONNECTING
        self.error = ""
        self.fault = OutputFault(context.events, stream.channel.id, "relay", self.shown)
        self._text = text
        self._stream, self._context, self._body = stream, context, body
        self._since = time.time()
        self._attempts = 0
        self._sent = 0  # bytes of earlier connections
        self._dropped = 0
        self._push: RtmpPush | SrtRelayPush | MoqRelayPush | None = None
        self._items: Subscription | None = None
        self._additional: AdditionalSinks | None = None
        self._rules: IvsRules | None = None
        self._tried: Tracks | None = None  # the first tracks of the last connection
        self._refresh = False  # request the ingest endpoint again, because the last connection failed
        self._logged_error = ""

    @property
    def sent(self) -> int:
        """Returns the bytes sent to the network, over all connections."""
        return self._sent + (self._push.sent if self._push is not None else 0)

    @property
    def dropped(self) -> int:
        """Returns the number of units that were dropped because the target was slow, and of lost packets of SRT."""
        packets = self._push.dropped if isinstance(self._push, SrtRelayPush) else 0
        return self._dropped + packets + (self._items.dropped if self._items is not None else 0)

    def report(self) -> dict[str, Any]:
        """Returns the target's state for the session's status."""
        return {
            "url": self.shown,
            "state": str(self.state),
            "since": rfc3339(self._since),
            "sent": self.sent,
            "dropped": self.dropped,
            "attempts": self._attempts,
            "error": self.error or None,
            "warnings": self._warnings if self.state is TargetState.LIVE else [],
        }

    @property
    def _warnings(self) -> list[str]:
        push, now = self._push, time.monotonic()
        warnings = [] if self._rules is None else self._rules.warnings
        if push is not None and not isinstance(push, RtmpPush):
            warnings = push.warnings
        if isinstance(push, SrtRelayPush) and now - push.lost_at < _SLOW_SECONDS:
            warnings = [*warnings, push.loss]
        if self._items is not None and now - self._items.overflowed < _SLOW_SECONDS:
            warnings = [*warnings, "frames are dropped: the server or the link to it is too slow for the stream"]
        return warnings

    def begin(self) -> None:
        """Subscribes to the stream, before `run`."""
        self._items = Subscription(self._stream.original, max_seconds=BACKLOG_SECONDS)
        self._stream.original.attach(self._items)
        self._additional = AdditionalSinks(self._stream, self._items, self._chosen)

    def _chosen(self, track: PushedTrack) -> bool:
        """Whether the channel relays an additional track. Only RTMP takes more than the default tracks, but not IVS."""
        takes_more = relay_urls.is_rtmp(self._text) and not is_ivs_address(self._text)
        return takes_more and self._stream.channel.relay_tracks.includes(track.name, track.info.language)

    async def run(self) -> None:
        """Relays until the stream ends. Reports each error and tries again."""
        try:
            await self._run()
        finally:
            self.fault.stop()

    async def _run(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, self._context.relay.retry)
        while self._stream.original.ended is None or self._items is not None:
            began = time.monotonic()
            try:
                await self._attempt()
                return
            except OutputUnsupported as error:
                self._set_error(TargetState.FAILED, str(error))
                await self._pause(None, for_tracks=True)
                backoff.reset()
                continue
            except EgressRefused as error:
                self._set_error(TargetState.FAILED, str(error))
            except (GatewayError, OSError) as error:
                self._set_error(TargetState.RETRYING, str(error))
            except Exception as error:
                log.error("relay failed", stream=self._stream.name, target=self.shown, exc_info=error)
                self._set_error(TargetState.RETRYING, f"internal error: {type(error).__name__}")
            if time.monotonic() - began > _STABLE_SECONDS:
                backoff.reset()
            await self._pause(backoff.next())

    async def _attempt(self) -> None:
        """Makes one connection and sends until the stream ends."""
        self._attempts += 1
        if self.fault.error is None:  # otherwise it keeps the state that the last attempt gave it
            self._set_state(TargetState.CONNECTING)
        # The target subscribes before it connects, so that a new stream's first frames wait for the connection.
        if self._items is None:
            self.begin()
        items = self._items
        assert items is not None, "set by begin"
        try:
            async with contextlib.aclosing(aiter(items)) as iterator:  # type: ignore[type-var]
                first = await anext(iterator)
                if not isinstance(first, Tracks):
                    return  # the stream ended before it began
                self._tried = first
                target = await self._resolve()
                self._rules = target.rules
                if target.rules is not None:
                    target.rules.check_tracks(first)
                if isinstance(target.url, SrtUrl):
                    srt_push.check_tracks(first)
                elif isinstance(target.url, RtmpUrl) and silent_track.wants_sound(target.url.host):
                    silent_track.check_tracks(first)
                began = time.monotonic()
                try:
                    await self._relay(target, first, iterator, items)
                except OutputError as error:
                    # IVS may also accept a revoked key, and then close the connection.
                    self._refresh = isinstance(error, PushRefused) or time.monotonic() - began < _REVOKED_KEY_SECONDS
                    raise OutputError(redact_target.redact_text(str(error), target.secrets)) from None
        finally:
            self._stream.original.detach(items)
            if self._additional is not None:
                self._additional.close()
            self._dropped += items.dropped
            self._items = None

    async def _resolve(self) -> _TargetAddress:
        """Returns the current address. Raises OutputError, StoreUnavailable, OutputUnsupported."""
        if relay_urls.is_ivs_channel(self._text):
            if self._context.ivs is None:
                raise OutputError(f"IVS channels need AWS: {INSTALL_AWS} and set AWS_REGION")
            ingest = await self._context.ivs.ingest(self._text, fresh=self._refresh)
            host, _, port = ingest.endpoint.partition(":")
            address = f"rtmps://{host}:{port or 443}/app/{ingest.key}"
            url, rules = _parsed(parse_url, address), IvsRules(ingest.kind, is_realtime(host))
            secrets = redact_target.target_secrets(address, url.name, url.app)
            return _TargetAddress(url, address, (*secrets, ingest.key), rules)
        if relay_urls.is_srt(self._text):
            called = _parsed(parse_srt_url, self._text)
            return _TargetAddress(called, self._text, (), None)  # its errors have no text of the server
        if moq_url.is_moq(self._text):
            offered = _parsed(moq_url.parse_url, self._text)
            return _TargetAddress(offered, self._text, redact_target.target_secrets(self._text, offered.path), None)
        url, known = _parsed(parse_url, self._text), None
        if is_ivs_address(self._text):
            url, known = with_app(url), IvsRules(realtime=is_realtime(url.host))
        return _TargetAddress(url, self._text, redact_target.target_secrets(self._text, url.name, url.app), known)

    async def _relay(
        self, target: _TargetAddress, tracks: Tracks, iterator: AsyncIterator[Item], items: Subscription
    ) -> None:
        push = self._push = await self._open(target, tracks)
        push.on_lost = items.on_failed
        try:
            self._set_state(TargetState.LIVE)
            log.info("relay is live", stream=self._stream.name, target=self.shown, attempts=self._attempts)
            self._logged_error = ""
            if not isinstance(push, RtmpPush):
                await push.send_stream(tracks, iterator)
            elif silent_track.wants_sound(target.url.host):
                async with contextlib.aclosing(silent_track.with_silence(tracks, iterator)) as audible:
                    await self._send_items(push, silent_track.with_track(tracks), audible)
            else:
                await self._send_items(push, tracks, iterator)
        finally:
            try:
                await push.finish()
            finally:
                self._sent += push.sent
                self._dropped += push.dropped if isinstance(push, SrtRelayPush) else 0
                self._push = None

    async def _open(self, target: _TargetAddress, tracks: Tracks) -> RtmpPush | SrtRelayPush | MoqRelayPush:
        """Returns an open push. Raises OutputError, EgressRefused, OutputUnsupported, OSError."""
        context, url = self._context, target.url
        if isinstance(url, MoqUrl):
            return await self._open_moq(url, target.address, tracks)
        if isinstance(url, SrtUrl):
            # A passphrase may have characters that no other address has.
            addresses = await context.egress.check(target.address.partition("?")[0], SRT)
            return await srt_push.open_push(url, addresses, context.latency, context.relay.timeout)
        addresses = await context.egress.check(target.address, RTMP)
        fourccs = [FOURCC[track.codec].decode() for track in tracks if track.codec not in _PLAIN]
        additional = [t.track for t in self._stream.pushed_tracks.by_name.values() if self._chosen(t)]
        if additional:  # only then, because older servers fail with the list
            fourccs = sorted({FOURCC[track.codec].decode() for track in (*tracks, *additional)})
        tls = context.tls() if url.secure else None
        features = ConnectFeatures(fourccs, bool(additional))
        return await open_push(url, addresses, context.relay, tls, features, context.egress.reads)

    async def _open_moq(self, url: MoqUrl, address: str, tracks: Tracks) -> MoqRelayPush:
        """Returns an open session. Raises OutputError, EgressRefused, OutputUnsupported, OSError."""
        try:
            from gateway.outputs.relay import moq_push
        except ModuleNotFoundError as error:
            raise OutputError(f"{error.name} is not installed: {INSTALL_MOQ}") from None
        moq_push.check_tracks(tracks)
        context = self._context
        if not context.egress.lists(address):
            # The library looks the name up again, so a check of its addresses now would not hold.
            raise EgressRefused(f"{url.host}: servers of Media over QUIC must be listed in egress.allow")
        await context.egress.check(address, MOQ)
        name = url.broadcast or self._stream.name
        return await moq_push.open_push(url, name, context.tls(), context.relay.timeout)

    async def _send_items(self, push: RtmpPush, tracks: Tracks, iterator: AsyncIterator[Item]) -> None:
        """Sends all items from a key frame on, until the stream's end. Hot path."""
        body, send, rules = self._body, push.send, self._rules
        # Whether metadata and sequence headers are due, and whether a key frame must come before them.
        head_due, key_due = True, tracks.video is not None
        # The first metadata has time 0. With another time, ffmpeg's probing detects a subtitle track.
        now = metadata_at = 0
        begun: dict[str, MediaTrack] = {}  # additional tracks whose sequence header was sent
        async for item in iterator:
            if isinstance(item, AccessUnit):
                video = item.track.kind is _VIDEO
                if key_due and video:
                    if not item.key:
                        continue
                    key_due = False
                now = muxer.unit_time(item)
                if head_due:
                    head_due = False
                    _send_metadata(push, self._described(push, tracks), metadata_at)
                    for kind, header in muxer.sequence_bodies(tracks):
                        push.send(kind, now, header)
                send(VIDEO if video else AUDIO, now, body(item))
                if rules is not None:
                    rules.check_unit(item)
                if push.full:
                    await push.drain()
            elif isinstance(item, AdditionalUnit):
                if push.takes_multitrack and not head_due:
                    self._send_additional(push, item, begun)
            elif isinstance(item, TimedData):
                if not head_due and not isinstance(item.value, PrivateData):
                    item = item.counted(MILLISECONDS)
                    send(SCRIPT, item.dts & 0xFFFFFFFF, muxer.timed_body(item))
            elif isinstance(item, Tracks):
                if item.epoch == tracks.epoch and not head_due:
                    _send_metadata(push, self._described(push, item), now)
                else:
                    metadata_at = now
                    head_due, key_due = True, item.video is not None
                    begun.clear()
                    if rules is not None:
                        rules.check_tracks(item)
                tracks = item
            elif isinstance(item, End):
                return

    def _send_additional(self, push: RtmpPush, item: AdditionalUnit, begun: dict[str, MediaTrack]) -> None:
        """Sends a unit of an additional track, from a key frame on, after its sequence header."""
        pushed = self._stream.pushed_tracks.by_name.get(item.name)
        unit = item.unit
        if pushed is None:
            return
        kind, now = VIDEO if unit.track.kind is _VIDEO else AUDIO, muxer.unit_time(unit)
        if begun.get(item.name) != unit.track:
            if not unit.key:
                return
            begun[item.name] = unit.track
            if header := muxer.additional_track_body(pushed.id, unit.track):
                push.send(kind, now, header)
        push.send(kind, now, muxer.additional_body(pushed.id, unit))

    def _described(self, push: RtmpPush, tracks: Tracks) -> Tracks:
        """Returns the tracks with the languages and names of the additional audio tracks, if the target takes them."""
        pushed = self._stream.pushed_tracks
        if not push.takes_multitrack or not pushed.audio:
            return tracks
        infos: dict[str, AmfValue] = {
            str(t.id): {"language": t.info.language, "name": t.info.label} for t in pushed.audio if self._chosen(t)
        }
        more: dict[str, AmfValue] = {"audioTrackIdInfoMap": infos}
        if pushed.default.language:
            more |= {"language": pushed.default.language, "name": pushed.default.label}
        return replace(tracks, metadata=tracks.metadata | more)

    async def _pause(self, seconds: float | None, *, for_tracks: bool = False) -> None:
        """Waits `seconds`, or until the stream has ended. for_tracks: also ends if it has untried tracks.

        They may have changed again before an error about earlier ones, or while the connection was closed.
        """
        original, known = self._stream.original, self._tried
        items = Subscription(original, max_bytes=0)  # of the media, it gets only key frames
        original.attach(items, SinkNeeds(cache=False, audio=False))
        try:
            async with asyncio.timeout(seconds):
                async for item in items:  # to the end of the stream
                    if for_tracks and isinstance(item, Tracks) and (known is None or item.epoch != known.epoch):
                        return
        except TimeoutError:
            pass  # the usual case
        finally:
            original.detach(items)

    def _set_state(self, state: TargetState) -> None:
        if state is not self.state:
            self.state, self._since = state, time.time()
        if state is TargetState.LIVE:
            self.error = ""
            self.fault.works()

    def _set_error(self, state: TargetState, reason: str) -> None:
        self._set_state(state)
        self.error = redact_target.redact_text(reason, ())
        self.fault.failed(self.error)
        if self.error != self._logged_error:  # not logged again at every attempt
            self._logged_error = self.error
            log.warning("relay cannot send", stream=self._stream.name, target=self.shown, reason=self.error)


def _parsed(parse: Callable[[str], _Url], address: str) -> _Url:
    """Returns the parts of an address. Raises OutputError."""
    try:
        return parse(address)
    except ValueError as error:
        raise OutputError(str(error)) from None


def _send_metadata(push: RtmpPush, tracks: Tracks, now: int) -> None:
    push.send(SCRIPT, now, _SET_DATA_FRAME + muxer.metadata_body(tracks, additional=push.takes_multitrack))
