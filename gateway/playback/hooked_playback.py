"""The handler of the playback listener if viewers need the permission of the operator's service."""

import inspect
from dataclasses import dataclass
from typing import Final

from gateway.channels.names import channel_of
from gateway.http.request import Request
from gateway.http.response import Answer, moved, service_unavailable, text
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.play_hook import PlayHook
from gateway.playback.playlist_response import MAX_QUERY, own_query
from gateway.playback.router import PlaybackRouter
from gateway.ports.auth_hook import HookAction, HookDetails, HookRequest
from gateway.ports.errors import AtCapacity, NotAuthorized, StoreUnavailable

_TOO_LONG: Final = text(414, "the query is too long")
_REFUSED: Final = text(403, "the auth hook of this server refuses this viewer")


@dataclass(frozen=True, slots=True)
class HookedPlayback:
    """Asks about requests for media, and gives allowed and other requests to the router."""

    router: PlaybackRouter
    hook: PlayHook

    def __call__(self, request: Request) -> AnswerOrAwaitable:
        name, fetches = self.router.requested_media(request)
        if not name:
            return self.router(request)
        name, query = channel_of(name), own_query(request)
        if len(query) > MAX_QUERY:
            return _TOO_LONG
        question = HookRequest(HookAction.PLAY, name, request.peer, HookDetails(query))
        answer = self.hook.known(question, fetches=fetches)
        if answer is not None and answer.name == name:
            return self.router(request)
        return self._ask(request, question, fetches)

    async def _ask(self, request: Request, question: HookRequest, fetches: bool) -> Answer:
        try:
            name = await self.hook.allowed(question, fetches=fetches, exempt=request.exempt)
        except NotAuthorized:
            return _REFUSED
        except AtCapacity as error:
            return service_unavailable(str(error), 1)
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)
        if name != question.name:
            # 307: a request by POST, which opens a WHEP session, stays one.
            return moved(request, f"/{name}{request.path[1 + len(question.name) :]}", status=307)
        answer = self.router(request)
        return await answer if inspect.isawaitable(answer) else answer
