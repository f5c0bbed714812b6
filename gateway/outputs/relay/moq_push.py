"""One session with a relay of Media over QUIC: it gets the stream as a broadcast. The library has the protocol."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import moq

from gateway.lib.tasks import Tasks
from gateway.live.subscription import End, Item
from gateway.media.track import AccessUnit, Tracks
from gateway.outputs.relay.left_out_sound import check_sound
from gateway.packaging.moq_broadcast import CARRIED, Broadcast
from gateway.ports.errors import OutputError, OutputUnsupported
from gateway.protocols.moq_url import MoqUrl

_CACHE_BYTES: Final = 32_000_000  # of the newest groups, for a relay that is slow or asks late
# A relay that refuses the query accepts the session, and ends it after it has read the query.
_REFUSED_SECONDS: Final = 1.0
_END_SECONDS: Final = 1.0  # for the ends of the tracks, before the session ends


def check_tracks(tracks: Tracks) -> list[str]:
    """Returns a warning for sound that is left out. Raises OutputUnsupported if nothing can be carried."""
    video = tracks.video
    if video is not None and video.codec not in CARRIED:
        raise OutputUnsupported(f"Media over QUIC cannot carry {video.codec}")
    return check_sound(tracks, CARRIED, "Media over QUIC")


class MoqRelayPush:
    """An open session, made by `open_push`. The relay gets a track while one of its viewers wants it.

    Memory: _CACHE_BYTES, in the library. Above it, the oldest groups are dropped.
    warnings: one line for each problem of the current tracks.
    on_lost: called once when the session is lost.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.on_lost: Callable[[Exception], None] | None = None
        self._sent = 0
        self._failed: Exception | None = None
        self._opened = contextlib.AsyncExitStack()
        self._session: moq.Session | None = None
        self._broadcast: Broadcast | None = None

    async def open(self, url: MoqUrl, name: str, tls: ssl.SSLContext, seconds: float) -> None:
        """Connects, and offers the broadcast `name`. Raises OutputError.

        tls: its authorities are trusted, beside those of the system.
        """
        self._broadcast = Broadcast(name, _CACHE_BYTES, self._lose)
        client = moq.Client(
            url.address, tls_roots=self._opened.enter_context(_authorities(tls)), tls_system_roots=True,
            websocket_enabled=False, reconnect=False,
            publish=self._broadcast.origin, subscribe=moq.OriginProducer(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                await self._opened.enter_async_context(client)
        except TimeoutError:
            raise OutputError(f"{url.host} does not answer within {seconds:g} s") from None
        except moq.Error as error:
            raise OutputError(_reason(error)) from None
        session = self._session = client.session
        assert session is not None, "it is connected"
        tasks = await self._opened.enter_async_context(Tasks("moq relay"))
        watch = tasks.start(self._watch(session), url.host)
        await asyncio.wait([watch], timeout=_REFUSED_SECONDS)
        if self._failed is not None:
            raise self._failed

    @property
    def sent(self) -> int:
        """Bytes sent to the relay."""
        if self._session is not None:
            self._sent = self._session.stats().bytes_sent or self._sent  # nothing once it has ended
        return self._sent

    async def send_stream(self, tracks: Tracks, items: AsyncIterator[Item]) -> None:
        """Sends all items until the stream's end. Raises OutputUnsupported. Hot path."""
        broadcast = self._broadcast
        assert broadcast is not None, "it is open"
        self._begin(broadcast, tracks)
        async for item in items:
            if isinstance(item, AccessUnit):
                broadcast.on_unit(item)  # it begins with a key frame
            elif isinstance(item, Tracks):
                self._begin(broadcast, item)
            elif isinstance(item, End):
                self._close()
                await asyncio.sleep(_END_SECONDS)
                return

    async def finish(self) -> None:
        """Ends the session. May be called in any state."""
        self.on_lost = None
        self._sent = self.sent
        self._close()
        await self._opened.aclose()

    # ---- details ----

    def _begin(self, broadcast: Broadcast, tracks: Tracks) -> None:
        """Begins with these tracks. Raises OutputUnsupported."""
        self.warnings = check_tracks(tracks)
        broadcast.on_tracks(tracks)

    def _close(self) -> None:
        broadcast, self._broadcast = self._broadcast, None
        if broadcast is not None:
            broadcast.close()

    async def _watch(self, session: moq.Session) -> None:
        """Waits for the end of the session."""
        try:
            await session.closed()
            self._lose(OutputError("the relay has ended the session"))
        except moq.Error as error:
            self._lose(OutputError(_reason(error)))

    def _lose(self, error: Exception) -> None:
        self._failed = error
        if self.on_lost is not None:
            self.on_lost(error)


@contextlib.contextmanager
def _authorities(tls: ssl.SSLContext) -> Iterator[list[str]]:
    """Yields the path of a file with the authorities that the operator trusts, as the library wants them."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write("".join(map(ssl.DER_cert_to_PEM_cert, tls.get_ca_certs(binary_form=True))))
        file.flush()
        yield [file.name]


def _reason(error: moq.Error) -> str:
    detail = moq.protocol_error(error)
    if detail is None:
        return str(error)
    return f"the server {'refuses' if moq.is_auth(error) else 'has ended the session'}: {detail.message}"


async def open_push(url: MoqUrl, name: str, tls: ssl.SSLContext, seconds: float) -> MoqRelayPush:
    """Opens a session; see `MoqRelayPush.open`. Raises OutputError."""
    push = MoqRelayPush()
    try:
        await push.open(url, name, tls, seconds)
    except BaseException:
        await push.finish()
        raise
    return push
