"""The handler of the playback listener if the operator's service decides who may fetch files of media."""

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
    """Asks about requests for files of media, and gives allowed and other requests to the router."""

    router: PlaybackRouter
    hook: PlayHook

    def __call__(self, request: Request) -> AnswerOrAwaitable:
        name = self.router.requested_file(request)
        if not name:
            return self.router(request)
        channel = channel_of(name)
        question = self.hook.question(request, channel)
        if isinstance(question, Response):
            return question
        answer = self.hook.known(question, fetches=True)
        if answer is not None and answer.name == channel:
            return self.router(request)
        return self._ask(request, name, question)

    async def _ask(self, request: Request, stream: str, question: HookRequest) -> Answer:
        if (refusal := await self.router.refusal(request, stream)) is not None:
            return refusal
        name = await self.hook.answer(question, exempt=request.exempt)
        if isinstance(name, Response):
            return name
        if name != question.name:
            path = request.raw_path  # the decoded one may have characters that no address may have
            rendition, below = stream[len(question.name) :], path[path.index("/", 1) :]
            return moved(request, f"/{name}{rendition}{below}", status=307)
        answer = self.router(request)
        return await answer if inspect.isawaitable(answer) else answer
