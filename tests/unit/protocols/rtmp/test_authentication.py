"""User and password in `connect`: two refusals, then the response; and refusals after which nothing helps."""

import pytest

from gateway.protocols.rtmp.authentication import answer, is_demand
from gateway.protocols.rtmp.url import RtmpUrl, parse_url
from tests.support.rtmp_password import PasswordServer


def connections(server: PasswordServer, url: str) -> list[RtmpUrl]:
    """Returns the addresses of the connections, one after the other. The last is accepted, or gives up."""
    tried = [parse_url(url)]
    while refusal := server.refusal(tried[-1].tc_url):
        assert is_demand(refusal)
        following = answer(tried[-1], refusal, "0a1b2c3d")
        if following is None:
            break
        tried.append(following)
    return tried


@pytest.mark.parametrize(
    "server", [PasswordServer("adobe"), PasswordServer("adobe", opaque=False), PasswordServer("llnw")]
)
def test_the_third_connection_has_the_right_response(server: PasswordServer) -> None:
    tried = connections(server, "rtmp://me:p%40ss%3Aword@h/live/key")
    assert len(tried) == 3
    assert len(server.refusals) == 2
    assert tried[1].tc_url == f"rtmp://h/live?authmod={server.mode}&user=me"
    assert {(each.app, each.name) for each in tried} == {("live", "key")}
    assert "p@ss:word" not in f"{tried}{tried[-1].tc_url}"


@pytest.mark.parametrize(("user", "count"), [("", 1), ("me@", 3), ("me:wrong@", 3), ("you:p%40ss%3Aword@", 2)])
@pytest.mark.parametrize("mode", ["adobe", "llnw"])
def test_a_wrong_user_or_password_ends_the_attempts(mode: str, user: str, count: int) -> None:
    server = PasswordServer(mode)
    assert len(connections(server, f"rtmp://{user}h/live/key")) == count == len(server.refusals)


@pytest.mark.parametrize(
    "refusal", ["code=403 need auth; authmod=other", "authmod=adobe", "?reason=needauth&salt=x; authmod=adobe"]
)
def test_other_demands_are_not_answered(refusal: str) -> None:
    assert answer(parse_url("rtmp://me:x@h/live/key"), refusal, "0a1b2c3d") is None


def test_a_server_that_repeats_its_demand_is_not_asked_forever() -> None:
    url = answer(parse_url("rtmp://me:x@h/live/key"), "code=403 need auth; authmod=adobe", "0a1b2c3d")
    assert url is not None
    assert answer(url, "code=403 need auth; authmod=adobe", "0a1b2c3d") is None
