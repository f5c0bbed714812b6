"""CloudFront forwards every query parameter that the playback listener reads. The test finds them in the source."""

import ast
import asyncio
import importlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.diagnosis.experience import Experience
from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.lib.metrics import Metrics
from gateway.playback.reports import ViewerReports
from gateway.playback.router import OTHER_METHODS, PlaybackRouter, PublisherRoutes
from tests.support.playback import playing
from tests.unit.deploy.test_aws_templates import VARIANTS, behaviors, deployed

ROOT = Path(__file__).parents[3]
# What only other nodes ask. The load balancer lets nobody else in.
_BETWEEN_NODES = ("gateway/cluster/", "proxy/edge/channel_edge.py")
_FROM_VIEWERS = "gateway/cluster/files/http_cache_proxy.py"
_ATTRIBUTES = ("query", "raw_query")
distributed = pytest.mark.parametrize("variant", [name for name, given in VARIANTS.items() if "Cdn" not in given])
_PARSERS = ("directives", "parameters")


# ---- queries ----


def _is_query(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression contains the query or a part of it. names: variables that hold such a part."""
    return any(
        (isinstance(n, ast.Attribute) and n.attr in _ATTRIBUTES)
        or (isinstance(n, ast.Name) and n.id in names)
        or (isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in _PARSERS)
        for n in ast.walk(node)
    )


def _texts(node: ast.AST, module: ModuleType) -> list[str]:
    """The text of a literal, of an f-string's beginning, or of a constant of the module."""
    match node:
        case ast.Constant(value=str(value)) | ast.JoinedStr(values=[ast.Constant(value=str(value)), *_]):
            return [value]
        case ast.Tuple(elts=elements):
            return [text for element in elements for text in _texts(element, module)]
        case ast.Name(id=name):
            value = getattr(module, name, None)
            value = value.pattern if isinstance(value, re.Pattern) else value
            return [value] if isinstance(value, str) else []
    return []


def _searched(node: ast.AST, names: set[str], module: ModuleType) -> list[str]:
    """Texts that this expression searches in the query, by `in`, `==`, `[…]`, `.get`, `.startswith` or a pattern."""
    match node:
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[right]) if _is_query(right, names):
            return _texts(left, module)
        case ast.Compare(left=ast.Attribute(attr="raw_query"), ops=[ast.Eq()], comparators=[right]):
            return _texts(right, module)
        case ast.Subscript(value=value, slice=key) if _is_query(value, names):
            return _texts(key, module)
        case ast.Call(func=ast.Attribute(value=value, attr="get" | "startswith"), args=[first, *_]):
            return _texts(first, module) if _is_query(value, names) else []
        case ast.Call(func=ast.Attribute(value=value, attr="search" | "match"), args=args):
            return _texts(value, module) if any(_is_query(argument, names) for argument in args) else []
    return []


def _names(function: ast.FunctionDef | ast.AsyncFunctionDef, module: ModuleType) -> set[str]:
    """The query parameters that a function searches. A name that ends in "_" is a prefix."""
    names = {argument.arg for argument in function.args.args if argument.arg in _ATTRIBUTES}
    for _ in range(3):  # a variable of a variable of a variable
        for node in ast.walk(function):
            pairs: list[tuple[ast.AST, ast.AST]] = []
            match node:
                case ast.Assign(targets=targets, value=value):
                    pairs = [(target, value) for target in targets]
                case ast.comprehension(target=target, iter=value) | ast.For(target=target, iter=value):
                    pairs = [(target, value)]
            for target, value in pairs:
                if _is_query(value, names):
                    names |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    found = [text for node in ast.walk(function) for text in _searched(node, names, module)]
    return {match[0] for text in found if (match := re.search(r"[A-Za-z_][\w-]*", text))}


@cache
def read_queries() -> dict[str, str]:
    """The query parameters that the playback listener reads, each with one of the reading functions."""
    found = {}
    for path in sorted([*ROOT.glob("gateway/**/*.py"), *ROOT.glob("proxy/**/*.py")]):
        file, source = path.relative_to(ROOT).as_posix(), path.read_text()
        ours = "gateway.http.request" in source or file.startswith(("gateway/http/", "gateway/playback/"))
        if not ours or (file.startswith(_BETWEEN_NODES) and file != _FROM_VIEWERS):
            continue
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= dict.fromkeys(_names(node, module), f"{file}: {node.name}")
    return found


def forwarded(variant: str, pattern: str) -> tuple[set[str], bool]:
    """The query parameters that a behavior forwards, and whether it forwards all."""
    behavior, names = behaviors(variant)[pattern], set[str]()
    for kind, policy, config in (
        ("CachePolicy", "CachePolicyId", "ParametersInCacheKeyAndForwardedToOrigin"),
        ("OriginRequestPolicy", "OriginRequestPolicyId", ""),
    ):
        made = deployed(variant).of_type(f"AWS::CloudFront::{kind}")[behavior[policy].strip("<>")][f"{kind}Config"]
        queries: dict[str, Any] = (made[config] if config else made)["QueryStringsConfig"]
        if queries["QueryStringBehavior"] == "all":
            return names, True
        names |= set(queries.get("QueryStrings", ()))
    return names, False


