"""The handler of the playback listener if viewers need the permission of the operator's service."""

import inspect
from dataclasses import dataclass

from gateway.channels.names import channel_of
from gateway.http.request import Request
from gateway.http.response import Answer, Response, moved
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.play_hook import PlayHook
from gateway.playback.router import PlaybackRouter
from gateway.ports.auth_hook import HookRequest


@dataclass(frozen=True, slots=True)
class HookedPlayback:
    """Asks about requests for media, and gives allowed and other requests to the router."""

    router: PlaybackRouter
    hook: PlayHook

    def __call__(self, request: Request) -> AnswerOrAwaitable:
        name, fetches = self.router.requested_media(request)
        if not name:
            return self.router(request)
        name = channel_of(name)
        question = self.hook.question(request, name)
        if isinstance(question, Response):
            return question
        answer = self.hook.known(question, fetches=fetches)
        if answer is not None and answer.name == name:
            return self.router(request)
        return self._ask(request, question, fetches)

    async def _ask(self, request: Request, question: HookRequest, fetches: bool) -> Answer:
        name = await self.hook.answer(question, fetches=fetches, exempt=request.exempt)
        if isinstance(name, Response):
            return name
        if name != question.name:
            # 307: a request by POST, which opens a WHEP session, stays one.
            return moved(request, f"/{name}{request.path[1 + len(question.name) :]}", status=307)
        answer = self.router(request)
        return await answer if inspect.isawaitable(answer) else answer
