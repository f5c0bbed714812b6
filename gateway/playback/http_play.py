"""The plays of requests over HTTP: their rights, and the answers to those that are refused."""

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable
from gateway.playback.play import Play, PlayAdmission, ViewerRequest
from gateway.playback.play_hook import REFUSED
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.playlist_response import not_streaming
from gateway.ports.auth_hook import NO_DETAILS, HookRequest
from gateway.ports.errors import AtCapacity, GatewayError, NoSuchStream, NotAuthorized, StoreUnavailable


class ViewerRefused(NotAuthorized):
    """The request gives no permission. answer: says why."""

    def __init__(self, answer: Response) -> None:
        super().__init__("the request gives no permission")
        self.answer = answer


def http_play(
    admission: PlayAdmission, streams: PlayableStreams, request: Request, name: str, *, counted: bool
) -> Play:
    """Returns the play of a request. Its rights are those of `PlaybackProtection.judge`. counted: see ViewerRequest."""
    hook = admission.hook
    question = hook.question(request, channel_of(name)) if hook is not None else None

    def judge(name: str, channel: Channel | None) -> None:
        refusal = admission.protection.judge(request, name, channel)
        if refusal is None and isinstance(question, Response):
            refusal = question  # the query is too long for the hook
        if refusal is not None:
            raise ViewerRefused(refusal)

    details = question.details if isinstance(question, HookRequest) else NO_DETAILS
    own = 0 if request.proxied else 1  # the client of a trusted proxy has no connection that counts
    wanted = ViewerRequest(name, request.peer, None, details, request.exempt, counted, own, judge=judge)
    return Play(admission, streams, wanted)


def answer_refused(play: Play, request: Request, error: GatewayError) -> Response:
    """Returns the answer to a refused play. Raises the errors that no play has."""
    match error:
        case ViewerRefused():
            return error.answer
        case NotAuthorized():
            return REFUSED
        case NoSuchStream():
            return not_streaming(play.name)
        case AtCapacity():
            return play.admission.limits.answer(request, play.channel, error)
        case StoreUnavailable():
            return service_unavailable("the channels cannot be read now", error.retry_after)
    raise error
