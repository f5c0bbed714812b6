"""Creates the services for players: they find channels, check access, count viewers and take reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.app.node_parts import NodeParts
from gateway.channels.cached_channels import CachedChannels
from gateway.channels.media_owners import MediaOwners
from gateway.channels.site import Site
from gateway.channels.stores import ChannelReader
from gateway.lib.certificates import outgoing_tls
from gateway.lib.quota import Quota
from gateway.lib.viewer_memory import ViewerMemory
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.play import PlayAdmission
from gateway.playback.play_hook import PlayHook
from gateway.playback.protection import PlaybackProtection
from gateway.playback.reports import RequestReports, ViewerReports
from gateway.playback.site import SiteReader
from gateway.playback.slugs import KnownChannels, NameTable, Slugs
from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.auth_hook import AuthHook, HookAction, HookMode
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.cluster.files.http_cache_proxy import HttpCacheProxy
    from gateway.playback.cloudfront_keys import PublicKey


@dataclass(frozen=True, slots=True)
class ChannelCaches:
    """The caches of channels and of the records of deleted channels, in front of their stores.

    store: reads channels. owners: finds the channel whose protection applies to stored media.
    slugs: finds channels by readable names.
    """

    store: ChannelReader
    cached: CachedChannels
    deleted: CachedChannels
    owners: MediaOwners
    slugs: Slugs

    @classmethod
    def of(cls, store: ChannelReader, deleted: ChannelReader, slugs: Slugs) -> ChannelCaches:
        """Returns new caches. deleted: reads the records of deleted channels."""
        channels, records = CachedChannels(KnownChannels(store, slugs)), CachedChannels(deleted)
        return cls(store, channels, records, MediaOwners(channels, records), slugs)

    def forget(self, id: str) -> None:
        """Removes a changed or deleted channel from the caches, so that the next read uses its store."""
        self.cached.forget(id)
        self.deleted.forget(id)
        self.slugs.expire()


@dataclass(frozen=True, slots=True)
class ViewerParts:
    """The services for viewers, of this node's streams and of other nodes' streams.

    plays: decides who may play. counts: counts HTTP players. memory: limits the bytes that wait for viewers.
    site: what pages show of the operator. hook: the operator's service that may refuse clients.
    """

    channels: ChannelCaches
    protection: PlaybackProtection
    plays: PlayAdmission
    counts: HttpViewers
    memory: ViewerMemory
    site: SiteReader
    hook: AuthHook | None


def build_viewers(
    parts: NodeParts,
    store: ChannelReader,
    deleted: ChannelReader,
    names: Callable[[], Awaitable[NameTable]],
    site: Callable[[], Awaitable[Site]],
) -> ViewerParts:
    """Returns the services for viewers. Others: see `ChannelCaches.of`.

    names: returns the channels of all slugs. site: reads the site.

    Raises UnusableKey.
    """
    settings = parts.settings
    wanted = settings.playback.reports
    protection = PlaybackProtection(
        auth=settings.playback.auth,
        referers=settings.playback.referer_allow,
        secrets=parts.secrets,
        cloudfront=_cloudfront(settings),
        refusals_per_minute=settings.limits.refusals_per_minute,
        needs_sign=not settings.auth.play or HookMode(settings.auth.mode) is not HookMode.INSTEAD,
    )
    # If the settings allow reports, `counts` also reads the CMCD of requests.
    slot = parts.identity.slot
    limits = ViewerLimits(settings.limits.node_mbps / (slot.count if slot is not None else 1), protection.refused)
    reports = RequestReports(parts.experience, parts.metrics.viewer_reports) if wanted else None
    counts = HttpViewers(reports=reports, limits=limits, traffic=parts.traffic)
    caches = ChannelCaches.of(store, deleted, Slugs(names, parts.tasks))
    backlogs = ViewerMemory(settings.limits.viewer_memory)
    hook, play_hook = _auth_hook(parts), None
    if hook is not None and hook.asks(HookAction.PLAY):
        play_hook = PlayHook(hook, HookMode(settings.auth.mode), caches.cached, caches.slugs.id_of, protection.refused)
    places = Quota(settings.limits.playback_per_address)
    wait, id_of = settings.stream.wait_for_publisher, caches.slugs.id_of
    plays = PlayAdmission(caches.cached, protection, wait, limits, places, id_of, play_hook)
    return ViewerParts(caches, protection, plays, counts, backlogs, SiteReader(site, parts.tasks), hook)


def _auth_hook(parts: NodeParts) -> AuthHook | None:
    """Returns the operator's service; None if none is set. Raises ListenError for an unusable tls.ca."""
    settings = parts.settings
    if not settings.auth.publish and not settings.auth.play:
        return None
    from gateway.adapters.auth_hook import HttpAuthHook

    hook = HttpAuthHook(
        settings.auth,
        parts.metrics.auth_hook,
        user_agent=f"Millrace/{__version__}",
        tls=outgoing_tls(settings.tls.ca),
    )
    parts.stack.push_async_exit(hook)
    return hook


def viewer_reports(parts: NodeParts, http_cache: HttpCacheProxy | None) -> ViewerReports | None:
    """Returns the answers to reports of viewers; None if the settings allow no reports."""
    if not parts.settings.playback.reports:
        return None
    is_held = http_cache.upstream.is_held if http_cache is not None else None
    return ViewerReports(parts.experience, parts.metrics.viewer_reports, is_held)


def _cloudfront(settings: Settings) -> CloudFrontVerifier | None:
    """Returns the verifier of CloudFront's signatures; None if CloudFront is not configured."""
    cloudfront = settings.cloudfront
    keys: dict[str, PublicKey] = {}
    if cloudfront.public_keys:
        from gateway.playback.cloudfront_keys import load_keys

        keys = load_keys(cloudfront.public_keys)
    origin_secret = cloudfront.origin_secret.get_secret_value()
    if not keys and not origin_secret:
        return None
    return CloudFrontVerifier(keys, settings.playback.public_url, origin_secret)
