"""How a playback format describes itself: each exports one `FORMAT`, which `formats.py` lists."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from gateway.http.request import Request
from gateway.http.response import Answer
from gateway.live.output import OutputSpec, StreamOutput
from gateway.live.stream import Stream
from gateway.outputs.descriptor import LocalizedText, OutputField
from gateway.packaging.services import PackagingServices
from gateway.settings import Settings

AnswerOrAwaitable: TypeAlias = "Answer | Coroutine[Any, Any, Answer]"
# respond(request, stream, the path below the stream). The stream is live, or ended less than a minute ago, and its
# output is enabled. The viewer may have it.
Responder: TypeAlias = Callable[[Request, Stream, str], AnswerOrAwaitable]


class CacheClass(Enum):
    """How an edge keeps a file, besides what its `Cache-Control` says."""

    MEDIA = "media"  # never changes; may be large
    PLAYLIST = "playlist"  # changes all the time; each viewer's query is inserted as it is
    MANIFEST = "manifest"  # the same for XML with `$` identifiers; its UTCTiming moves on with the age of the copy


@dataclass(frozen=True, slots=True)
class PlayAddress:
    """One address of a format.

    name: in `playUrls` and in viewer counts. path: below the address of the channel; empty for RTMP.
    scheme: "http" stands for https, too. label: for people.
    """

    name: str
    path: str
    label: str
    scheme: str = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayFormat:
    """Everything that router, edge, addresses, API, console and metrics know of one way to play a stream.

    output: the output that makes it, also its name in metrics. flag: the channel field that switches it on; empty: it
    is always on. addresses: in the order in which clients are shown them.
    packager: returns what makes the output of one stream.
    on_demand: whether the output starts at the first request.
    pulled: also nodes that pull the stream make it, because it needs nothing but units.
    rung_codec: the rungs of a ladder with this encoder have the output, too.
    fields, label: of a format that is not in the contract, as in `OutputDescriptor`.

    A format of files has these too; others handle their connections themselves.
    respond: answers for its files. files: the cache class of each, by suffix.
    folders: where its media files are; empty: beside the playlist.
    """

    output: str
    flag: str
    addresses: tuple[PlayAddress, ...]
    packager: Callable[[PackagingServices], Callable[[Stream], StreamOutput]]
    on_demand: Callable[[Settings], bool] = lambda settings: False
    pulled: bool = False
    rung_codec: str = ""
    respond: Responder | None = None
    files: Mapping[str, CacheClass] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    fields: Mapping[str, OutputField] = field(default_factory=dict)
    label: LocalizedText = field(default_factory=dict)

    @property
    def media(self) -> tuple[str, ...]:
        """The suffixes of its media files."""
        return tuple(suffix for suffix, kept in self.files.items() if kept is CacheClass.MEDIA)

    def spec(self, services: PackagingServices) -> OutputSpec:
        """Returns the output of a stream."""

        def wanted(stream: Stream) -> bool:
            channel = stream.channel
            if not self.flag or channel.flag(self.flag):
                return True
            return not stream.is_source and channel.codec == self.rung_codec

        on_demand = self.on_demand(services.settings)
        return OutputSpec(self.output, self.packager(services), wanted, on_demand, listed=bool(self.flag))
