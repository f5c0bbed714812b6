"""The broadcaster's page against the real gateway, with the cameras and microphones that Chromium makes up."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Route

from tests.support.at_night import at_night
from tests.support.broadcaster import CAMERAS, NO_STREAMS, SlowProxy, from_console, from_key
from tests.support.browser import Browsers, axe, opened, shared_browser
from tests.support.clients import probe, push, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway
from tests.support.tabs import window
from tests.support.time_outs import at_most
from tests.support.tools import need

FAULTS = {
    "DOMException('for a reason', 'NotAllowedError')": "This page may not use camera and microphone.",
    "DOMException('for a reason', 'NotFoundError')": "No camera and no microphone were found.",
    "DOMException('for a reason', 'NotReadableError')": "Another program may be using them",
    "TypeError('for a reason')": "Camera and microphone do not work: for a reason",
}

browser = shared_browser(*CAMERAS)
gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_STREAM__LINGER="5", MILLRACE_EGRESS__ALLOW="127.0.0.0/8")


async def codecs(channel: Channel) -> dict[str, str]:
    """Returns the codecs that ffprobe finds at live.flv."""
    found = await asyncio.to_thread(probe, channel.url("live.flv"))
    return {kind: stream["codec_name"] for kind, stream in found.items()}


def pushes(channel: Channel) -> int:
    """Returns the number of accepted pushes of the channel."""
    return sum('"publishing"' in line and channel.id in line for line in channel.gateway.log.splitlines())


def loudness(channel: Channel, seconds: float = 2.5) -> float:
    """The loudest sample of the next seconds, dB."""
    command = ["ffmpeg", "-nostdin", "-v", "info", "-i", channel.url("live.flv"), "-t", str(seconds)]
    command += ["-vn", "-af", "volumedetect", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=at_most(60), check=True).stderr
    found = re.search(r"max_volume: (-?[\d.]+) dB", said)
    assert found, said[-500:]
    return float(found[1])


# ---- going live --------------------------------------------------------------------------------


async def test_a_push_of_frames_plays_as_h264_and_aac_in_every_player(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("Evening talk")
    async with from_console(browser, channel, usual=True) as studio:
        await studio.page.get_by_role("heading", name="Evening talk").wait_for()
        assert await studio.page.get_by_role("combobox").count() >= 2
        await studio.go_live()
        assert await codecs(channel) == {"video": "h264", "audio": "aac"}
        assert channel.session()["tracks"][0]["width"] == 1280
        await studio.stop()
        await asyncio.to_thread(until, lambda: channel.session()["publisher"] is None, "the push is over")
        assert not studio.complaints
    async with from_console(browser, channel) as studio:  # pages need less CPU for a smaller picture
        await studio.go_live()

        async def plays(page: str) -> None:
            async with opened(browser, channel.url(page)) as player:
                await player.plays(40)

        await asyncio.gather(*map(plays, ("flv.html", "index.html", "hls.html", "dash.html")))
        await studio.stop()
        await asyncio.to_thread(until, lambda: channel.session()["publisher"] is None, "the push is over")
        assert not studio.complaints


async def test_a_push_of_recordings_with_only_the_key_is_h264_and_aac(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("by key")
    async with from_key(browser, channel) as studio:
        await studio.choose("container")
        await studio.go_live()
        assert await codecs(channel) == {"video": "h264", "audio": "aac"}
        assert "sign=" not in studio.page.url
        await studio.page.reload()  # ends the broadcast, keeps the key
        await studio.go_live()
        await studio.stop()
        assert not studio.complaints


@pytest.mark.parametrize("way", ["frames", *at_night("container")])
async def test_a_browser_without_picture_streams_can_go_live(browser: Browser, way: str, gateway: Gateway) -> None:
    channel = gateway.channel(f"plain {way}")
    async with from_key(browser, channel, script=NO_STREAMS) as studio:
        await studio.choose(way)
        await studio.go_live()
        assert await codecs(channel) == {"video": "h264", "audio": "aac"}
        await studio.stop()
        assert not studio.complaints


async def test_go_live_waits_for_a_key_that_is_still_loading(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("early")
    pressed = asyncio.Event()

    async def late(route: Route) -> None:
        await pressed.wait()
        await route.continue_()

    async def prepare(context: BrowserContext) -> None:
        await context.route(f"**/videostream/{channel.id}", late)

    async with from_console(browser, channel, prepare=prepare) as studio:
        await studio.press("Go live")
        pressed.set()
        await studio.says("Live")
        await studio.stop()
        assert not studio.complaints


async def test_a_push_address_can_be_pasted_as_the_key(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("pasted")
    async with from_key(browser, channel, key="") as studio:
        await studio.press("Go live")
        await studio.notices("Enter your stream key first")
        field = studio.page.get_by_label("Stream key")
        await field.fill("my stream")
        await studio.press("Use this key")
        await studio.notices("This is not a stream key")
        await field.fill(f"  {channel.push} ")
        await studio.go_live()
        await studio.stop()
        assert not studio.complaints


async def test_a_key_is_used_where_the_browser_forbids_to_store(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("nothing stored")
    script = """for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(globalThis, name,
      { get() { throw new DOMException("Access is denied for this document.", "SecurityError"); } });"""
    async with from_key(browser, channel, script=script, usual=True) as studio:
        await studio.page.get_by_text("Sending to channel").wait_for()
        await studio.go_live()
        await studio.stop()
        await studio.press("Use another key")
        await studio.page.get_by_label("Stream key").wait_for()
        assert not studio.complaints


async def test_a_link_to_another_server_needs_a_confirmation(browser: Browser, gateway: Gateway) -> None:
    channel, connected = gateway.channel("phished"), asyncio.Event()

    async def strange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        writer.close()

    trap = await asyncio.start_server(strange, "127.0.0.1", 0)
    there = f"127.0.0.1:{trap.sockets[0].getsockname()[1]}"
    link = f"ws://{there}/stream/{channel.obs_key}"
    async with trap, from_key(browser, channel, key=link) as studio:
        question = studio.page.get_by_role("alertdialog", name="Send to another server?")
        await question.get_by_text(f"to {there}").wait_for()
        await studio.press("Go live")
        assert await question.is_visible() and await studio.page.locator("#state").inner_text() == "Not live"
        await studio.press("Do not send")
        await question.wait_for(state="hidden")
        await studio.press("Go live")
        await studio.notices("Enter your stream key first")
        assert not connected.is_set(), "nothing went there"
        await studio.page.get_by_label("Stream key").fill(link)
        await studio.press("Use this key")
        await studio.press("Send to that server")
        await studio.page.get_by_text(f"on another server, {there}").wait_for()
        assert await axe(studio.page) == []
        await studio.press("Go live")
        async with asyncio.timeout(at_most(20)):
            await connected.wait()


async def test_muting_the_microphone_makes_the_sound_silent(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("muted")
    async with from_key(browser, channel) as studio:
        await studio.go_live()
        assert await asyncio.to_thread(loudness, channel) > -40
        await studio.press("Mute microphone")
        await studio.page.get_by_text("Microphone is muted").wait_for()
        await asyncio.to_thread(loudness, channel, 3.0)  # until a key frame has come, with which the next one begins
        assert await asyncio.to_thread(loudness, channel) < -60
        assert await studio.page.get_by_role("button", name="Mute microphone", pressed=True).is_visible()


# ---- while live --------------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.parametrize("way", ["frames", "container"])
async def test_another_camera_or_the_screen_continues_the_same_push(
    browser: Browser, way: str, gateway: Gateway
) -> None:
    channel = gateway.channel(f"cameras {way}")
    async with from_key(browser, channel) as studio:
        await studio.choose(way)
        await studio.go_live()
        async with opened(browser, channel.url("flv.html")) as player:
            await player.plays()
            # The test camera gives 20 pictures a second.
            await studio.page.get_by_text("of 30 pictures a second are made").wait_for()
            picker = studio.page.get_by_label("Camera", exact=True)
            names = await picker.locator("option").all_inner_texts()
            assert len(names) == 3, names  # two cameras, none
            await picker.select_option(label=names[1])
            await player.plays()
            await studio.press("Turn camera off")
            await studio.page.get_by_text("Viewers see a dark picture").wait_for()
            await player.plays()
            await studio.press("Turn camera off")
            await studio.press("Share screen")
            await studio.page.get_by_role("button", name="Share screen", pressed=True).wait_for()
            await player.plays()
            await studio.press("Share screen")
            await picker.select_option("none")
            await player.plays()
        assert pushes(channel) == 1
        await studio.stop()
        assert not studio.complaints


async def test_a_hidden_tab_continues_to_send(gateway: Gateway) -> None:
    channel = gateway.channel("hidden")
    url = f"http://127.0.0.1:{gateway.ports['http']}/broadcast.html#{channel.obs_key}"
    async with window(*CAMERAS) as browser:
        tab = await browser.tab(url)
        await tab.until("document.getElementById('preview')?.videoWidth > 0")
        await tab.evaluate("document.getElementById('live').click()")
        await asyncio.to_thread(channel.wait_live)
        await (await browser.tab("about:blank")).to_front()
        await tab.until("document.hidden")
        before = channel.session()["publisher"]["seconds"]
        counted = await asyncio.to_thread(packets, channel, 5)
        # 20 pictures a second is what the made-up camera gives.
        assert counted["video"] > 5 * 15, counted
        assert counted["audio"] > 5 * 40, counted
        assert channel.session()["publisher"]["seconds"] > before
        assert pushes(channel) == 1


@pytest.mark.nightly
async def test_a_hidden_tab_without_picture_streams_continues_to_send(gateway: Gateway) -> None:
    channel = gateway.channel("hidden, plain")
    async with window(*CAMERAS) as browser:
        tab = await browser.tab(f"http://127.0.0.1:{gateway.ports['http']}/healthcheck")
        await tab.until("document.readyState === 'complete'")
        await tab.start(NO_STREAMS, f"http://127.0.0.1:{gateway.ports['http']}/broadcast.html#{channel.obs_key}")
        await tab.until("document.getElementById('preview')?.videoWidth > 0")
        await tab.evaluate("document.getElementById('live').click()")
        await asyncio.to_thread(channel.wait_live)
        await (await browser.tab("about:blank")).to_front()
        await tab.until("document.hidden")
        counted = await asyncio.to_thread(packets, channel, 5)
        assert counted["video"] > 5 * 10, counted


def packets(channel: Channel, seconds: int) -> dict[str, int]:
    """Packets of each kind that an HTTP-FLV viewer gets within so many seconds of media."""
    command = ["ffprobe", "-v", "error", "-read_intervals", f"%+{seconds}", "-show_entries", "packet=codec_type"]
    command += ["-of", "csv=p=0", channel.url("live.flv")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=at_most(60), check=True).stdout
    return {kind: said.count(kind) for kind in ("video", "audio")}


async def test_a_slow_network_lowers_the_bitrate_with_a_warning(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("slow")
    async with SlowProxy(gateway.ports["ws"]).open() as proxy:
        key = f"ws://127.0.0.1:{proxy.port}/stream/{channel.obs_key}"
        async with from_key(browser, channel, key="", usual=True) as studio:
            await studio.page.get_by_label("Stream key").fill(key)
            await studio.press("Use this key")
            await studio.press("Send to that server")  # the slow proxy's port is not this page's server
            await studio.page.get_by_label("Bit rate", exact=True).select_option("1500000")
            await studio.go_live()
            proxy.rate = 25_000
            await studio.page.locator("#warning", has_text="network is slow").wait_for(timeout=at_most(30_000))
            assert any("The network is slow" in line for line in await studio.log())
            await studio.says("Live")
            # Functions, for the page's policy forbids to evaluate text again when it is not true at once.
            slow = "() => /^[0-9]{2,3} kbit/.test(document.getElementById('sent').textContent)"
            await studio.page.wait_for_function(slow)
            proxy.rate = None
            await studio.page.wait_for_function("() => parseInt(document.getElementById('rate').textContent) >= 15")
            await studio.stop()
            assert not studio.complaints


# ---- trouble -----------------------------------------------------------------------------------


async def test_a_broadcast_survives_a_restart_of_the_server(browser: Browser, tmp_path: Path) -> None:
    need("chromium", "ffmpeg")
    with running(MILLRACE_STREAM__LINGER="20") as first:
        channel = first.channel("restarted")
        async with from_console(browser, channel) as studio:
            await studio.go_live()
            first.process.kill()
            first.process.wait()
            await studio.notices("The connection broke")
            await studio.page.context.set_offline(True)
            await studio.notices("Your device is offline")
            await studio.page.context.set_offline(False)
            (first.data / "ports.json").unlink()
            ports = {
                f"MILLRACE_{name.upper()}__PORT": str(first.ports[name]) for name in ("rtmp", "http", "ws", "admin")
            }
            second = Gateway(tmp_path, **ports, MILLRACE_DATA=str(first.data), MILLRACE_ADMIN__TOKEN=first.token)
            second.data = first.data
            second.wait_ready()
            try:
                await studio.says("Live")
                assert not await studio.notice()
                assert await codecs(channel) == {"video": "h264", "audio": "aac"}
                await studio.stop()
                assert not [c for c in studio.complaints if "ERR_CONNECTION" not in c]
            finally:
                assert second.stop() == 0
        # `running` ends its process cleanly; this one was killed on purpose.
        first.process.returncode = 0


async def test_the_next_server_is_tried_if_the_preferred_one_is_unreachable(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("two servers")
    away = {"role": "primary", "address": "127.0.0.1", "ports": {"ws": 9, "wss": None}}
    here = {"role": "secondary", "address": "127.0.0.1", "ports": {"ws": gateway.ports["ws"], "wss": None}}

    async def one_is_away(context: BrowserContext) -> None:
        async def channel_there(route: Route) -> None:
            item = await (await route.fetch()).json()
            await route.fulfill(json=item | {"wsUrl": f"ws://127.0.0.1:9/stream/{channel.obs_key}"})

        await context.route(f"**/videostream/{channel.id}", channel_there)
        await context.route("**/servers", lambda route: route.fulfill(json=[away, here]))

    async with from_console(browser, channel, prepare=one_is_away) as studio:
        await studio.page.get_by_role("heading", name="two servers").wait_for()
        await studio.go_live()
        tried = [line for line in await studio.log() if "Connecting to" in line]
        assert [line.rpartition(":")[2] for line in tried] == ["9.", f"{gateway.ports['ws']}."]


@pytest.mark.nightly
async def test_a_channel_in_use_is_refused_with_an_explanation(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("taken")
    with push(SMALL, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with from_key(browser, channel) as studio:
            await studio.press("Go live")
            await studio.notices("Somebody else is live on this channel")
            await studio.says("Not live")


async def test_a_reloaded_page_can_go_live_again_at_once(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("anew")
    async with from_console(browser, channel) as studio:
        studio.page.on("dialog", lambda dialog: dialog.accept())  # it asks whether a live page is meant to be left
        await studio.go_live()
        await studio.page.reload()
        await studio.go_live()


async def test_a_wrong_key_is_refused_with_an_explanation(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("wrong")
    key = channel.obs_key[:-1] + ("0" if channel.obs_key[-1] != "0" else "1")
    async with from_key(browser, channel, key) as studio:
        await studio.press("Go live")
        await studio.notices("The stream key is wrong")
        await studio.says("Not live")


async def test_a_kick_ends_the_broadcast_with_a_message(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("kicked")
    async with from_console(browser, channel) as studio:
        await studio.go_live()
        assert gateway.api("DELETE", f"/videostream/{channel.id}/session").status == 200
        await studio.notices("The operator ended")
        await studio.says("Not live")
        await studio.go_live()  # the key is as good as before
        assert not studio.complaints


async def test_unavailable_devices_are_explained(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("no devices")
    for error, words in FAULTS.items():
        script = f"navigator.mediaDevices.getUserMedia = async () => {{ throw new {error}; }};"
        async with from_key(browser, channel, script=script, granted=False) as studio:
            await studio.press("Go live")
            await studio.notices(words)
            await studio.says("Not live")
            await studio.page.get_by_role("button", name="Try again").wait_for()
    assert channel.session()["state"] == "idle"


async def test_a_server_that_does_not_answer_is_not_called_a_fault_of_the_devices(
    browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel("away")
    # Routes of the test do not reach worklets.
    script = """window.away = true;
    const { addModule } = AudioWorklet.prototype;
    AudioWorklet.prototype.addModule = async function (url) {
      if (away) throw new DOMException("Unable to load a worklet's module.", "AbortError");
      return addModule.call(this, url);
    };"""
    async with from_key(browser, channel, script=script) as studio:
        await studio.notices("The server does not answer.")
        await studio.press("Go live")
        await studio.notices("The server does not answer.")
        await studio.says("Not live")
        await studio.page.evaluate("away = false")
        await studio.press("Try again")
        await studio.page.locator("#notice").wait_for(state="hidden")
        await studio.page.context.route("**/worker.js", lambda route: route.abort())
        await studio.press("Go live")
        await studio.notices("The server cannot be reached")
        await studio.says("Not live")


async def test_a_denied_permission_is_explained(browsers: Browsers, gateway: Gateway) -> None:
    channel = gateway.channel("denied")
    browser = await browsers.get(CAMERAS[0], whole=True)
    async with from_key(browser, channel, granted=False) as studio:
        await studio.press("Turn on camera and microphone")
        await studio.notices("This page may not use camera and microphone.")


async def test_a_page_without_https_explains_why_there_is_no_camera(browsers: Browsers, gateway: Gateway) -> None:
    channel = gateway.channel("insecure")
    url = f"http://studio.test:{gateway.ports['http']}/broadcast.html#{channel.obs_key}"
    browser = await browsers.get("--host-resolver-rules=MAP studio.test 127.0.0.1")
    async with opened(browser, url) as watched:
        await watched.page.get_by_role("button", name="Go live").click()
        await watched.page.locator("#notice", has_text="only on https pages").wait_for()


async def test_an_ended_session_leads_to_the_login(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("signed out")
    url = f"http://127.0.0.1:{gateway.ports['admin']}/console/broadcast.html#{channel.id}"
    async with opened(browser, url) as watched:
        await watched.page.locator("#notice", has_text="You are not signed in").wait_for()
        assert await watched.page.get_by_role("link", name="Sign in").is_visible()
        await watched.page.get_by_label("Stream key").wait_for()
        assert not watched.complaints


# ---- what is kept ------------------------------------------------------------------------------


async def test_settings_are_stored_in_the_profile_and_in_the_browser(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("kept")
    async with from_console(browser, channel) as studio:
        await studio.page.get_by_role("heading", name="kept").wait_for()
        async with studio.page.expect_response(lambda r: r.url.endswith("/profile") and r.request.method == "PUT"):
            await studio.page.get_by_label("Resolution").select_option("480p")
        await studio.page.reload()
        await studio.page.get_by_role("heading", name="kept").wait_for()
        assert await studio.page.get_by_label("Resolution").input_value() == "480p"
        await studio.go_live()
        await asyncio.to_thread(until, lambda: channel.session()["tracks"], "pictures have come")
        assert channel.session()["tracks"][0]["height"] == 480
        await studio.stop()
        assert not studio.complaints
    async with from_console(browser, channel) as elsewhere:  # a context of its own: another browser
        await elsewhere.page.get_by_role("heading", name="kept").wait_for()
        assert await elsewhere.page.get_by_label("Resolution").input_value() == "480p"
    async with from_key(browser, channel) as studio:
        await studio.page.get_by_label("Frame rate").select_option("15")
        await studio.page.reload()
        assert await studio.page.get_by_label("Frame rate").input_value() == "15"


async def test_the_relay_form_forwards_the_broadcast_to_another_service(browser: Browser, gateway: Gateway) -> None:
    channel, service = gateway.channel("relayed"), gateway.channel("the other service")
    async with from_console(browser, channel) as studio:
        page = studio.page
        await page.get_by_role("heading", name="relayed").wait_for()
        await page.locator("#relay-card summary").click()
        await page.get_by_label("Ingest address").fill("live.example.com")
        await page.get_by_role("switch", name="Relay this channel").check()
        await studio.press("Save")
        assert await page.locator("#relay-url").evaluate("e => e === document.activeElement")
        await page.get_by_label("Service", exact=True).select_option("CUSTOM")
        await page.get_by_label("Ingest address").fill(service.obs_server)
        await page.get_by_label("Key of that service").fill(service.obs_key)
        await page.get_by_label("Playback address").fill("https://play.example.com/live.m3u8")
        await studio.press("Save")
        await page.get_by_text("Saved.").wait_for()
        assert await page.get_by_role("link", name="Watch there").is_visible()
        await studio.go_live()
        await asyncio.to_thread(service.wait_live)
        assert await codecs(service) == {"video": "h264", "audio": "aac"}
        await studio.stop()
        assert not studio.complaints
    async with from_console(browser, channel) as again:
        await again.page.locator("#relay-card summary").click()
        assert await again.page.get_by_label("Service", exact=True).input_value() == "CUSTOM"
        assert await again.page.get_by_label("Key of that service").input_value() == service.obs_key
        assert await again.page.get_by_role("switch", name="Relay this channel").is_checked()


# ---- looks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["dark", *at_night("light")])
async def test_the_page_fits_a_phone_and_passes_axe_in_both_themes(
    browser: Browser, scheme: str, gateway: Gateway
) -> None:
    channel = gateway.channel("looks <img src=x onerror=alert(1)>")
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    async with from_console(browser, channel, **phone) as studio:
        await studio.go_live()
        for card in ("#log-card", "#relay-card", "#advanced-card"):
            await studio.page.locator(f"{card} summary").click()
        assert await studio.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await studio.page.get_by_role("img", name="QR").is_visible()
        assert await axe(studio.page) == []
        await studio.stop()
        assert not studio.complaints
    async with from_key(browser, channel, key="", color_scheme=scheme) as studio:
        assert await axe(studio.page) == []


async def test_the_page_uses_the_browsers_language_until_it_is_changed(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("words")
    async with from_key(browser, channel, locale="zh-CN") as studio:
        await studio.page.get_by_role("button", name="开始直播").wait_for()
        await studio.page.get_by_role("button", name="英文：English").click()
        await studio.page.get_by_role("button", name="Go live").wait_for()
        await studio.page.reload()
        await studio.page.get_by_role("button", name="Go live").wait_for()


async def test_the_page_can_be_used_with_only_the_keyboard(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("keys")
    async with from_key(browser, channel) as studio:
        await studio.page.locator("#preview").wait_for()
        for _ in range(12):
            await studio.page.keyboard.press("Tab")
            if await studio.page.evaluate("document.activeElement.id") == "live":
                break
        await studio.page.keyboard.press("Enter")
        await studio.says("Live")
        assert await studio.page.evaluate("document.activeElement.id") == "stop"  # where the pressed button was
        await studio.page.keyboard.press("Enter")
        await studio.says("Not live")
        assert await studio.page.evaluate("document.activeElement.id") == "live"
