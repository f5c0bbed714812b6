"""The console's files on the admin listener: pages under a strict policy, hashes, compression, and nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from yarl import URL

from gateway.api.console import ASSETS, UPLOAD_ORIGIN
from gateway.api.context import AddressDefaults
from gateway.channels.addresses import OpenPorts
from gateway.lib.assets import Assets
from gateway.ports.errors import StoreUnavailable
from tests.support.admin import Admin, admin
from tests.support.http import trusting

PAGES = ("/", "/docs", "/console/broadcast.html")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Admin]:
    async with admin(tmp_path) as running:
        yield running


def policy(text: str) -> dict[str, list[str]]:
    found = {}
    for entry in text.split(";"):
        name, *sources = entry.split()
        assert name not in found
        found[name] = sources
    return found


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_may_run_only_its_own_scripts(api: Admin, page: str):
    response = await api.call("GET", page, token=None)
    assert (response.status, response.content_type) == (200, "text/html")
    rules = policy(response.headers["Content-Security-Policy"])
    maps = re.findall(r'<script type="importmap">(.*?)</script>', await response.text(), re.S)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(m.encode()).digest()).decode()}'" for m in maps]
    assert rules["script-src"] == ["'self'", *hashes]
    assert rules["style-src"] == ["'self'"]
    for none in ("default-src", "base-uri", "frame-ancestors", "object-src"):
        assert rules[none] == ["'none'"]
    assert rules["form-action"] == ["'self'"]
    assert not re.search(r"unsafe|\*(?!\.live-video\.net)", response.headers["Content-Security-Policy"])
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "camera=(self)" in response.headers["Permissions-Policy"]


async def test_a_page_may_play_from_and_push_to_this_gateway(api: Admin):
    response = await api.client.get("/", headers={"Host": "localhost:8000"})
    rules = policy(response.headers["Content-Security-Policy"])
    assert {"http://localhost:8080", "ws://localhost:8080", "ws://localhost:8081"} < set(rules["connect-src"])
    assert "http://localhost:8080" in rules["media-src"] and "http://localhost:8080" in rules["img-src"]
    await api.json("PUT", "/domains", {"pushDNS": "push.example.com", "pullDNS": "https://play.example.com"})
    rules = policy((await api.client.get("/")).headers["Content-Security-Policy"])
    wanted = {"https://play.example.com", "wss://play.example.com", "ws://push.example.com:8081"}
    assert wanted < set(rules["connect-src"])
    assert "https://play.example.com" in rules["media-src"]


async def test_the_policy_allows_both_addresses_of_this_machine(tmp_path: Path):
    ports = OpenPorts(rtmp=1935, http=8080, https=8443, ws=8081, wss=8444, admin=8000)
    async with admin(tmp_path, address_defaults=AddressDefaults(lambda: ports, "198.51.100.7", "198.51.100.7")) as api:
        rules = policy((await api.client.get("/")).headers["Content-Security-Policy"])
    wanted = {"http://127.0.0.1:8080", "http://198.51.100.7:8080", "ws://127.0.0.1:8081", "wss://127.0.0.1:8444"}
    assert wanted < set(rules["connect-src"])


@pytest.mark.parametrize(
    "host",
    ["evil.example; script-src *", "a b", "x'unsafe-inline'", "é", "[::1", "a,b", "x\tscript-src", '"', "%0d%0aX: y"],
)
async def test_a_hostile_host_adds_nothing_to_the_policy(api: Admin, host: str):
    response = await api.client.get("/", headers={"Host": host})
    if response.status == 400:
        return  # the server itself refused it
    rules = policy(response.headers["Content-Security-Policy"])
    assert set(rules) == set(policy((await api.client.get("/")).headers["Content-Security-Policy"]))
    assert not any("evil" in s or "unsafe" in s or "*" in s for s in rules["script-src"])
    assert "X" not in response.headers


async def test_a_hostile_public_url_adds_nothing_to_the_policy(tmp_path: Path):
    shown = AddressDefaults(OpenPorts, public_url="https://live.example.com;script-src:1/")
    async with admin(tmp_path, address_defaults=shown) as api:
        response = await api.client.get("/")
        assert policy(response.headers["Content-Security-Policy"])["script-src"][0] == "'self'"
        assert "live.example.com;" not in response.headers["Content-Security-Policy"]


async def test_the_policy_allows_uploads_to_the_bucket(tmp_path: Path):
    async def bucket() -> str:
        return "https://films.s3.eu-central-1.amazonaws.com"

    async with admin(tmp_path, services={UPLOAD_ORIGIN: bucket}) as api:
        rules = policy((await api.client.get("/")).headers["Content-Security-Policy"])
        assert await bucket() in rules["connect-src"]


async def test_the_page_loads_while_the_store_is_unavailable(tmp_path: Path):
    class Away:
        async def get_domains(self) -> None:
            raise StoreUnavailable("gone")

    async with admin(tmp_path, domains=Away()) as api:
        response = await api.client.get("/")
        assert response.status == 200
        assert "http://127.0.0.1:8080" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("page", PAGES)
async def test_all_files_that_a_page_references_exist(api: Admin, page: str):
    """A missing file gives 404, which is an error in every browser's log."""
    seen: set[str] = set()
    waiting = [page]
    while waiting:
        path = waiting.pop()
        if path in seen or not (
            path == page or path.startswith(("/console/", "/_player/"))
        ):  # a link, which the page does not load
            continue
        seen.add(path)
        response = await api.call("GET", path, token=None)
        assert response.status == 200, f"{path}: {response.status}"
        text = (await response.read()).decode(errors="replace")
        if ".min." in path or "/vendor/" in path:
            continue
        named = re.findall(
            r"""(?:\b(?:src|href)=["']|\bfrom\s*["']|\bimport\s*["']|[^@{]import\(["'])([^"'\s>]+)["']""", text
        )
        named = [n for n in named if n.startswith(("/", "./", "../")) and "${" not in n and "#" not in n]
        waiting += [urljoin(path, n) for n in named if "/words/" not in n or n.endswith(".js")]
    assert any(path.endswith(".js") for path in seen), seen


