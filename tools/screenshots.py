"""Takes the pictures of the documentation: the real gateway, real pushes, every page of it in a real browser.

Run through `make screenshots`, or for some pictures only, by the beginning of their names:

    python -m tools.screenshots console-channels player

Each picture is written to docs/pictures/ with a palette of its own, which keeps it small and looks the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from PIL import Image
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support.gateway import Channel, Gateway, running

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
MOST_BYTES = 150_000
SURFACES = 64  # colours of a page that are kept exactly
DESK = {"width": 1280, "height": 800}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
USUAL_PORTS = {"RTMP": 1935, "HTTP": 8080, "WS": 8081, "ADMIN": 8000}
VIEWERS = 7  # of the first channel: connections that read and throw away

Step = Callable[[Page, "Scene"], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """What stands on the stage: a gateway whose channels are named for people."""

    gateway: Gateway
    channels: dict[str, Channel]

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.gateway.ports['admin']}"


@dataclass(frozen=True)
class Shot:
    """One picture. url: of the page; ready: what is done there before it is taken; schemes: of colours; options: of the
    browser's context."""

    name: str
    url: Callable[[Scene], str]
    ready: Step
    schemes: tuple[str, ...] = ("light", "dark")
    options: dict[str, Any] = field(default_factory=dict)
    signed_in: bool = True


# ---- what is filmed ----------------------------------------------------------------------------


