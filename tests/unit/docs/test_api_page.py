"""The page about the API: its routes, roles and JSON examples, the form of a play sign, the requests between nodes."""

import hashlib
import hmac
import json
import re
import runpy
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from pydantic import TypeAdapter

from gateway.alarms.rule import AlarmRule
from gateway.api import schemas, session_schemas, show_schemas
from gateway.api.route import Route
from gateway.api.routes import ROUTES
from gateway.api.schemas import ChannelField
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.cluster.calls.diagnosis_operations import DiagnosisOperations
from gateway.cluster.calls.gateway_operations import GatewayOperations
from gateway.playback.status import StatusResponder
from gateway.ports.users import UserRole
from tests.support.admin import admin

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
ANY = cast(Any, None)


def section(heading: str) -> str:
    return re.split(rf"^#+ {heading}$", PAGE, flags=re.M)[1].partition("\n#")[0]


def example(heading: str, number: int = 0) -> Any:
    """Returns a JSON example of a section. Its text may be the members of an object, without the braces."""
    text = re.findall(r"^```json\n(.*?)^```", section(heading), re.M | re.S)[number]
    return json.loads(f"{{{text}}}" if text.startswith('"') else text)


def is_named(route: Route, text: str) -> bool:
    """Whether a text has the path of a route. `…` stands for the path of a channel."""
    path = re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)
    return any(f"{form}{end}" in text for form in {path, path.replace("/videostream/{id}", "…")} for end in "` ?&,)[")


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Signed CloudFront addresses", schemas.SignedAddresses),
        ("Sessions", session_schemas.Session),
        ("Viewers' experience", session_schemas.Experience),
        ("Traffic", session_schemas.TrafficByDay),
        ("Shows", list[show_schemas.Show]),
        ("VOD and jobs", schemas.Job),
        ("Videos", schemas.Film),
        ("Events", list[session_schemas.LoggedEvent]),
        ("History", session_schemas.History),
    ],
)
def test_an_example_has_the_fields_of_the_answer(heading: str, model: Any) -> None:
    TypeAdapter(model).validate_python(example(heading))


def test_the_example_of_a_link_has_the_fields_of_the_answer() -> None:
    session_schemas.Session.model_validate(example("Sessions") | example("Sessions", 1))


def test_the_example_of_an_alarm_has_the_fields_of_a_rule() -> None:
    assert example("Alarms")[0].keys() == AlarmRule.model_fields.keys()


async def test_the_example_of_a_new_channel_has_the_fields_of_the_answer(tmp_path: Path) -> None:
    (body,) = re.findall(r"/videostream -d '(.*?)'", section("Channels"))
    async with admin(tmp_path) as api:
        made = await api.json("POST", "/videostream", json.loads(body))
    shown = example("Channels")
    assert shown.keys() == made.keys()
    for name in ("pushUrls", "playUrls"):
        assert shown[name].keys() == made[name].keys()
    for name in ("isFlv", "hls_time", "hls_list_size", "video_time", "image_time", "ondemand_time", "motion_diff"):
        assert shown[name] == made[name]


async def test_the_status_for_players_has_the_fields_of_the_page() -> None:
    answer = json.loads((await StatusResponder(ANY, ANY, None, ANY).idle(None)).body)
    assert example("Status for players").keys() == answer.keys()
    rows = re.findall(r"^\| (`.+?) \|", section("Status for players"), re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == answer.keys()


def test_the_page_names_every_route() -> None:
    files = ("GET /console/{path:.+}", "GET /_player/{path:.+}")
    old = ("GET /getServers",)  # in the page about the old system
    assert [r.endpoint for r in ROUTES if r.endpoint not in (*files, *old) and not is_named(r, PAGE)] == []


def test_the_page_names_the_routes_of_every_role() -> None:
    account = ("second-factor",)  # the rows have short forms
    broadcasters, _, observers = section("Roles").partition("An **observer**")
    for role, text in (("broadcaster", broadcasters), ("observer", observers)):
        routes = [r for r in ROUTES if not r.public and r.path.split("/")[-1] not in (*account, "off")]
        allowed = [r for r in routes if (r.role is UserRole.BROADCASTER if role == "broadcaster" else r.observer)]
        assert [r.endpoint for r in allowed if not is_named(r, text)] == [], role


def test_a_sign_in_the_form_of_the_page_is_accepted(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", section("Play signs"), re.M | re.S)
    (tmp_path / "sign.py").write_text(code)
    play_sign = runpy.run_path(str(tmp_path / "sign.py"), {"hashlib": hashlib, "hmac": hmac})["play_sign"]
    secrets = SigningSecrets("a secret of tests")
    assert secrets.verify_play("stage", play_sign("stage", 2_000_000_000, "a secret of tests"), 0) is Verdict.VALID


def test_the_page_names_the_requests_between_nodes() -> None:
    rows = re.findall(r"^\| (`(?:GET|POST).*?) \|", section("Several nodes"), re.M)
    documented = {name for row in rows for name in re.findall(r"(?:GET|POST) ([a-z-]+)", row.replace("`", ""))}
    operations = (
        GatewayOperations(
            ANY, ANY, channels=ANY, deleted=ANY, changed=ANY, names=ANY, remote_viewers=ANY, report=ANY
        ).table()
        | DiagnosisOperations(ANY, ANY, ANY, ANY, ANY, ANY).table()
    )
    assert documented == operations.keys() | {"public", "site", "forwarded"}


def test_the_page_names_the_types_of_fields() -> None:
    (named,) = re.findall(r"`type` is (.+?) \|", PAGE)
    assert re.findall(r"`(\w+)`", named) == list(get_args(ChannelField.__annotations__["type"]))
