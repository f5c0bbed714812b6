"""The page about the API: the form of a play sign, the requests between nodes, the types of fields."""

import hashlib
import hmac
import re
import runpy
from pathlib import Path
from typing import Any, cast, get_args

from gateway.api.schemas import ChannelField
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.cluster.calls.diagnosis_operations import DiagnosisOperations
from gateway.cluster.calls.gateway_operations import GatewayOperations

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
ANY = cast(Any, None)


def section(heading: str) -> str:
    return re.split(rf"^#+ {heading}$", PAGE, flags=re.M)[1].partition("\n#")[0]


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