def film(folder: Path, name: str, picture: str, title: str) -> Path:
    """A quiet moving picture with a title and a clock, and a tone."""
    path = folder / f"{name}.flv"
    words = "font=DejaVu Sans:fontcolor=white:borderw=2:bordercolor=black@0.35"
    draw = f"drawtext={words}:text='{title}':fontsize=54:x=(w-tw)/2:y=h*0.40"
    draw += f",drawtext={words}:text='%{{pts\\:hms}}':fontsize=26:x=(w-tw)/2:y=h*0.56"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", f"{picture},{draw}"]
    command += ["-f", "lavfi", "-i", "sine=frequency=220:sample_rate=48000", "-t", "30", "-pix_fmt", "yuv420p"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-g", "48", "-bf", "0", "-b:v", "1200k"]
    subprocess.run([*command, "-c:a", "aac", "-b:a", "96k", str(path)], check=True)
    return path


@contextlib.contextmanager
def pushed(path: Path, channel: Channel) -> Iterator[None]:
    """The film, over and over, in real time."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(path)]
    encoder = subprocess.Popen([*command, "-c", "copy", "-f", "flv", channel.push])
    try:
        channel.wait_live(40)
        yield
    finally:
        encoder.kill()
        encoder.wait()


@contextlib.contextmanager
def watched(channel: Channel, viewers: int) -> Iterator[None]:
    """So many viewers, who take what they are sent."""
    command = ["curl", "-s", "-o", "/dev/null", channel.url("live.flv")]
    crowd = [subprocess.Popen(command) for _ in range(viewers)]
    try:
        yield
    finally:
        for one in crowd:
            one.kill()
            one.wait()


def usual_ports() -> dict[str, str]:
    """The ports that people know, where they are free: the pictures show addresses."""
    settings = {}
    for name, port in USUAL_PORTS.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                settings[f"MILLRACE_{name}__PORT"] = str(port)
    return settings


@contextlib.contextmanager
def stage() -> Iterator[Scene]:
    """A gateway at work: two live channels, others that wait, recordings, a film, people."""
    with tempfile.TemporaryDirectory(prefix="millrace-pictures-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        hall = film(
            folder, "hall", "gradients=s=854x480:r=24:c0=0x0d3b4c:c1=0x1e848c:c2=0x07242e:n=3:speed=0.01", "Main stage"
        )
        room = film(
            folder, "room", "gradients=s=640x360:r=24:c0=0x3b2a5c:c1=0x8a5a83:c2=0x1d1630:n=3:speed=0.01", "Workshop"
        )
        settings = usual_ports() | {"MILLRACE_EGRESS__ALLOW": "127.0.0.0/8", "MILLRACE_VOD__SOURCES": str(folder)}
        gateway = stack.enter_context(running(**settings))
        scene = Scene(gateway, _channels(gateway))
        stack.enter_context(pushed(hall, scene.channels["Main stage"]))
        stack.enter_context(pushed(room, scene.channels["Workshop room"]))
        stack.enter_context(watched(scene.channels["Main stage"], VIEWERS))
        _inputs(scene.channels["Workshop room"])
        _refused(room, scene.channels["Town hall"])
        _films(gateway, folder, hall)
        for person in ("ada", "grace"):
            gateway.api("POST", "/users", {"name": person, "password": "a long enough password"})
        time.sleep(25)  # so that charts have a line, and recordings pieces
        yield scene


def _channels(gateway: Gateway) -> dict[str, Channel]:
    soon = datetime.now(UTC) + timedelta(days=40)
    every: dict[str, Any] = {"isVideo": True, "video_time": "10", "isImage": True, "image_time": "5", "hls_time": "2"}
    ladder: dict[str, Any] = {"isCodec": True, "ld": True, "sd": True, "codec": "libx264"}
    mark: dict[str, Any] = {"isWaterMark": True, "WaterMarkText": "MILLRACE TV", "WaterMarkFontSize": 22}
    mark |= {"WaterMarkFontColor": "#ffffff", "WaterMarkLeft": 24, "WaterMarkTop": 24}
    return {
        "Main stage": gateway.channel(
            videoname="Main stage", desc="Keynotes, all day", outdate=soon.isoformat(), **every, **ladder
        ),
        "Workshop room": gateway.channel(videoname="Workshop room", desc="Hands-on sessions", **mark),
        "Town hall": gateway.channel(videoname="Town hall", desc="Members only", playAuth="sign", isOnDemand=True),
        "Harbour camera": gateway.channel(videoname="Harbour camera", desc="Pier 7", isMotion=True),
        "Spring concert": gateway.channel(videoname="Spring concert", desc="Over", outdate="2025-04-01"),
    }


def _inputs(channel: Channel) -> None:
    """A slate behind the push."""
    slate = {"name": "slate", "kind": "slate", "text": "We will be right back", "always": True}
    answer = channel.gateway.api("PUT", f"/videostream/{channel.id}/inputs", [{"name": "main", "kind": "push"}, slate])
    if answer.status != 200:
        raise SystemExit(f"the inputs are not taken: {answer.text}")


def _refused(path: Path, channel: Channel) -> None:
    """A push with a wrong key."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", str(path), "-c", "copy", "-f", "flv"]
    subprocess.run([*command, f"{channel.obs_server}/{channel.id}?sign=2000000000-{'0' * 64}"], check=False)


def _films(gateway: Gateway, folder: Path, source: Path) -> None:
    """A film that becomes HLS; it is done before the pictures are taken."""
    path = folder / "Opening night.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(source), "-t", "8", "-c", "copy", str(path)], check=True
    )
    answer = gateway.api("POST", "/jobs", {"source": str(path)})
    if answer.status != 202:
        raise SystemExit(f"the film is not taken: {answer.text}")
    end = time.monotonic() + 90
    while not any(job["state"] == "COMPLETE" for job in gateway.api("GET", "/jobs").json()):
        if time.monotonic() > end:
            raise SystemExit(f"the film is not done: {gateway.api('GET', '/jobs').text}")
        time.sleep(0.5)


# ---- what is photographed ----------------------------------------------------------------------


async def _settled(page: Page, scene: Scene) -> None:
    await page.wait_for_timeout(2500)


def _shows(*selectors: str, rest: float = 1.5) -> Step:
    """Once these are to be seen, and a moment later."""

    async def ready(page: Page, scene: Scene) -> None:
        for selector in selectors:
            await page.locator(selector).first.wait_for(timeout=30_000)
        await page.wait_for_timeout(rest * 1000)

    return ready


