"""The description of a playback format: each format exports one, `FORMAT`, and `formats.py` lists them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.http.request import Request
from gateway.http.response import Answer
from gateway.live.output import OutputSpec, StreamOutput
from gateway.live.stream import Stream, StreamKind
from gateway.outputs.descriptor import LocalizedText, OutputField
from gateway.packaging.services import PackagingServices
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.listeners.port_listener import OpenListeners
    from gateway.playback.services import PlayServices

AnswerOrAwaitable: TypeAlias = "Answer | Coroutine[Any, Any, Answer]"
# respond(request, stream, the path below the stream). The stream is live, or ended less than a minute ago. Its output
# is enabled, and the viewer is authorized.
Responder: TypeAlias = Callable[[Request, Stream, str], AnswerOrAwaitable]


class CacheClass(Enum):
    """How an edge caches a file, in addition to its `Cache-Control`."""

    MEDIA = "media"  # never changes; may be large
    PLAYLIST = "playlist"  # changes often; each viewer's query is inserted without changes
    MANIFEST = "manifest"  # like PLAYLIST, for XML with `$` identifiers; UTCTiming is advanced by the age of the copy


@dataclass(frozen=True, slots=True)
class PlayAddress:
    """One address of a format.

    name: name in `playUrls` and in viewer counts. path: path below the channel's address; empty for RTMP.
    scheme: "http" also means https. label: the text for users.
    """

    name: str
    path: str
    label: str
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class PlayListener:
    """How viewers connect to a format whose media do not come from the playback port.

    name: of the listener: its section of the settings.
    open: binds its ports, or returns the responders of the HTTP requests that open its sessions. It imports the
    listener itself, because every command imports the formats. None: the ingest protocol with this name also plays.
    """

    name: str
    open: Callable[[PlayServices], OpenListeners] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayFormat:
    """A playback format as router, edge, addresses, API, console and metrics use it.

    output: name of its output, also in metrics. flag: the channel field that enables it; empty: always enabled.
    addresses: in the order in which clients list them.
    packager: returns the factory of a stream's output.
    on_demand: whether the output starts at the first request.
    pulled: whether the output also exists on nodes that pull the stream, because it needs only units.
    listener: for media that do not come from the playback port; None: they do.
    rendition_codec: the renditions of a ladder with this encoder also have the output.
    fields, label: only for a format whose fields are not in `gateway.channels.fields`; see `OutputDescriptor`.

    Only for formats with files (other formats handle their connections themselves):
    respond: answers for its files. files: the cache class of each file by suffix.
    folders: the folders of its media files; empty: the folder of the playlist.
    """

    output: str
    flag: str
    addresses: tuple[PlayAddress, ...]
    packager: Callable[[PackagingServices], Callable[[Stream], StreamOutput]]
    on_demand: Callable[[Settings], bool] = lambda settings: False
    pulled: bool = False
    listener: PlayListener | None = None
    rendition_codec: str = ""
    respond: Responder | None = None
    files: Mapping[str, CacheClass] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    fields: Mapping[str, OutputField] = field(default_factory=dict)
    label: LocalizedText = field(default_factory=dict)

    @property
    def media(self) -> tuple[str, ...]:
        """The suffixes of its media files."""
        return tuple(suffix for suffix, cache_class in self.files.items() if cache_class is CacheClass.MEDIA)

    def spec(self, services: PackagingServices) -> OutputSpec:
        """Returns the description of the format's output."""

        def wanted(stream: Stream) -> bool:
            channel = stream.channel
            if not self.flag or channel.flag(self.flag):
                return True
            return stream.kind is StreamKind.RENDITION and channel.codec == self.rendition_codec

        on_demand = self.on_demand(services.settings)
        return OutputSpec(self.output, self.packager(services), wanted, on_demand, listed=bool(self.flag))
