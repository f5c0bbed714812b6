"""The channel of a user who signed up at the OpenID Connect provider. The first sign-in creates it."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from aiohttp import web

from gateway.api.channels import add_channel
from gateway.api.context import CONTEXT
from gateway.api.login_sessions import ApiUser
from gateway.channels.channel import create_item
from gateway.channels.stores import find_channel
from gateway.ports.errors import AtCapacity, ChannelExists

log = structlog.get_logger(__name__)

LOCK: Final = web.AppKey("creation of own channels", asyncio.Lock)
_FIELD: Final = "signedUpBy"  # the channel field with the name of the user who signed up
_NEVER: Final = "9999-12-31T23:59:59Z"


async def create_own_channel(request: web.Request, user: ApiUser, id: str, limit: int) -> None:
    """Creates a user's channel, unless it exists.

    limit: the maximum number of such channels. Sign-ins at several nodes in the same moment may exceed it.

    Raises AtCapacity, StoreUnavailable.
    """
    context = request.app[CONTEXT]
    if await find_channel(context.channels, id) is not None:
        return
    async with request.app[LOCK]:
        if sum(_FIELD in channel.item for channel in await context.channels.list()) >= limit:
            log.warning("a user cannot sign up: oidc.sign_up is reached", user=user.name, limit=limit)
            raise AtCapacity("no more people can sign up here")
        # Viewers see this name. So only the part of an e-mail address before the @ is used.
        name = user.name.partition("@")[0]
        body = {"videoname": name, "outdate": _NEVER, "isHls": True, _FIELD: user.name}
        item = create_item(body, context.clock(), context.secrets, context.limits.item, id)
        try:
            await add_channel(context, item, {"by": user.name, "peer": context.client_address(request)})
        except ChannelExists:
            return  # another sign-in of this user has just created it
