"""Creates the services that answer the players of a gateway."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.app.parts.gateway_parts import GatewayParts
from gateway.app.role import PlayedStreams
from gateway.app.viewer_parts import viewer_reports
from gateway.lib.refusals import Refusals
from gateway.media.track import AccessUnit
from gateway.playback.film_pages import FilmPages
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.http_viewers import UNCOUNTED, HttpViewers
from gateway.playback.internal_playback import InternalPlayback
from gateway.playback.ladder import LadderPlayback
from gateway.playback.media_routes import MediaRoutes
from gateway.playback.pages import Pages
from gateway.playback.playlist_response import start_output
from gateway.playback.posters import Posters, stored_snapshots
from gateway.playback.public_channels import ChannelList, PublicChannels, live_public_channels
from gateway.playback.recording_files import RecordingFiles
from gateway.playback.rewind import Rewind
from gateway.playback.rewind_captions import RewindCaptions
from gateway.playback.rewind_pictures import RewindPictures
from gateway.playback.router import LivePlayback, PlaybackAccess, PlaybackRouter, StoredPlayback
from gateway.playback.segment_pictures import SegmentPictures
from gateway.playback.session_files import SessionFiles
from gateway.playback.show_files import ShowFiles
from gateway.playback.snapshot import SnapshotResponder
from gateway.playback.vod_files import VodFiles

# Of the pictures of sessions: pixels of the longer side, and how many are cached, about 100 kB each. Other caches keep
# them only for a minute, because a session may be hidden.
_POSTER_PIXELS, _MAX_POSTERS, _POSTER_CACHE = 1280, 100, "public, max-age=60"


@dataclass(frozen=True, slots=True)
class Playback:
    """The answers to players. node_files: the files of streams, for other nodes."""

    router: PlaybackRouter
    node_files: InternalPlayback
    vod_files: VodFiles
    channel_list: ChannelList


def build_playback(gateway: GatewayParts, played: PlayedStreams) -> Playback:
    """Returns the answers to players. played: the streams that viewers of this node play."""
    node, stores, viewers, live = gateway.node, gateway.backends.stores, gateway.viewers, gateway.live
    settings, tasks, channels = node.settings, node.tasks, viewers.channels
    rewind = Rewind(stores.objects, tasks)
    downloads = settings.pages.download
    pages = FilmPages(
        stores.films, stores.objects, channels.owners, viewers.site, settings.playback.public_url, downloads
    )
    pictures = SegmentPictures(_picture_maker(gateway), tasks, _POSTER_PIXELS, _MAX_POSTERS, _POSTER_CACHE)
    sessions = SessionFiles(stores.objects, channels.owners, pages, pictures, gateway.clips if downloads else None)
    recordings = RecordingFiles(stores.objects, pages, sessions)
    vod_files = VodFiles(recordings, pages.film, viewers.protection, channels.owners, viewers.plays.hook)
    moq_port = node.own_address.ports["moq"]
    http_cache = gateway.member.http_cache if gateway.member is not None else None
    live_playback = LivePlayback(
        streams=played.streams,
        routes=_routes(gateway, rewind, viewers.counts),
        flv=FlvViewers(settings.limits.viewer_backlog),
        viewers=viewers.counts,
        start_output=start_output,
        remote_files=http_cache,
        reports=viewer_reports(node, http_cache),
        viewer_count=live.viewers_of,
        rewind=rewind.status,
    )

    async def count_live_viewers() -> Mapping[str, int]:
        """Returns the number of viewers of the live public channels of all nodes, by id."""
        own = list(live_public_channels(live.hub, live.remote_viewers))
        found = await gateway.cluster.ask_all("public-live")
        entries = (entry for entries in (*found.answers.values(), own) for entry in entries)
        return {str(entry.get("id")): entry["viewers"] for entry in entries if type(entry.get("viewers")) is int}

    public = PublicChannels(stores.channels.list, count_live_viewers, settings.playback.auth, tasks)
    channel_list = ChannelList(public.entries, tasks)
    router = PlaybackRouter(
        PlaybackAccess(viewers.plays, channels.owners, channels.slugs),
        live_playback,
        Pages(settings.playback.public_url, settings.playback.player_hosts, site=viewers.site, moq_port=moq_port),
        Health(node.readiness.missing, node.readiness.degraded),
        StoredPlayback(
            recordings,
            Posters(stored_snapshots(stores.objects), tasks),
            channel_list,
            gateway.publishers.routes(),
            gateway.replays,
            ShowFiles(
                gateway.reports.listed,
                gateway.reports.report,
                Refusals(settings.limits.refusals_per_minute),
                tasks,
                settings.playback.public_url,
            ),
        ),
        {"vod": vod_files},
    )
    node_files = InternalPlayback(
        live.hub, channels.cached, channels.owners, _routes(gateway, rewind, UNCOUNTED), router.statuses, recordings
    )
    return Playback(router, node_files, vod_files, channel_list)


def _routes(gateway: GatewayParts, rewind: Rewind, viewers: HttpViewers) -> MediaRoutes:
    ladders = LadderPlayback(gateway.live.hub, viewers, rewind=rewind)
    pictures = RewindPictures(rewind, _picture_maker(gateway), gateway.node.tasks)
    snapshot = SnapshotResponder(gateway.live.outputs.jpegs.make_latest)
    return MediaRoutes.of(ladders, snapshot, pictures, RewindCaptions(rewind))


def _picture_maker(gateway: GatewayParts) -> Callable[[AccessUnit, int], Awaitable[bytes]]:
    jpegs = gateway.live.outputs.jpegs
    return lambda unit, longest: jpegs.make_picture([unit], longest=longest)
