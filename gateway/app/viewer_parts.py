"""Creates the services that count players and take their reports, for a gateway and an edge."""

from __future__ import annotations

from gateway.app.node_parts import NodeParts
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.reports import RequestReports, ViewerReports


def http_viewers(parts: NodeParts) -> HttpViewers:
    """Returns the counts of HTTP players. It reads the CMCD of their requests, if the settings allow reports."""
    wanted = parts.settings.playback.reports
    return HttpViewers(reports=RequestReports(parts.experience, parts.metrics.viewer_reports) if wanted else None)


def viewer_reports(parts: NodeParts, http_cache: HttpCacheProxy | None) -> ViewerReports | None:
    """Returns the answers to reports of viewers; None if the settings allow no reports."""
    if not parts.settings.playback.reports:
        return None
    is_held = http_cache.upstream.is_held if http_cache is not None else None
    return ViewerReports(parts.experience, parts.metrics.viewer_reports, is_held)
