"""Records again what stands beside this file: `.venv/bin/python tests/golden/browser/capture.py` (Debian's Chromium).

Chromium's MediaRecorder in every form it offers, in slices of 250 ms, of its fake camera and microphone; `turn-*` are
of a canvas whose sides are swapped in the middle, as a phone's camera does when it is turned.
"""

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

HERE = Path(__file__).resolve().parent
H264, OPUS = "avc1.42E01F", "opus"
# name → (mime type, seconds)
FORMS: dict[str, tuple[str, float]] = {
    "h264.webm": (f"video/webm;codecs=h264,{OPUS}", 3),
    "vp8.webm": (f"video/webm;codecs=vp8,{OPUS}", 3),
    "vp9.webm": (f"video/webm;codecs=vp9,{OPUS}", 3),
    "av1.webm": (f"video/webm;codecs=av01,{OPUS}", 3),
    "h264.mp4": (f"video/mp4;codecs={H264},{OPUS}", 3),
    "av1.mp4": (f"video/mp4;codecs=av01.0.04M.08,{OPUS}", 3),
    "opus.webm": ("audio/webm;codecs=opus", 3),
    "pcm.webm": ("audio/webm;codecs=pcm", 0.6),
    "turn-h264.webm": ("video/webm;codecs=h264", 3),
    "turn-vp8.webm": ("video/webm;codecs=vp8", 3),
    "turn-avc3.mp4": ("video/mp4;codecs=avc3.42E01F", 3),
}
RECORD = """async ([mime, seconds, turn]) => {
  const camera = { width: 320, height: 240, frameRate: 20 };
  let stream, canvas;
  if (turn) {
    canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [320, 192];
    const pen = canvas.getContext("2d");
    let n = 0;
    setInterval(() => {
      pen.fillStyle = `hsl(${n * 7}, 80%, 50%)`;
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = "black";
      pen.fillRect((n++ * 5) % canvas.width, 20, 40, 40);
    }, 50);
    stream = canvas.captureStream(20);
  } else {
    stream = await navigator.mediaDevices.getUserMedia({ video: mime.startsWith("video") && camera, audio: true });
  }
  const options = { mimeType: mime, videoBitsPerSecond: 150000, audioBitsPerSecond: 32000 };
  const recorder = new MediaRecorder(stream, { ...options, videoKeyFrameIntervalDuration: 1000 });
  const slices = [];
  recorder.ondataavailable = (event) => slices.push(event.data);
  recorder.start(250);
  if (turn) setTimeout(() => ([canvas.width, canvas.height] = [192, 320]), seconds * 500);
  await new Promise((done) => setTimeout(done, seconds * 1000));
  const stopped = new Promise((done) => (recorder.onstop = done));
  recorder.stop();
  await stopped;
  stream.getTracks().forEach((track) => track.stop());
  const text = [];
  for (const slice of slices) {
    const bytes = new Uint8Array(await slice.arrayBuffer());
    text.push(btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
  }
  return text;
}"""


async def main() -> None:
    flags = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    sizes: dict[str, list[int]] = {}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = await browser.new_page()
        # A secure context without a server.
        await page.route(
            "http://localhost/*", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html")
        )
        await page.goto("http://localhost/")
        for name, (mime, seconds) in FORMS.items():
            recorded: Any = await page.evaluate(RECORD, [mime, seconds, name.startswith("turn")])
            slices = [base64.b64decode(text) for text in recorded]
            (HERE / name).write_bytes(b"".join(slices))
            sizes[name] = [len(slice) for slice in slices]
            print(f"{name}: {sum(sizes[name])} bytes in {len(slices)} slices")
        await browser.close()
    (HERE / "slices.json").write_text(json.dumps(sizes, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
