"""The addresses in announcements of shows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.app.parts.alarms import page_addresses
from gateway.channels.addresses import OpenPorts, PublicDomains
from gateway.settings import load
from tests.support.builders import channel

PAGE = "https://live.example.com/club/"


async def addresses(fields: dict[str, Any], tmp_path: Path, **settings: str) -> tuple[str, str]:
    async def domains() -> PublicDomains:
        return PublicDomains()

    given = {"MILLRACE_PLAYBACK__PUBLIC_URL": "https://live.example.com", "MILLRACE_DATA": str(tmp_path), **settings}
    loaded = load(environ=given)
    of = page_addresses(loaded, cast(Any, SimpleNamespace(get_domains=domains)), OpenPorts)
    return await of(channel("c1", slug="club", **fields))


async def test_an_open_channel_is_announced_with_its_picture(tmp_path: Path):
    assert await addresses({}, tmp_path) == (PAGE, f"{PAGE}poster.jpg")


@pytest.mark.parametrize("fields", [{"playAuth": "sign"}, {"playAuth": "x"}, {"refererAllow": ["example.com"]}])
async def test_a_protected_channel_is_announced_without_picture_and_signature(fields: dict[str, Any], tmp_path: Path):
    assert await addresses(fields, tmp_path) == (PAGE, "")


@pytest.mark.parametrize(
    "settings", [{"MILLRACE_PLAYBACK__AUTH": "sign"}, {"MILLRACE_AUTH__PLAY": "http://127.0.0.1:1/hook"}]
)
async def test_the_protection_of_the_settings_hides_the_picture_too(settings: dict[str, str], tmp_path: Path):
    assert await addresses({}, tmp_path, **settings) == (PAGE, "")
