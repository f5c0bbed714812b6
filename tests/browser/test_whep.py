"""The WebRTC player page and the real gateway: picture and sound, breaks, refusals, reports, its end."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Route, expect

from tests.support.browser import Watched, opened
from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway
from tests.support.lossy_udp import lossy_udp
from tests.support.media import SMALL, VIDEO_ONLY
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

# The connections of the page, so that a test can break them.
CONNECTIONS = """window.all = []; window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); window.all.push(this); }
  get connectionState() { return this.broken ? "disconnected" : super.connectionState; } };"""
BREAK = """() => { const c = window.all.at(-1); c.broken = true; c.dispatchEvent(new Event("connectionstatechange"));
  c.broken = false; }"""
# Seconds that samples spent in the buffer of the sound, added up, and their number.
SOUND = """async () => { for (const s of (await window.all.at(-1).getStats()).values())
  if (s.type === "inbound-rtp" && s.kind === "audio") return [s.jitterBufferDelay, s.jitterBufferEmittedCount]; }"""
# How long each receiver holds media back, in ms; null: as the browser likes.
TARGETS = "() => window.all.at(-1).getReceivers().map((receiver) => receiver.jitterBufferTarget)"
# A player by RFC 9725 §4.4.1, which asks for sound first. It returns when it has shown some pictures.
MAX_BUNDLE = """async (url) => { const c = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  for (const kind of ["audio", "video"]) c.addTransceiver(kind, { direction: "recvonly" });
  await c.setLocalDescription();
  const { sdp } = c.localDescription;
  const reply = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: sdp });
  await c.setRemoteDescription({ type: "answer", sdp: await reply.text() });
  for (;;) {
    for (const s of (await c.getStats()).values()) if (s.framesDecoded > 5) return c.close();
    await new Promise((done) => { setTimeout(done, 100); });
  } }"""
BROKEN = "The broadcaster's connection broke, waiting"


gateway = shared_gateway(
    "chromium",
    "ffmpeg",
    films=[SMALL, VIDEO_ONLY],
    MILLRACE_STREAM__LINGER="3",
    MILLRACE_STREAM__WAIT_FOR_PUBLISHER="1",
)


async def keep_connections(context: BrowserContext) -> None:
    await context.add_init_script(CONNECTIONS)


async def plays_as(watched: Watched, protocol: str) -> None:
    await watched.page.wait_for_function(
        "(name) => document.querySelector('#protocol').textContent === name"
        " && document.querySelector('#stage').dataset.state === 'live'",
        arg=protocol,
    )
    await watched.plays()


async def has_viewers(channel: Channel, count: int) -> None:
    await asyncio.to_thread(until, lambda: channel.session()["viewers"]["whep"] == count, f"{count} viewers by WHEP")


async def test_the_page_plays_follows_its_publisher_and_ends_its_session(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("webrtc", isHls=False, isCMAF=False)
    async with opened(browser, channel.url("whep.html")) as watched:
        page = watched.page
        await watched.comes_to_say("Waiting for the stream")
        with push(SMALL, channel.push, loop=True):
            async with page.expect_request(lambda r: r.url.endswith("/report"), timeout=at_most(30_000)) as sent:
                await watched.plays()
            assert "millrace-p=whep," in ((await sent.value).post_data or "")
            await watched.comes_to_say("Live")
            await expect(page.locator("#protocol")).to_have_text("WebRTC")
            await page.wait_for_function("() => /H264.*opus/.test(document.querySelector('#decoder').textContent)")
            await page.wait_for_function("() => /^0\\.\\d s$/.test(document.querySelector('#delay').textContent)")
            await has_viewers(channel, 1)
            await page.get_by_role("button", name="Sound is off").click()
            assert await page.evaluate("() => !document.querySelector('video').muted")
        await watched.comes_to_say(BROKEN)
        # In time: the connection of the viewer stays. Too late: the stream has ended, and the page waits for the next.
        with push(SMALL, channel.push, loop=True):
            await watched.comes_to_say("Live")
            await watched.plays()
        await watched.comes_to_say("The stream has ended", within=30)
        await has_viewers(channel, 0)
        with push(SMALL, channel.push, loop=True):
            await watched.comes_to_say("Live")
            await watched.plays()
            await page.goto("about:blank")
            await has_viewers(channel, 0)
    assert not [line for line in watched.complaints if "404" not in line]


async def test_a_refusal_is_shown_and_retried_only_on_request(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("refused", isHls=False, isCMAF=False)
    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("about.txt")) as watched:
            page, asked = watched.page, list[str]()
            page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
            await page.route("**/whep", lambda route: route.fulfill(status=406, body="the stream has AV1 only"))
            await page.goto(channel.url("whep.html"))
            await page.locator("#detail", has_text="the stream has AV1 only").wait_for()
            await page.unroute("**/whep")
            await page.route("**/whep", lambda route: route.fulfill(status=401, body="the sign has expired"))
            await page.get_by_role("button", name="Try again").click()
            await watched.comes_to_say("Not allowed")
            assert sum(line.startswith("POST") and line.endswith("/whep") for line in asked) == 2, asked
            await page.unroute("**/whep")
            await page.get_by_role("button", name="Try again").click()
            await watched.plays()


async def test_a_player_with_one_transport_plays_a_stream_without_sound(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("silent", isHls=False, isCMAF=False)
    with push(VIDEO_ONLY, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("whep.html")) as watched:
            async with asyncio.timeout(at_most(20)):
                await watched.page.evaluate(MAX_BUNDLE, channel.url("whep"))


async def test_a_broken_network_path_is_replaced_without_a_new_session(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("restart", isHls=False, isCMAF=False)

    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("whep.html"), prepare=keep_connections) as watched:
            await watched.plays()
            is_patch = lambda reply: reply.request.method == "PATCH"  # noqa: E731
            async with watched.page.expect_response(is_patch, timeout=at_most(15_000)) as patched:
                await watched.page.evaluate(BREAK)
            assert (await patched.value).status == 200
            pairs = "async () => [...(await window.all[0].getStats()).values()].filter((s) => s.nominated).length"
            await watched.comes_true(f"async () => await ({pairs})() > 0 && window.all.length === 1")
            await watched.page.wait_for_timeout(1000)
            await watched.plays()
            await watched.comes_to_say("Live")
            await has_viewers(channel, 1)
            assert not watched.complaints


def sound_workers(gateway: Gateway) -> list[int]:
    """The processes that convert sound for the gateway."""
    pid, found = gateway.process.pid, []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        with suppress(OSError):
            if b"sound_worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


async def sound_buffer(watched: Watched, seconds: float) -> float:
    """The time in seconds for which the page held each sample back, in the next seconds of sound."""
    await watched.comes_true(f"async () => (await ({SOUND})())?.[1] > 0")
    before = await watched.page.evaluate(SOUND)
    came = f"async (until) => (await ({SOUND})())[1] >= until"
    await watched.comes_true(came, before[1] + 48_000 * seconds)
    after = await watched.page.evaluate(SOUND)
    return float((after[0] - before[0]) / (after[1] - before[1]))


async def test_the_sound_has_no_delay_after_the_death_of_its_worker(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("killed", isHls=False, isCMAF=False)

    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("whep.html"), prepare=keep_connections) as watched:
            await watched.plays()
            before = await sound_buffer(watched, 2)  # a busy machine has more jitter
            died = gateway.log.count("media worker died")
            assert sound_workers(gateway)
            for pid in sound_workers(gateway):
                os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(until, lambda: gateway.log.count("media worker died") > died, "its end is noticed")
            # The delay of a late packet would stay. That of a busy machine passes.
            held = [await sound_buffer(watched, 2)]
            while held[-1] >= before + 0.2 and len(held) < 10:
                held.append(await sound_buffer(watched, 2))
            assert held[-1] < before + 0.2, held
            await watched.comes_to_say("Live")


async def test_media_are_buffered_longer_only_while_packets_are_lost(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("lossy", isHls=False, isCMAF=False)
    async with lossy_udp(gateway.ports["webrtc"]) as network:

        async def lead_through(route: Route) -> None:
            """Leaves one candidate in the answer."""
            reply = await route.fetch()
            lines = (await reply.text()).splitlines(keepends=True)
            own = next(line for line in lines if line.startswith("a=candidate") and " udp " in line)
            lines = [line for line in lines if line == own or not line.startswith("a=candidate")]
            server = f" {gateway.ports['webrtc']} "
            await route.fulfill(response=reply, body="".join(lines).replace(server, f" {network.port} "))

        async def prepare(context: BrowserContext) -> None:
            await keep_connections(context)
            await context.route("**/whep", lead_through)

        with push(SMALL, channel.push, loop=True):
            channel.wait_live()
            async with opened(browser, channel.url("whep.html"), prepare=prepare) as watched:
                await watched.plays()
                assert await watched.page.evaluate(TARGETS) == [None, None]
                network.lost_each = 10
                await watched.page.wait_for_function(f"() => ({TARGETS})().every((target) => target >= 60)")
                await watched.plays()
                network.lost_each = 0
                await watched.page.wait_for_function(f"() => ({TARGETS})().every((target) => target === null)")
                await watched.plays()
                await watched.comes_to_say("Live")


async def test_instant_on_the_watch_page_uses_webrtc_or_else_webcodecs(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("instant", isHls=False, isCMAF=False)
    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("")) as watched:
            page = watched.page
            await watched.plays()
            scripts = "() => performance.getEntriesByType('resource').map((one) => one.name).join()"
            assert "whep-engine" not in await page.evaluate(scripts)
            await watched.open_advanced()
            await page.get_by_role("radio", name="Instant").check()
            await plays_as(watched, "WebRTC")
            assert "instant-engine" not in await page.evaluate(scripts)
            await page.route("**/whep", lambda route: route.fulfill(status=406, body="no"))
            await page.reload()
            await plays_as(watched, "Instant")
