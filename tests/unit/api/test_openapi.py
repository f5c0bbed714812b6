"""`openapi.json` is valid, complete, and matches the answers of the API."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import TypeAdapter

from gateway.api.cloudfront import SIGNER
from gateway.api.openapi import document
from gateway.api.routes import ROUTES
from gateway.api.schemas import Error
from gateway.channels import fields
from gateway.channels.channel import COMPUTED
from gateway.live.output import OutputState
from gateway.playback.cloudfront_keys import load_private_key
from gateway.playback.cloudfront_signer import CloudFrontSigner
from gateway.ports.errors import StoreUnavailable
from tests.support.admin import TOKEN, Admin, admin
from tests.support.builders import picture
from tests.support.cloudfront import Signer


@functools.cache
def openapi() -> dict[str, Any]:
    """The document of all routes, which nobody changes: making it takes a second."""
    return document(ROUTES, "1.2.3")


def test_the_document_is_valid_openapi():
    validate(openapi())


def test_every_route_is_in_the_document_and_nothing_else():
    described = {(method.upper(), path) for path, operations in openapi()["paths"].items() for method in operations}
    assert described == {(route.method, re.sub(r":[^}]*}", "}", route.path)) for route in ROUTES}


def test_operation_ids_are_unique():
    ids = [o["operationId"] for operations in openapi()["paths"].values() for o in operations.values()]
    assert len(ids) == len(set(ids))


def test_every_field_of_a_channel_is_described():
    schema = openapi()["components"]["schemas"]["Channel"]
    assert set(fields.FIELDS) | COMPUTED | {"id", "key", "outdate", "TimeStamp"} <= set(schema["properties"])
    assert set(schema["required"]) == {"id", "outdate", "playUrls", "playAuthDefault", "expired"}  # for observers too


def test_an_output_may_have_each_state_of_the_program():
    described = openapi()["components"]["schemas"]["OutputState"]
    assert described["enum"] == [state.value for state in OutputState]


PUBLIC = {"/", "/docs", "/console/{path}", "/console/broadcast.html", "/broadcast.json", "/_player/{path}", "/login",
          "/oidc/start", "/oidc/callback", "/getServers", "/healthcheck", "/ready", "/uploads/{key}",
          "/_servers/{id}"}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ("RelayChanges", ("isRelay", "relayURL", "relayOff")),
        ("DomainChanges", ("pushDNS", "pullDNS")),
        ("UserChanges", ("password",)),
        ("FilmChanges", ("title", "description")),
        ("SessionChanges", ("title",)),
        ("ProcessObject", ("bucketName", "keyName", "Records")),
    ],
)
def test_a_field_that_may_not_be_null_is_described_so(body: str, fields: tuple[str, ...]):
    properties = openapi()["components"]["schemas"][body]["properties"]
    assert [name for name in fields if {"type": "null"} in properties[name].get("anyOf", ())] == []


def test_only_public_routes_need_no_token():
    for path, operations in openapi()["paths"].items():
        for operation in operations.values():
            assert (operation.get("security") == []) == (path in PUBLIC), path


# Routes whose answers need more than an empty store; their own tests compare them with their shapes.
ELSEWHERE = {"Jobs", "Recordings", "Amazon IVS", "Account", "Tokens"}


async def _answers(api: Admin) -> dict[str, Any]:
    """Requests each JSON route once, while a channel is live."""
    item = await api.create(isHls=True)
    await api.json("POST", "/users", {"name": "eva", "password": "12345678"})
    id = item["id"]
    publisher = await api.push(id)
    publisher.push(picture(0, key=True), publisher.on_air.since)
    inputs = [{"kind": "push"}, {"kind": "backup", "name": "second"}]
    await api.json("PUT", f"/videostream/{id}/inputs", inputs)
    await api.shows.measure()
    shows = await api.json("GET", f"/videostream/{id}/shows")
    found: dict[str, Any] = {}
    for route in sorted(ROUTES, key=lambda r: (r.method == "DELETE", -len(r.path))):
        if str in (type(route.operation.answer), type(route.operation.body)) or route.tag in ELSEWHERE:
            continue
        if route.operation.answer is None:
            continue
        if "/alarms/" in route.path:  # it sends a message
            continue
        name = "eva" if route.tag == "Console" else "main" if "/inputs/" in route.path else "hls"
        path = route.path.replace("{id}", id).replace("{app}", "stream").replace("{name}", name)
        path = path.replace("{show}", shows[0]["id"])
        bodies = {"NewChannel": {"outdate": "2090-01-01"}, "Switch": {"enabled": True}, "LogLevel": {"level": "info"},
                  "NewLogin": {"password": TOKEN}, "NewUser": {"name": "adam", "password": "12345678"},
                  "UserChanges": {"password": "12345678"}, "QrText": {"text": "rtmp://host/stream"},
                  "RelayChanges": {"isRelay": False}, "AboutChanges": {"description": ""}, "Profile": {"theme": "dark"},
                  "ToSign": {"url": "/vod/a/a.m3u8"}, "NewCue": {"type": "out"}, "NewCaption": {"text": "x"},
                  "list": inputs}  # fmt: skip
        if route.path == "/alarms":
            bodies["list"] = [{"name": "r", "on": ["disk"], "to": "https://example.com/hook"}]
        path += f"?sign={item['key']}" if route.path.startswith("/_servers/") else ""
        body = bodies.get(route.operation.body.__name__, {}) if route.operation.body else None
        found[f"{route.method} {route.path}"] = (
            route.operation.answer,
            await api.json(route.method, path, body, status=route.operation.status),
        )
    return found


def _signer() -> CloudFrontSigner:
    return CloudFrontSigner("K1", load_private_key(Signer(key="ec").private_pem))


async def test_answers_match_their_schemas(tmp_path: Path):
    async with admin(tmp_path, services={SIGNER: _signer()}) as api:
        for name, (shape, value) in (await _answers(api)).items():
            try:
                TypeAdapter(shape).validate_python(value)
            except ValueError as error:
                pytest.fail(f"{name}: {error}")


def _described(document: dict[str, Any], method: str, path: str, status: int) -> Draft202012Validator:
    """The validator for one answer. Raises `KeyError` if the document has no JSON schema for it."""
    path = re.sub(r":[^}]*}", "}", path)
    content = document["paths"][path][method.lower()]["responses"][str(status)]["content"]
    return Draft202012Validator({"components": document["components"], **content["application/json"]["schema"]})


async def test_answers_match_the_openapi_document(tmp_path: Path):
    statuses = {f"{route.method} {route.path}": route.operation.status for route in ROUTES}
    async with admin(tmp_path, services={SIGNER: _signer()}) as api:
        for name, (_, value) in (await _answers(api)).items():
            _described(openapi(), *name.split(" "), statuses[name]).validate(value)


async def test_error_answers_match_the_openapi_document(tmp_path: Path):
    async with admin(tmp_path, checks={"channel store": _away}) as api:
        for path, asked, status in (
            ("/videostream/{id}", "/videostream/x", 404),
            ("/videostream/{id}/session", "/videostream/x/session", 404),
            ("/console/{path}", "/console/nothing.js", 404),
            ("/_player/{path}", "/_player/nothing.js", 404),
            ("/oidc/start", "/oidc/start", 404),
            ("/oidc/callback", "/oidc/callback", 404),
            ("/getServers", "/getServers", 503),
            ("/ready", "/ready", 503),
        ):
            _described(openapi(), "get", path, status).validate(await api.json("GET", asked, status=status))


async def _away() -> None:
    raise StoreUnavailable("away", 5)


async def test_error_answers_match_the_error_schema(tmp_path: Path):
    async with admin(tmp_path) as api:
        for method, path, status in (("GET", "/videostream/x", 404), ("POST", "/videostream", 400)):
            TypeAdapter(Error).validate_python(await api.json(method, path, {}, status=status))
