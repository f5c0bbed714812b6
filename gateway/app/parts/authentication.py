"""Creates the authentication of the API: users, tokens, and the provider of sign-ins."""

import ssl

import structlog

from gateway.api.authenticators import Authenticators
from gateway.api.login_sessions import LoginLimits
from gateway.api.openid_provider import OpenIdProvider
from gateway.app.node_parts import NodeParts
from gateway.ports.errors import StoreUnusable
from gateway.ports.stores import ConsoleStore

log = structlog.get_logger(__name__)


def build_authenticators(parts: NodeParts, store: ConsoleStore, tls: ssl.SSLContext | None) -> Authenticators:
    """Returns the authentication of the API. Raises StoreUnusable."""
    settings, oidc = parts.settings, parts.settings.oidc
    provider = None
    if oidc.issuer:
        if not oidc.client_id:
            text = "oidc.issuer is set: oidc.client_id has to be set too, to the client's id at the provider"
            raise StoreUnusable(text)
        if not (oidc.allow or oidc.broadcasters or oidc.observers):
            log.warning("nobody may sign in through the provider: oidc.allow is empty", issuer=oidc.issuer)
        provider = OpenIdProvider(oidc, reachable=settings.egress.allow, tls=tls)
    limits = LoginLimits(settings.admin.session_idle, settings.admin.session_most)
    refusals = settings.limits.refusals_per_minute
    return Authenticators(store, parts.token.verifier, limits, refusals_per_minute=refusals, provider=provider)