async def _plays(page: Page, scene: Scene) -> None:
    await page.wait_for_function("() => document.querySelector('video').currentTime > 2", timeout=40_000)
    await page.wait_for_function("() => document.querySelector('#quality').options.length > 1", timeout=20_000)
    await page.mouse.move(500, 400)
    await page.wait_for_timeout(800)


async def _goes_live(page: Page, scene: Scene) -> None:
    await page.get_by_role("button", name="Go live", exact=True).click()
    await page.wait_for_function("() => document.querySelector('#state').textContent === 'Live'", timeout=40_000)
    await page.wait_for_timeout(6000)


async def _goes_off(page: Page) -> None:
    """What was begun for the picture is ended in order: the next picture begins it anew."""
    stop = page.get_by_role("button", name="Stop", exact=True)
    if await stop.count() and await stop.is_visible():
        await stop.click()
        await page.wait_for_function(
            "() => document.querySelector('#state').textContent === 'Not live'", timeout=20_000
        )


async def _previews(page: Page, scene: Scene) -> None:
    await page.get_by_role("button", name="Preview").first.click()
    await page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some((v) => v.currentTime > 1)", timeout=40_000
    )
    await page.wait_for_timeout(1500)


async def _opens_form(page: Page, scene: Scene) -> None:
    await page.get_by_role("button", name="New channel").first.click()
    await page.get_by_label("Name").first.fill("Autumn conference")
    await page.wait_for_timeout(800)


async def _asks(page: Page, scene: Scene) -> None:
    part = page.locator("#get_videostreams_online")
    await part.get_by_role("button", name="Send GET").click()
    await part.locator(".reply .status").wait_for()
    await part.locator(".trial").scroll_into_view_if_needed()
    await page.wait_for_timeout(500)


def _console(view: str) -> Callable[[Scene], str]:
    return lambda scene: f"{scene.admin}/#/{view}"


def _channel(name: str) -> Callable[[Scene], str]:
    return lambda scene: f"{scene.admin}/#/channels/{scene.channels[name].id}"


def _at(heading: str) -> Step:
    """The page is scrolled to this heading."""

    async def ready(page: Page, scene: Scene) -> None:
        await _settled(page, scene)
        title = page.get_by_role("heading", name=heading).first
        await title.evaluate("(element) => window.scrollTo(0, element.getBoundingClientRect().top + scrollY - 24)")
        await page.wait_for_timeout(1500)

    return ready


def _of(channel: str, page: str) -> Callable[[Scene], str]:
    return lambda scene: scene.channels[channel].url(page)


SHOTS = [
    Shot("console-login", _console("channels"), _shows("input[type=password]"), ("light",), signed_in=False),
    Shot("console-channels", _console("channels"), _shows("main h1", "main tbody tr")),
    Shot("console-new-channel", _console("channels"), _opens_form, ("light",)),
    Shot("console-channel", lambda s: f"{s.admin}/#/channels/{s.channels['Main stage'].id}", _settled),
    Shot("console-preview", lambda s: f"{s.admin}/#/channels/{s.channels['Main stage'].id}", _previews, ("dark",)),
    Shot(
        "start-inputs",
        _channel("Workshop room"),
        _at("Inputs"),
        ("light",),
        {"viewport": {"width": 1280, "height": 420}},
    ),
    Shot("start-refusals", _channel("Town hall"), _settled, ("light",)),
    Shot("console-live", _console("live"), _shows("main canvas", rest=25)),
    Shot("console-recordings", _console("recordings"), _settled, ("light",)),
    Shot("console-films", _console("films"), _settled, ("light",)),
    Shot("console-domains", _console("domains"), _settled, ("light",)),
    Shot("console-ivs", _console("ivs"), _settled, ("light",)),
    Shot("console-users", _console("users"), _settled, ("light",)),
    Shot("console-system", _console("system"), _shows("main h1", rest=20)),
    Shot("console-phone", _console("channels"), _settled, ("dark",), PHONE),
    Shot("console-chinese", _console("channels"), _settled, ("light",), {"locale": "zh-CN"}),
    Shot("broadcaster", lambda s: f"{s.admin}/console/broadcast.html#{s.channels['Harbour camera'].id}", _goes_live),
    Shot("player", _of("Main stage", ""), _plays, signed_in=False),
    Shot("player-phone", _of("Main stage", ""), _plays, ("light",), PHONE, signed_in=False),
    Shot("player-offline", _of("Spring concert", ""), _settled, ("dark",), signed_in=False),
    Shot("docs", lambda s: f"{s.admin}/docs#get_videostreams_online", _asks),
]


