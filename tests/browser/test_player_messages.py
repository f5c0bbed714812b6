"""A player page in a frame answers the messages of the page around it, and nobody else."""

import asyncio

from playwright.async_api import Browser

from tests.support.browser import Watched, opened
from tests.support.clients import push
from tests.support.foreign_page import foreign_page
from tests.support.gateway import Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL])

# Asks the frame, and returns its next answer; null: there was none.
ASK = """message => new Promise((done) => {
  const frame = document.querySelector("iframe");
  const answered = ({ data, source, origin }) => {
    if (source !== frame.contentWindow) return;
    removeEventListener("message", answered);
    done({ ...data, origin });
  };
  addEventListener("message", answered);
  frame.contentWindow.postMessage(message, "*");
  setTimeout(() => { removeEventListener("message", answered); done(null); }, 1500);
})"""


async def asked(watched: Watched, message: object) -> dict[str, object]:
    answer = await watched.page.evaluate(ASK, message)
    assert answer is not None, message
    return dict(answer)


async def test_a_framed_page_plays_pauses_and_tells_its_state(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("framed", isFlv=True)
    frame = f'<iframe src="{channel.url("")}?embed=1" width="640" height="360" allow="autoplay"></iframe>'
    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        async with foreign_page(frame) as url, opened(browser, url) as watched:
            while (answer := await asked(watched, {"millrace": "state"}))["state"] != "live":
                await asyncio.sleep(0.2)
            host = f"http://127.0.0.1:{gateway.ports['http']}"
            fields = {"millrace", "state", "time", "paused", "muted", "volume", "quality", "qualities", "origin"}
            assert set(answer) == fields and answer["origin"] == host
            assert (answer["paused"], answer["muted"], answer["quality"]) == (False, True, "auto")
            assert (await asked(watched, {"millrace": "pause"}))["paused"] is True
            assert (await asked(watched, {"millrace": "play"}))["paused"] is False
            assert (await asked(watched, {"millrace": "unmute"}))["muted"] is False
            assert (await asked(watched, {"millrace": "mute"}))["muted"] is True
            assert (await asked(watched, {"millrace": "quality", "quality": "source"}))["quality"] == "source"
            assert (await asked(watched, {"millrace": "quality", "quality": "x" * 65}))["quality"] == "source"
            assert not watched.complaints


async def test_other_messages_and_a_flood_of_them_get_no_answer(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("silent", isFlv=True)
    frame = f'<iframe src="{channel.url("")}?embed=1"></iframe>'
    async with foreign_page(frame) as url, opened(browser, url) as watched:
        await asked(watched, {"millrace": "state"})
        for message in ("state", None, 7, ["state"], {"millrace": "close"}, {"millrace": {"a": 1}}, {"type": "state"}):
            assert await watched.page.evaluate(ASK, message) is None, message
        count = """() => new Promise((done) => {
          let answers = 0;
          addEventListener("message", () => { answers += 1; });
          const { contentWindow: frame } = document.querySelector("iframe");
          for (let n = 0; n < 500; n += 1) frame.postMessage({ millrace: "state" }, "*");
          setTimeout(() => done(answers), 700);
        })"""
        assert 1 <= await watched.page.evaluate(count) <= 40  # 20 a second
        inner = watched.page.frames[1]  # the frame itself is not the page around it
        heard = """() => new Promise((done) => {
          let answers = 0;
          addEventListener("message", ({ data }) => { answers += data.state !== undefined; });
          postMessage({ millrace: "state" }, "*");
          setTimeout(() => done(answers), 500);
        })"""
        assert await inner.evaluate(heard) == 0
        assert not watched.complaints
