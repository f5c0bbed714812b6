"""Opens the services outside of a gateway: stores, cloud, webhooks and the log of events."""

import ssl
from dataclasses import dataclass

import structlog

from gateway import __version__
from gateway.adapters.cloud import AwsServices
from gateway.adapters.shared_admin_token import share_token, shares_token
from gateway.adapters.stores import Stores, open_stores
from gateway.adapters.webhooks import Webhooks
from gateway.app.node_parts import NodeParts
from gateway.diagnosis.event_log import EventLog
from gateway.lib.certificates import outgoing_tls

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backends:
    """The opened services. tls: trusted authorities for outgoing connections; None: the system's."""

    stores: Stores
    tls: ssl.SSLContext | None
    event_log: EventLog
    cloud: AwsServices


async def open_backends(parts: NodeParts) -> Backends:
    """Opens the services on the stack of the process. Events go to webhooks first. Raises GatewayError, ListenError."""
    settings, metrics, stack, events = parts.settings, parts.metrics, parts.stack, parts.events
    stores = await stack.enter_async_context(open_stores(settings))
    parts.readiness.add("channel store", stores.channels.check)
    parts.readiness.add_optional(stores.unusable)
    for name, reason in stores.unusable().items():
        log.error("a store cannot be used, live streams go on without it", store=name, reason=reason)
    if parts.first and shares_token(settings):
        await share_token(parts.token, stores.console, parts.tasks)
    tls = outgoing_tls(settings.tls.ca)
    if settings.hooks.url:
        hooks = Webhooks(settings.hooks, metrics.hooks, user_agent=f"Millrace/{__version__}", tls=tls)
        events.listen((await stack.enter_async_context(hooks)).post)
    event_log = EventLog(stores.events, parts.identity.id, settings.events, metrics.events)
    events.listen((await stack.enter_async_context(event_log)).record)
    cloud = await stack.enter_async_context(AwsServices(stores.aws, settings.kvs.role))
    return Backends(stores, tls, event_log, cloud)
