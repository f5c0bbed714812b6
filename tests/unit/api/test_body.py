"""Request bodies of any bytes: the result is an object or `BadRequest`."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.answers import BadRequest
from gateway.api.body import parse_object
from tests.support.admin import TOKEN, admin
from tests.support.http import Wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))  # what every store can carry
FIELDS = st.sampled_from(
    ["outdate", "isFlv", "relayURL", "playAuth", "refererAllow", "hls_time", "id", "key", "logLevel", "enabled",
     "pushDNS", "pullDNS", "TimeStamp", "playUrls", "codec", "videoname", "ImageURL"]
)  # fmt: skip
OUTDATES = st.sampled_from(["2030-01-01", "2090/1/2", 1893456000, "1893456000"])
BODIES = st.dictionaries(FIELDS | st.text(max_size=8), JSON, max_size=6) | st.fixed_dictionaries(
    {"outdate": OUTDATES}, optional=dict.fromkeys(("isFlv", "relayURL", "refererAllow", "x", "videoname"), JSON)
)


@given(st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_parse_to_an_object_or_raise_bad_request(data: bytes):
    try:
        value = parse_object(data)
    except BadRequest:
        return
    assert isinstance(value, dict)
    assert json.loads(json.dumps(value)) == json.loads(data) or "NaN" in repr(value)


def test_a_body_may_begin_with_a_byte_order_mark():
    assert parse_object('\ufeff{"a": "é"}'.encode()) == {"a": "é"}
    with pytest.raises(BadRequest, match="empty"):
        parse_object("\ufeff".encode())


def test_a_number_beyond_a_float_is_refused_at_any_depth():
    for number in (b"1e400", b"-1e400"):
        with pytest.raises(BadRequest, match="too large"):
            parse_object(b'{"a":[{"b":' + number + b"}]}")


@given(st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT))
def test_a_json_object_is_parsed_unchanged(value: dict[str, object]):
    assert (
        parse_object(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").replace(b"?", b"_")) is not None
    )
    assert parse_object(json.dumps(value).encode()) == value


async def test_no_json_body_causes_a_server_error(tmp_path: Path):
    """Several routes with many bodies answer 200, or 4xx with an error text, but never 5xx."""
    async with admin(tmp_path) as api:
        item = await api.create()
        await api.push(item["id"])
        targets = [
            ("POST", "/videostream"),
            ("PUT", f"/videostream/{item['id']}"),
            ("POST", f"/videostream/{item['id']}/outputs/flv"),
            ("PUT", "/domains"),
        ]
        bodies: list[object] = []

        @settings(max_examples=80, database=None, suppress_health_check=list(HealthCheck))
        @given(BODIES | JSON)
        def collect(body: object) -> None:
            bodies.append(body)

        collect()
        for body in bodies:
            for method, path in targets:
                response = await api.call(method, path, body)
                assert response.status in (200, 400, 413), (method, path, body, await response.text())
                if response.status != 200:
                    assert (await response.json())["error"]
        listed = await api.json("GET", "/videostream")
        assert len(listed) > 1


def waiting(method: str, path: str, size: int, token: str = TOKEN) -> str:
    """The head of a request whose client sends its body only when it is asked."""
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {token}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, "Expect: 100-continue", "", ""])


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("PUT", "/site/logo", TOKEN, 413),
        ("POST", "/videostream", TOKEN, 413),
        ("PUT", "/videostream/{}", TOKEN, 413),
        ("PUT", "/videostream/{}", "wrong", 401),
    ],
)
async def test_a_body_that_is_refused_is_not_asked_for(tmp_path: Path, method: str, path: str, token: str, status: int):
    async with admin(tmp_path) as api:
        id = (await api.create())["id"]
        wire = Wire(*await asyncio.open_connection(api.client.host, api.client.port))
        await wire.send(waiting(method, path.format(id), 99_999_999, token))
        assert (await wire.head()).status == status
        await wire.close()


async def test_a_client_that_waits_is_asked_for_its_body_once(tmp_path: Path):
    async with admin(tmp_path) as api:
        path, body = f"/videostream/{(await api.create())['id']}", b'{"videoname": "new"}'
        wire = Wire(*await asyncio.open_connection(api.client.host, api.client.port))
        await wire.send(waiting("PUT", path, len(body)))
        assert await wire.exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(body)
        reply = await wire.reply()
        assert (reply.status, json.loads(reply.body)["videoname"]) == (200, "new")
        await wire.send(f"{waiting('PUT', path, len(body))}{body.decode()}")
        replies = [(await wire.head()).status]
        if replies == [100]:
            replies.append((await wire.reply()).status)
        assert replies[-1] == 200
        await wire.close()


async def test_an_unknown_expectation_is_refused_in_the_form_of_the_api(tmp_path: Path):
    async with admin(tmp_path) as api:
        headers = {"Authorization": f"Bearer {TOKEN}", "Expect": "a-miracle"}
        response = await api.client.post("/videostream", data=b"{}", headers=headers)
        assert response.status == 417
        assert (await response.json())["error"] == "expected no Expect header but 100-continue"
        assert response.headers["Cache-Control"] == "no-store"