def test_the_source_scan_finds_known_query_parameters():
    assert read_queries().keys() >= {"sign", "url", "download", "rewind", "v", "CMCD", "_HLS_msn", "_HLS_skip", "input"}


@distributed
def test_cloudfront_forwards_every_query_parameter_of_the_playback_listener(variant: str):
    for pattern, behavior in behaviors(variant).items():
        names, every = forwarded(variant, pattern)
        if every:
            continue
        assert "POST" not in behavior.get("AllowedMethods", ())
        for name, where in read_queries().items():
            # Pushes are POSTs. `moved` is only in addresses of single nodes (playback.node_url), `ticket` of MoQ.
            if not where.startswith("gateway/ingest/") and name not in ("moved", "ticket"):
                assert any(n == name or (name.endswith("_") and n.startswith(name)) for n in names), (pattern, where)


def test_parameters_outside_the_cache_key_do_not_change_answers():
    """A parameter that is forwarded but not in the cache key must not change an answer. Only CMCD is such."""
    for policy in deployed("defaults").of_type("AWS::CloudFront::OriginRequestPolicy").values():
        queries = policy["OriginRequestPolicyConfig"]["QueryStringsConfig"]
        assert queries["QueryStringBehavior"] == "all" or queries["QueryStrings"] == ["CMCD"]
    for pattern, behavior in behaviors("defaults").items():
        if forwarded("defaults", pattern)[1]:
            assert behavior["CachePolicyId"] == "<Never>", pattern


# ---- paths and methods ----


def matching(variant: str, path: str) -> dict[str, Any]:
    """The behavior for a path: the first whose pattern matches."""
    every = behaviors(variant)
    default = every.pop("*")
    return next((b for pattern, b in every.items() if fnmatchcase(path, pattern)), default)


@asynccontextmanager
async def whole_router() -> AsyncIterator[PlaybackRouter]:
    """A router with all routes of gateways and edges."""
    metrics, nothing = Metrics("1"), text(200, "")
    reports = ViewerReports(Experience(metrics), metrics.viewer_reports)
    publishers = PublisherRoutes(lambda request: nothing, *[lambda request, id: nothing] * 3)
    async with playing(public_channels=lambda request: nothing, publishers=publishers, reports=reports) as lab:
        router = lab.listener.server.handler
        assert isinstance(router, PlaybackRouter)
        yield router


async def answer_to(router: PlaybackRouter, method: str, path: str) -> Response:
    answer = router(Request(method, path, "", {}, "127.0.0.1"))
    answer = await answer if asyncio.iscoroutine(answer) else answer
    assert isinstance(answer, Response)
    return answer


@distributed
async def test_cloudfront_allows_every_method_of_the_playback_router(variant: str):
    async with whole_router() as router:
        paths = [f"/c1/{path}" for path in router.posts]
        if variant == "everything":  # it has WebRTC
            for name in ("whip", "whep"):
                router.add_sessions(name, lambda request, stream: text(201, ""))
                paths += [f"/{name}", f"/c1/{name}", f"/c1/{name}/session"]
        assert {"/c1/report", "/c1/GetClientConfiguration", "/c1/captions"} <= set(paths)
        for path in ["/c1/live.m3u8", "/c1/live.flv", "/c1/", *router.exact_paths, "/_player/watch.js", *paths]:
            answer = await answer_to(router, "OPTIONS", path)
            allowed = set(answer.headers["Access-Control-Allow-Methods"].split(", "))
            assert allowed <= set(matching(variant, path).get("AllowedMethods", ())), path
            assert path not in paths or allowed & set(OTHER_METHODS) > {"OPTIONS"}


async def test_public_pages_need_no_cloudfront_signature_but_media_do():
    async with whole_router() as router:
        public = [*router.exact_paths, "/_player/watch.js", "/_servers/c1", "/c1/GetClientConfiguration"]
        assert {"/", "/player.html", "/player.js", "/PlayerView", "/broadcast.json", "/channels.json"} <= set(public)
        for path in public:
            assert "TrustedKeyGroups" not in matching("signed", path), path
    # A channel may have any of these characters in its name.
    for name in ("c1", "broadcast.x", "player", "playerview", "time", "_servers.x", "ready"):
        for file in ("", "live.m3u8", "manifest.mpd", "live.flv", "1700000000001.ts", "report", "vod/x.mp4", "whep"):
            assert "TrustedKeyGroups" in matching("signed", f"/{name}/{file}"), (name, file)
