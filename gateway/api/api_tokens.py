"""Tokens for scripts, which administrators make, list and revoke."""

from typing import Any

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.authenticators import USER
from gateway.api.body import json_object, text_of
from gateway.api.context import CONTEXT
from gateway.api.route import operation
from gateway.api.users import read_rights
from gateway.channels.expiry import parse_outdate
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.api_tokens import ApiToken
from gateway.ports.errors import InvalidField

log = structlog.get_logger(__name__)


@operation(list[console_schemas.ApiToken], statuses=(503,))
async def index(request: web.Request) -> web.Response:
    """List the tokens for scripts, without their secrets."""
    return answer([_json(token) for token in await request.app[CONTEXT].authenticators.tokens.list()])


@operation(console_schemas.CreatedToken, body=console_schemas.NewToken, statuses=(503,))
async def create(request: web.Request) -> web.Response:
    """Create a token for a script. Only this answer has the token itself."""
    body = await json_object(request)
    rights = await read_rights(request, body)
    if rights is None:
        raise BadRequest("expected administrator or broadcaster", field="role")
    try:
        expires = float(parse_outdate(body["expires"])) if body.get("expires") else 0.0
    except InvalidField as error:
        raise InvalidField("expires", error.message) from None
    secret, token = await request.app[CONTEXT].authenticators.tokens.add(text_of(body, "name"), rights, expires)
    log.info("API token created", name=token.name, id=token.id, role=str(rights.role), by=request[USER].name)
    return answer({**_json(token), "token": secret})


@operation(console_schemas.RevokedToken, statuses=(503,))
async def revoke(request: web.Request) -> web.Response:
    """Revoke a token. It ends at once on all nodes."""
    token = await request.app[CONTEXT].authenticators.tokens.revoke(request.match_info["id"])
    log.info("API token revoked", name=token.name, id=token.id, by=request[USER].name)
    return answer({"id": token.id, "revoked": True})


def _json(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": str(token.rights.role),
        "channels": list(token.rights.channels),
        "created": rfc3339(token.created),
        "expires": rfc3339(token.expires) if token.expires else None,
        "used": rfc3339(token.used) if token.used else None,
    }
