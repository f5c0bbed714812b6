"""A minimal playback listener that shows the player pages in states which a real gateway passes quickly."""

import asyncio
import contextlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

import gateway
from tests.support.media import Film
from tests.support.served_app import served_app

CONSOLE = Path(gateway.__file__).parent / "console"
CHANNEL = "70ef9b07-adbe-478d-b098-d7c8efd84a98"

# The policy that the gateway sends with player pages: no inline or foreign scripts. MSE plays from `blob:`.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
_LOOP = ("-re", "-stream_loop", "-1")
PACKAGED: dict[str, list[str]] = {"flv": [], "hls": ["live.m3u8"], "cmaf": ["cmaf.m3u8", "manifest.mpd"]}
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".mpd": "application/dash+xml",
    ".m4s": "video/mp4",
    ".mp4": "video/mp4",
    ".jpg": "image/jpeg",
}


def asset(name: str) -> Path | None:
    """The file of `/_player/<name>`: a file of the pages or a vendored player."""
    for folder in (CONSOLE / "players", *sorted((CONSOLE / "vendor").iterdir())):
        if (folder / name).is_file() and Path(name).suffix in {".js", ".css", ".svg"}:
            return folder / name
    return None


@dataclass
class Stub:
    """The state of the stub, which tests change while pages are open."""

    media: Path
    film: Path
    ffmpeg: str = "ffmpeg"
    live: bool = True
    outputs: list[str] = field(default_factory=lambda: ["flv", "hls", "cmaf"])
    ready: list[str] | None = None
    denied: bool = False
    poster: str | None = None
    address: str = ""
    requests: list[str] = field(default_factory=list)
    viewers: set[asyncio.subprocess.Process] = field(default_factory=set)

    def url(self, page: str) -> str:
        """The URL of a page or another file of the channel."""
        return f"{self.address}/{CHANNEL}/{page}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answers all requests: pages, assets, status and media."""
        self.requests.append(request.path_qs)
        name = request.match_info["name"]
        if request.path.startswith("/_player/"):
            path = asset(name)
        elif name == "status.json":
            return self._status()
        elif not name or name.endswith(".html"):
            path = CONSOLE / "players" / (name or "watch.html")
        elif name == "live.flv":
            return await self._flv(request)
        else:
            path = self.media / name
        if path is None or not path.is_file():
            raise web.HTTPNotFound
        headers = {"Content-Type": TYPES[path.suffix], "Cache-Control": "no-store", "Content-Security-Policy": POLICY}
        return web.Response(body=path.read_bytes(), headers=headers)

    def _status(self) -> web.Response:
        if self.denied:
            return web.json_response({"error": "the sign has expired"}, status=403)
        body = {"live": self.live, "outputs": self.outputs, "now": time.time() * 1000}
        body["poster"] = None if self.live else self.poster
        body["ready"] = [o for o in self.outputs if self._packaged(o)] if self.ready is None else self.ready
        return web.json_response(text=json.dumps(body))

    def _packaged(self, output: str) -> bool:
        """Whether ffmpeg has already created the files that players of this output request."""
        return all((self.media / name).exists() for name in PACKAGED[output])

    async def _flv(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("only") == "data":
            data = web.WebSocketResponse()  # without captions and metadata
            await data.prepare(request)
            async for _ in data:
                pass
            return data
        if request.headers.get("Upgrade"):
            raise web.HTTPNotFound  # this stub has no WS-FLV
        reply = web.StreamResponse(headers={"Content-Type": "video/x-flv", "Cache-Control": "no-store"})
        await reply.prepare(request)
        command = [self.ffmpeg, "-nostdin", "-v", "error", *_LOOP, "-i", str(self.film), "-c", "copy", "-f", "flv", "-"]
        player = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        self.viewers.add(player)
        try:
            while data := await player.stdout.read(4096):  # type: ignore[union-attr]
                await reply.write(data)
        except ConnectionResetError:
            pass  # the page was closed
        finally:
            self.viewers.discard(player)
            with contextlib.suppress(ProcessLookupError):
                player.kill()
            await player.wait()
        return reply

    def end(self) -> None:
        """Ends the broadcast: closes FLV connections and changes the status."""
        self._over(signal.SIGKILL)

    def end_unseen(self) -> None:
        """Ends the broadcast like `end`, but FLV connections stay open without data."""
        self._over(signal.SIGSTOP)

    def _over(self, how: signal.Signals) -> None:
        self.live = False
        for player in self.viewers:
            with contextlib.suppress(ProcessLookupError):
                player.send_signal(how)


@contextlib.asynccontextmanager
async def serving(film: Film) -> AsyncIterator[Stub]:
    """Runs a stub on a free port. ffmpeg creates live HLS and DASH from `film`."""
    with tempfile.TemporaryDirectory(prefix="millrace-stub-") as folder:
        media, path = Path(folder), film.path()
        (media / "master.m3u8").write_text(
            '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.64000d,mp4a.40.2"\ncmaf.m3u8\n'
        )
        common = ["-map", "0", "-c", "copy"]
        live = ["-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "program_date_time"]
        fmp4 = ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4"]
        dash = ["-seg_duration", "1", "-window_size", "8", "-extra_window_size", "20"]
        dash += [
            "-utc_timing_url",
            f"/{CHANNEL}/time",
            "-use_template",
            "1",
            "-use_timeline",
            "1",
            "-update_period",
            "1",
        ]
        command = ["ffmpeg", "-nostdin", "-v", "error", *_LOOP, "-i", str(path)]
        command += [*common, *live, "-hls_segment_filename", str(media / "ts%03d.ts"), str(media / "live.m3u8")]
        command += [*common, *live, *fmp4, "-hls_segment_filename", str(media / "f%03d.m4s"), str(media / "cmaf.m3u8")]
        command += [*common, *dash, "-f", "dash", str(media / "manifest.mpd")]
        packager = subprocess.Popen(command)
        stub = Stub(media, path)
        app = web.Application()
        app.router.add_get(f"/{CHANNEL}/time", _clock)
        app.router.add_get(f"/{CHANNEL}/{{name:.*}}", stub.answer)
        app.router.add_get("/_player/{name}", stub.answer)
        async with served_app(app) as port:
            stub.address = f"http://127.0.0.1:{port}"
            try:
                yield stub
            finally:
                packager.kill()
                packager.wait()
                stub.end()


async def _clock(_: web.Request) -> web.Response:
    return web.Response(text=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