async def test_a_file_is_revalidated_unless_its_address_contains_its_hash(api: Admin):
    first = await api.call("GET", "/console/players/hls.min.js", token=None)
    tag = first.headers["ETag"].removeprefix("W/").strip('"')
    assert first.headers["Cache-Control"] == "no-cache"
    for known in (f'"{tag}"', f'W/"{tag}"', f'"other", W/"{tag}"', "*"):
        again = await api.client.get("/console/players/hls.min.js", headers={"If-None-Match": known})
        assert (again.status, await again.read()) == (304, b"")
        assert again.headers["ETag"].strip('W/"') == tag
    changed = await api.client.get("/console/players/hls.min.js", headers={"If-None-Match": '"another"'})
    assert changed.status == 200
    named = await api.client.get(f"/console/players/hls.min.js?v={tag}")
    assert "immutable" in named.headers["Cache-Control"]
    assert "immutable" not in (await api.client.get("/console/players/hls.min.js?v=x")).headers["Cache-Control"]


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("gzip, deflate, br", True), ("GZIP;q=0.5", True), ("br", False), ("", False), ("gzip;q=0", False),
     ("gzip; q=0.0", False), ("*", True), ("identity", False)],
)  # fmt: skip
async def test_files_are_compressed_for_clients_that_accept_gzip(api: Admin, accepted: str, packed: bool):
    plain = await (await api.call("GET", "/console/players/style.css", token=None)).read()
    session = api.client.session
    url = api.client.make_url("/console/players/style.css")
    async with session.get(url, headers={"Accept-Encoding": accepted}, auto_decompress=False) as response:
        body = await response.read()
        assert response.headers["Vary"] == "Accept-Encoding"
        assert (response.headers.get("Content-Encoding") == "gzip") is packed
        assert response.headers["ETag"].startswith("W/") is packed
    assert (gzip.decompress(body) if packed else body) == plain
    assert int(response.headers["Content-Length"]) == len(body)


async def test_a_head_request_for_a_file_is_answered(api: Admin):
    for path in (*PAGES, "/console/players/style.css"):
        response = await api.call("HEAD", path, token=None)
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    "path",
    ["/console/", "/console/nothing.js", "/console/app", "/console/app/", "/console/players/nothing.css",
     "/console/%2e%2e/api/auth.py", "/console/app/%2e%2e/%2e%2e/api/auth.py", "/console/..%2fapi/auth.py",
     "/console/app%2fmain.js%00.css", "/console/app//main.js", "/console/./app/main.js", "/console/.hidden.js",
     "/console/vendor/hls.js/VERSION", "/console/vendor/hls.js/LICENSE", "/console/c:/windows.js",
     "/console/%5c..%5capi.js",
     "/console/a/b/c/d/e/f/g/h/i/j.js", "/console/" + "x" * 300 + ".js", "/console/%ff.js", "/console/%C3%A9.js",
     "/_player/", "/_player/nothing.js", "/_player/../api/auth.py", "/favicon.ico", "/console/players/style.css/x.css"],
)  # fmt: skip
async def test_other_paths_are_not_served(api: Admin, path: str):
    url = URL(f"http://127.0.0.1:{api.client.port}{path}", encoded=True)  # as it is, not tidied up by the client
    async with api.client.session.get(url) as response:
        assert response.status in (401, 404)  # 401: without a token, clients do not learn which routes exist
        assert (await response.json())["error"]


async def test_files_cannot_be_changed(api: Admin):
    for method in ("POST", "PUT", "DELETE"):
        assert (await api.call(method, "/console/players/style.css")).status == 405


async def test_an_edited_file_is_read_again(tmp_path: Path):
    root = tmp_path / "console"
    (root / "app").mkdir(parents=True)
    page = root / "app" / "index.html"
    page.write_text("<!doctype html><title>one</title>")
    async with admin(tmp_path, services={ASSETS: Assets(root)}) as api:
        assert "one" in await (await api.client.get("/")).text()
        page.write_text("<!doctype html><title>another</title>")
        assert "another" in await (await api.client.get("/")).text()
        page.unlink()
        response = await api.client.get("/")
        assert (response.status, (await response.json())["error"]) == (404, "this page is not installed")


async def test_the_broadcast_page_gets_the_ports_for_its_push(api: Admin):
    response = await api.call("GET", "/broadcast.json", token=None)
    assert await response.json() == {"host": "", "ws": 8081, "wss": None}


async def test_pages_over_tls_push_over_tls(tmp_path: Path):
    ports = OpenPorts(rtmp=1935, http=8080, https=8443, ws=8081, wss=8444, admin=8000)
    async with admin(tmp_path, address_defaults=AddressDefaults(lambda: ports), proxies=trusting("127.0.0.0/8")) as api:
        item = await api.create()
        path, headers = f"/videostream/{item['id']}", {"Authorization": "Bearer a-token-for-tests"}
        assert item["wsUrl"] == f"ws://127.0.0.1:8081/stream/{item['id']}?sign={item['key']}"
        secure = await api.client.get(path, headers=headers | {"X-Forwarded-Proto": "https"})
        assert (await secure.json())["wsUrl"].startswith("wss://127.0.0.1:8444/stream/")
        wanted = await api.json("PUT", path, {"isRtmps": True})
        assert wanted["wsUrl"].startswith("wss://127.0.0.1:8444/stream/")
