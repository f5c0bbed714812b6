"""The description of a playback format. `formats.py` has the descriptions of all formats."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from gateway.http.request import Request
    from gateway.http.response import Answer
    from gateway.listeners.port_listener import OpenListeners
    from gateway.live.output import StreamOutput
    from gateway.live.stream import Stream
    from gateway.outputs.descriptor import LocalizedText, OutputField
    from gateway.packaging.services import PackagingServices
    from gateway.playback.services import PlayServices
    from gateway.settings import Settings

LIVE_FLV: Final = "live.flv"
LIVE_M3U8: Final = "live.m3u8"
MASTER: Final = "master.m3u8"
MANIFEST: Final = "manifest.mpd"
# Folders of the publisher's additional audio tracks: ids are one byte.
ADDITIONAL_AUDIO: Final = tuple(f"audio-{track_id}" for track_id in range(1, 256))

AnswerOrAwaitable: TypeAlias = "Answer | Coroutine[Any, Any, Answer]"
# respond(request, stream, the path below the stream). The stream is live, or ended less than a minute ago. Its output
# is enabled, and the viewer is authorized.
Responder: TypeAlias = Callable[["Request", "Stream", str], "AnswerOrAwaitable"]
# packager(services) returns the factory of a stream's output.
PackagerOf: TypeAlias = Callable[["PackagingServices"], Callable[["Stream"], "StreamOutput"]]


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
    listener itself. None: the ingest protocol with this name also plays.
    is_optional: whether the port may be off. Then the format has no addresses.
    """

    name: str
    open: Callable[[PlayServices], OpenListeners] | None = None
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class FormatCode:
    """The code of a playback format.

    packager: returns the factory of a stream's output.
    respond: answers for its files. None: the format has no files, and handles its connections itself.
    """

    packager: PackagerOf
    respond: Responder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayFormat:
    """A playback format as router, edge, addresses, API, console and metrics use it.

    output: name of its output, also in metrics. flag: the channel field that enables it; empty: always enabled.
    addresses: in the order in which clients list them.
    module: has its `CODE`, a FormatCode. Commands that only list addresses do not import it.
    on_demand: whether the output starts at the first request.
    pulled: whether the output also exists on nodes that pull the stream, because it needs only units.
    listener: for media that do not come from the playback port; None: they do.
    is_on: whether the settings have the format at all. Otherwise nothing of it is imported.
    rendition_codec: the renditions of a ladder with this encoder also have the output.
    fields, label: only for a format whose fields are not in `gateway.channels.fields`; see `OutputDescriptor`.

    files: the cache class of each of its files, by suffix.
    folders: the folders of its media files; empty: the folder of the playlist.
    """

    output: str
    flag: str
    addresses: tuple[PlayAddress, ...]
    module: str
    on_demand: Callable[[Settings], bool] = lambda settings: False
    pulled: bool = False
    listener: PlayListener | None = None
    is_on: Callable[[Settings], bool] = lambda settings: True
    rendition_codec: str = ""
    files: Mapping[str, CacheClass] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    fields: Mapping[str, OutputField] = field(default_factory=dict)
    label: LocalizedText = field(default_factory=dict)

    def load(self) -> FormatCode:
        """Imports and returns the code of the format."""
        code: FormatCode = import_module(self.module).CODE
        return code

    def has_addresses(self, ports: Mapping[str, int | None]) -> bool:
        """Whether clients can reach it. ports: of all listeners; None: closed."""
        return self.listener is None or not self.listener.is_optional or ports[self.listener.name] is not None

    @property
    def media(self) -> tuple[str, ...]:
        """The suffixes of its media files."""
        return tuple(suffix for suffix, cache_class in self.files.items() if cache_class is CacheClass.MEDIA)