async def take(browser: Browser, shot: Shot, scheme: str, scene: Scene) -> bytes:
    """The picture as the browser makes it."""
    options: dict[str, Any] = {"viewport": DESK, "locale": "en-US", "color_scheme": scheme, "reduced_motion": "reduce"}
    context = await browser.new_context(**(options | shot.options))
    try:
        await context.grant_permissions(["camera", "microphone"])
        if shot.signed_in:
            await _sign_in(context, scene)
        page = await context.new_page()
        await page.goto(shot.url(scene))
        try:
            await shot.ready(page, scene)
        except Exception as trouble:
            raise RuntimeError(f"{trouble}\nThe page says: {await page.locator('body').inner_text()}") from trouble
        picture = await page.screenshot()
        await _goes_off(page)
        return picture
    finally:
        await context.close()


async def _sign_in(context: BrowserContext, scene: Scene) -> None:
    body = json.dumps({"password": scene.gateway.token})
    headers = {"Content-Type": "application/json", "Origin": scene.admin}
    reply = await context.request.post(f"{scene.admin}/login", data=body, headers=headers)
    if not reply.ok:
        raise SystemExit(f"the console does not let the photographer in: {await reply.text()}")


def small(picture: bytes) -> bytes:
    """The picture with a palette: smooth where that is small enough, else in steps."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    colours = palette(image)
    packed = io.BytesIO()
    for dither in (Image.Dither.FLOYDSTEINBERG, Image.Dither.NONE):
        packed = io.BytesIO()
        image.quantize(palette=colours, dither=dither).save(packed, "PNG", optimize=True)
        if packed.tell() <= MOST_BYTES:
            break
    return packed.getvalue()


def palette(image: Image.Image) -> Image.Image:
    """The colours of the page's surfaces as they are, so that nothing flat becomes grainy; and for what is left those
    that differ most, so that a small red badge stays red among many greens."""
    counted = sorted(image.getcolors(image.width * image.height) or [], reverse=True)
    flat = [cast(tuple[int, int, int], colour) for _, colour in counted[:SURFACES]]
    rest = image.quantize(256 - len(flat), method=Image.Quantize.MAXCOVERAGE, kmeans=2).getpalette() or []
    found = Image.new("P", (1, 1))
    found.putpalette([part for colour in flat for part in colour] + rest)
    return found


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", *CAMERA]
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


async def photograph(scene: Scene, beginnings: list[str]) -> int:
    """All pictures whose names begin so; how many could not be taken."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    failed = 0
    async with chromium() as browser:
        for shot in SHOTS:
            if beginnings and not any(shot.name.startswith(one) for one in beginnings):
                continue
            for scheme in shot.schemes:
                name = f"{shot.name}-{scheme}.png" if len(shot.schemes) > 1 else f"{shot.name}.png"
                try:
                    picture = small(await take(browser, shot, scheme, scene))
                except Exception as trouble:  # the others are taken all the same, and the exit code tells
                    failed += 1
                    print(f"{name}: {trouble}", file=sys.stderr, flush=True)
                    continue
                (PICTURES / name).write_bytes(picture)
                print(f"{name}: {len(picture) // 1000} kB", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of the names of what to take; all without one")
    names = parser.parse_args().names
    missing = [program for program in ("chromium", "ffmpeg", "curl") if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}")
    with stage() as scene:
        return 1 if asyncio.run(photograph(scene, names)) else 0


if __name__ == "__main__":
    sys.exit(main())
