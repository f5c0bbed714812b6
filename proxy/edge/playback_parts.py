"""Creates the services that answer the players of an edge."""

from gateway.app.viewer_parts import viewer_reports
from gateway.lib.refusals import Refusals
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.ladder import LadderPlayback
from gateway.playback.media_routes import MediaRoutes
from gateway.playback.obs_configuration import PER_MINUTE
from gateway.playback.pages import Pages
from gateway.playback.public_channels import ChannelList
from gateway.playback.router import (
    LivePlayback,
    PlaybackAccess,
    PlaybackRouter,
    PublisherRoutes,
    StoredPlayback,
)
from gateway.playback.show_files import ShowFiles
from gateway.playback.vod_files import VodFiles
from proxy.edge.edge_parts import EdgeParts
from proxy.edge.idle_channels import EdgeReplays, edge_posters
from proxy.edge.publishers import PublisherRequests


def build_playback(edge: EdgeParts, health: Health) -> PlaybackRouter:
    """Returns the router of the players' requests."""
    node, cluster, viewers, streams = edge.node, edge.cluster, edge.viewers, edge.pulled.replicas
    settings, channels, recordings = node.settings, viewers.channels, edge.recordings
    moq_port = node.own_address.ports["moq"]
    live = LivePlayback(
        streams,
        MediaRoutes.of(LadderPlayback(streams, viewers.counts)),
        FlvViewers(settings.limits.viewer_backlog),
        viewers.counts,
        remote_files=edge.http_cache,
        reports=viewer_reports(node, edge.http_cache),
    )
    # Behind a CDN, many viewers have one address. Limits by address are off then.
    limit = Refusals(PER_MINUTE if settings.limits.refusals_per_minute else 0)
    publishers = PublisherRequests(cluster.gateways, cluster.peers, node.tasks, limit)
    return PlaybackRouter(
        PlaybackAccess(viewers.plays, channels.owners, channels.slugs),
        live,
        Pages(settings.playback.public_url, settings.playback.player_hosts, site=viewers.site, moq_port=moq_port),
        health,
        StoredPlayback(
            recordings,
            edge_posters(edge.files, node.tasks),
            public_channels=ChannelList(edge.site.public_channels, node.tasks),
            publishers=PublisherRoutes(publishers.ports, publishers.servers, publishers.obs, publishers.captions),
            replays=EdgeReplays(edge.files, node.tasks),
            shows=ShowFiles(
                edge.site.shows,
                edge.site.report,
                Refusals(settings.limits.refusals_per_minute),
                node.tasks,
                settings.playback.public_url,
            ),
        ),
        {"vod": VodFiles(recordings, recordings.film_page, viewers.protection, channels.owners, viewers.plays.hook)},
    )
