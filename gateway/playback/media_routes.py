"""Finds the output that answers for a file of a stream, by its path."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from gateway.http.request import Request
from gateway.live.stream import Stream
from gateway.media.caption_track import CAPTIONS_FOLDER
from gateway.playback.captions import captions as live_captions
from gateway.playback.format_outputs import REWIND
from gateway.playback.formats import FORMATS, HLS, LADDER_INDEX
from gateway.playback.ladder import LadderPlayback
from gateway.playback.play_format import AnswerOrAwaitable, Responder
from gateway.playback.playlist_response import not_streaming

SNAPSHOT: Final = "snapshot.jpg"
REWIND_PICTURES: Final = "rewind"  # the folder of small pictures for the time bar


def _no_snapshot(request: Request, stream: Stream, rest: str) -> AnswerOrAwaitable:
    """Answers at a node without streams of its own, which makes no pictures."""
    return not_streaming(stream.name)


@dataclass(frozen=True, slots=True)
class MediaRoute:
    """The files of one output.

    output: the output that must be enabled; "": none.
    protocol: the protocol under which players are counted; "": they are not counted.
    instead: another output that suffices. The responder then decides which files exist.
    """

    output: str
    respond: Responder
    protocol: str = ""
    instead: str = ""

    def is_on(self, stream: Stream) -> bool:
        """Whether the stream has the output, or the other one that suffices."""
        return not self.output or stream.has_output(self.output) or stream.has_output(self.instead)


@dataclass(frozen=True, slots=True)
class MediaRoutes:
    """Maps paths below `/<id>/` to outputs: first by the whole path, then by the first folder, then by the suffix.

    other_folders: the route of all other folders, which are the renditions of ladders.
    """

    names: Mapping[str, MediaRoute]
    folders: Mapping[str, MediaRoute]
    suffixes: Mapping[str, MediaRoute]
    other_folders: MediaRoute | None = None

    @classmethod
    def of(
        cls,
        ladders: LadderPlayback,
        snapshot: Responder = _no_snapshot,
        rewind_pictures: Responder | None = None,
        captions: Responder = live_captions,
    ) -> Self:
        """Returns the routes of all formats, of ladders with a folder for each rendition, of pictures and captions."""
        names = {LADDER_INDEX: MediaRoute("", ladders.index), SNAPSHOT: MediaRoute("", snapshot)}
        folders: dict[str, MediaRoute] = {}
        suffixes: dict[str, MediaRoute] = {}
        for format in FORMATS:
            respond = ladders.responder(format)
            if respond is not None:
                instead = REWIND if format is HLS else ""
                route = MediaRoute(format.output, respond, format.output, instead)
                names |= {address.path: replace(route, protocol=address.name) for address in format.addresses}
                folders |= dict.fromkeys(format.folders, route)
                suffixes |= dict.fromkeys(() if format.folders else format.media, route)
        folders[CAPTIONS_FOLDER] = MediaRoute("", captions)
        if rewind_pictures is not None:
            folders[REWIND_PICTURES] = MediaRoute("", rewind_pictures)
        return cls(names, folders, suffixes, MediaRoute("", ladders.rendition))

    def find(self, path: str) -> MediaRoute | None:
        route = self.names.get(path)
        if route is not None:
            return route
        folder, slash, _ = path.partition("/")
        if slash:
            return self.folders.get(folder, self.other_folders)
        return self.suffixes.get(path.rpartition(".")[2])
