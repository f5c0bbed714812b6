"""Asks the operator's service whether a viewer may play, and remembers its answers for a short time."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.channels.stores import ChannelReader, find_channel
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.bounded_dict import BoundedDict
from gateway.playback.playlist_response import MAX_QUERY, own_query
from gateway.ports.auth_hook import AuthHook, HookAction, HookDetails, HookMode, HookRequest
from gateway.ports.errors import AtCapacity, NotAuthorized, StoreUnavailable

REMEMBERED: Final = 1.0  # seconds for which an answer is valid for further connections, and a refusal for all requests
ALLOWED: Final = 30.0  # seconds for which a viewer who fetches files is not asked about again
_FILMS: Final = "vod"  # the app of questions about films
_TOO_LONG: Final = text(414, "the query is too long")
REFUSED: Final = text(403, "the auth hook of this server refuses this viewer")
_MAX_ANSWERS: Final = 10_000  # of at most 4 kB each, because queries are limited


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of the service. name: of the allowed stream; None: refused. since: monotonic."""

    name: str | None
    since: float


@dataclass(slots=True, eq=False)
class PlayHook:
    """Answers about viewers: by the name and query of their address, and their own address.

    A connection that plays (FLV, RTMP, WHEP) is asked about when it begins. A viewer who fetches files (HLS, DASH,
    pictures, recordings, films) is asked about every ALLOWED seconds. channels: may be a cache. refused: counts
    refusals. channel_id: returns the id of a channel by its slug or id; the service gets the id.
    """

    hook: AuthHook
    mode: HookMode
    channels: ChannelReader
    channel_id: Callable[[str], Awaitable[str]]
    refused: dict[str, int]
    clock: Callable[[], float] = time.monotonic
    _answers: BoundedDict[HookRequest, _Answer] = field(default_factory=lambda: BoundedDict(_MAX_ANSWERS), init=False)

    def known(self, request: HookRequest, *, fetches: bool) -> _Answer | None:
        """Returns the answer that is still valid; None: `allowed` must ask. fetches: see PlayHook. Hot path."""
        answer = self._answers.get(request)
        if answer is None:
            return None
        lasts = ALLOWED if fetches and answer.name is not None else REMEMBERED
        return answer if self.clock() - answer.since < lasts else None

    def question(self, request: Request, name: str, *, film: bool = False) -> HookRequest | Response:
        """Returns the question about a viewer over HTTP, or the refusal of a query that is too long."""
        query = own_query(request)
        if len(query) > MAX_QUERY:
            return _TOO_LONG
        return HookRequest(
            HookAction.PLAY, name, request.peer, HookDetails(query, _FILMS if film else "stream"), film=film
        )

    async def judge_file(self, request: Request, name: str, *, film: bool) -> Response | None:
        """Returns the refusal if the viewer may not fetch a stored file; otherwise None.

        An answer with another name refuses too, because another film has other files.
        """
        question = self.question(request, name, film=film)
        if isinstance(question, Response):
            return question
        allowed = await self.answer(question, exempt=request.exempt)
        return allowed if isinstance(allowed, Response) else None if allowed == name else REFUSED

    async def answer(self, question: HookRequest, *, exempt: bool) -> str | Response:
        """Does what `allowed` does for a viewer who fetches files, but returns the refusal over HTTP."""
        try:
            return await self.allowed(question, fetches=True, exempt=exempt)
        except NotAuthorized:
            return REFUSED
        except AtCapacity as error:
            return service_unavailable(str(error), 1)
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)

    async def allowed(self, request: HookRequest, *, fetches: bool = False, exempt: bool = False) -> str:
        """Returns the name of the stream that the client may play, which may be another.

        exempt: whether the address is a trusted proxy's. Raises NotAuthorized, AtCapacity, StoreUnavailable.
        """
        answer = self.known(request, fetches=fetches)
        if answer is None:
            name = await self._ask(request, exempt)
            answer = self._answers[request] = _Answer(name, self.clock())
            if name is not None and name != request.name:
                # A viewer who is sent to the other name is not asked about again.
                self._answers[replace(request, name=name)] = answer
        if answer.name is None:
            self.refused["hook"] = self.refused.get("hook", 0) + 1
            raise NotAuthorized("the auth hook refuses this viewer")
        return answer.name

    async def _ask(self, request: HookRequest, exempt: bool) -> str | None:
        if request.film:  # no channel, even if a channel has this id or slug
            return await self.hook.ask(request, exempt=exempt)
        id = await self.channel_id(request.name)
        if self.mode is HookMode.UNKNOWN and await find_channel(self.channels, id) is not None:
            return request.name
        name = await self.hook.ask(replace(request, name=id), exempt=exempt)
        return request.name if name == id else name
