"""Drivers of real clients: ffmpeg, VLC, GStreamer, rtmpdump and OBS, each as a subprocess.

A driver knows how to start its program and how to read its output. Expectations are in the tests.
"""

import contextlib
import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.media import (
    FRAMES_PER_SECOND,
    Film,
    Frame,
    Take,
    analysis,
    framehash_command,
    parse_framehash,
    quick_ffmpeg,
)
from tests.support.time_outs import at_most


def until(condition: Callable[[], Any], what: str, timeout: float = 15.0) -> Any:
    """Returns the first true value of `condition()`, called every 50 ms. Fails with `what` after `timeout` seconds."""
    limit = at_most(timeout)
    end = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"after {limit:.0f} s still not: {what}")
        time.sleep(0.05)
    return value


def found(folder: Path, pattern: str) -> list[Path]:
    """Returns the matching paths below `folder`, sorted. A gateway may move folders there at the same time."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return sorted(folder.rglob(pattern))


def new_ffmpeg() -> str:
    """Returns an ffmpeg with Enhanced RTMP: the one in PyPI's imageio-ffmpeg."""
    return quick_ffmpeg()


class Program:
    """The process of a client. Leaving the `with` block ends it and its children.

    Its files are closed after its end, in `wait`, `stop`, `kill` or at the end of the block.
    """

    def __init__(self, command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.command = command
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 (closed by _ended)
        self._read = ["", ""]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            start_new_session=True,
        )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _ended(self) -> None:
        self._read = [self.output, self.errors]
        for file in self._files:
            file.close()

    def _so_far(self, which: int) -> str:
        file = self._files[which]
        if file.closed:
            return self._read[which]
        # pread does not move the position at which the program continues to write.
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")

    @property
    def output(self) -> str:
        """Its standard output until now."""
        return self._so_far(0)

    @property
    def errors(self) -> str:
        """Its standard error until now."""
        return self._so_far(1)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, timeout: float = 60.0) -> str:
        """Waits until it ends by itself and returns its output; fails with its last messages."""
        limit = at_most(timeout)
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.command[0]} did not end within {limit:.0f} s: {self.errors[-600:]}")
        self._ended()
        return self.output

    def stop(self, timeout: float = 10.0) -> str:
        """Ends it with SIGINT, so that ffmpeg and GStreamer finish their files. Returns its output."""
        if self.running:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(at_most(timeout))
        self.kill()
        return self.output

    def kill(self) -> None:
        """Kills its whole session. May be called repeatedly."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(at_most(10))
        self._ended()


# ---- ffmpeg -----------------------------------------------------------------------------------


def push(film: Film | Path, url: str, *, ffmpeg: str = "ffmpeg", loop: bool = False) -> Program:
    """ffmpeg that publishes the film, or a file, in real time. loop: repeats it."""
    path = film.path() if isinstance(film, Film) else film
    again = ["-stream_loop", "-1"] if loop else []
    command = [ffmpeg, "-nostdin", "-v", "error", "-re", *again, "-i", str(path), "-c", "copy", "-f", "flv", url]
    return Program(command)


def pull(url: str, *, seconds: float | None = 6.0, ffmpeg: str = "ffmpeg", before: tuple[str, ...] = ()) -> Program:
    """ffmpeg that plays `seconds` of a URL. `take_of` returns its frames."""
    return Program(framehash_command(url, ffmpeg=ffmpeg, seconds=seconds, before=before))


def so_far(program: Program) -> Take:
    """The frames that a `pull` has received until now."""
    return parse_framehash(program.output)


def whole_frames(path: Path) -> Take:
    """The frames of a file; the last ones may be incomplete."""
    with Program(framehash_command(path)) as program:
        take = take_of(program)
    return Take(take.video[:-1], take.audio[:-1])


def take_of(program: Program, timeout: float = 60.0) -> Take:
    """The frames of a finished `pull`; fails with the messages of ffmpeg if there are none."""
    take = parse_framehash(program.wait(timeout))
    assert take.video or take.audio, f"{program.command[-2:]} saw nothing: {program.errors[-800:]}"
    return take


def probe(source: str | Path, *options: str, timeout: float = 30.0) -> dict[str, dict[str, Any]]:
    """Returns ffprobe's description of the first video and audio streams, by kind. options: of ffprobe."""
    command = ["ffprobe", "-v", "error", *analysis(source), *options, "-show_streams", "-of", "json", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=at_most(timeout), check=False)
    assert done.returncode == 0, f"ffprobe {source}: {done.stderr[-600:]}"
    found: dict[str, dict[str, Any]] = {}
    for stream in json.loads(done.stdout).get("streams", []):
        found.setdefault(stream["codec_type"], stream)
    return found


def ffplay(url: str) -> Program:
    """ffplay that plays a URL on a virtual display. It continuously prints its clock and the A-V difference."""
    silent = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    return Program(["ffplay", "-hide_banner", "-stats", "-fflags", "nobuffer", url], env=silent)


# ---- VLC --------------------------------------------------------------------------------------


@contextlib.contextmanager
def vlc(url: str) -> Iterator[tuple[Program, Path]]:
    """VLC that records a URL into an MPEG-TS file during the block. Yields the program and the file.

    VLC refuses to run as root, so then it runs as `nobody`.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-vlc-") as home:
        out = Path(home) / "o.ts"
        command = ["cvlc", "-q", "--sout", f"#std{{access=file,mux=ts,dst={out}}}", url, "vlc://quit"]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            command = ["runuser", "-u", "nobody", "--", "env", f"HOME={home}", f"XDG_RUNTIME_DIR={home}", *command]
        with Program(command, cwd=Path(home)) as program:
            yield program, out


def recorded(player: tuple[Program, Path], seconds: float) -> Take:
    """The frames that `vlc` recorded, after at least `seconds` of pictures; fails with the messages of VLC.

    The start-up time and the write bursts of the player do not matter.
    """
    program, out = player
    until(lambda: _pictures(out) >= seconds * FRAMES_PER_SECOND, f"VLC has {seconds} s of {program.command[-2]}", 40)
    # In a file that grows, ffmpeg would read on after an end within a packet, and lose that packet.
    copy = out.with_suffix(".copy.ts")
    copy.write_bytes(out.read_bytes())
    return take_of_cut(copy)


def take_of_cut(file: Path) -> Take:
    """The frames of a file that may end within a picture and a sound: all but the last one of each."""
    done = subprocess.run(framehash_command(file), capture_output=True, text=True, timeout=at_most(60))
    take = parse_framehash(done.stdout)
    return Take(take.video[:-1], take.audio[:-1])


def _pictures(file: Path) -> int:
    """The number of pictures in a file that is still being written."""
    count = [
        "ffprobe",
        "-v",
        "quiet",
        "-select_streams",
        "v",
        "-count_packets",
        "-show_entries",
        "stream=nb_read_packets",
    ]
    done = subprocess.run([*count, "-of", "csv=p=0", str(file)], capture_output=True, text=True, timeout=at_most(60))
    found = done.stdout.split()
    return int(found[0]) if found and found[0].isdigit() else 0


# ---- GStreamer --------------------------------------------------------------------------------


def gst_push(film: Film, url: str) -> Program:
    """GStreamer that publishes an FLV film in real time through rtmp2sink."""
    pipeline = f"filesrc location={film.path()} ! flvdemux name=in"
    if film.video:
        pipeline += " in.video ! h264parse ! queue ! out."
    if film.audio:
        pipeline += " in.audio ! aacparse ! queue ! out."
    pipeline += f' flvmux name=out streamable=true ! rtmp2sink location="{url}" sync=true'
    return Program(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


def gst_play_flv(source: str, *, picture: bool = True) -> Program:
    """GStreamer that plays FLV from `source`, an element with its properties.

    Prints one hash per decoded picture or coded audio packet. The other stream is played and discarded, because
    flvdemux fails if its first pad is not linked.
    """
    checked, dropped = "checksumsink hash=md5 sync=false", "fakesink sync=false"
    decode = "h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=I420"
    pipeline = f"{source} ! flvdemux name=in"
    pipeline += f" in.video ! queue ! {decode} ! {checked if picture else dropped}"
    pipeline += f" in.audio ! queue ! aacparse ! audio/mpeg,stream-format=raw ! {dropped if picture else checked}"
    return Program(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


def gst_play_hls(url: str, *, paced: bool = False) -> Program:
    """GStreamer that plays HLS with hlsdemux2 in playbin3 and prints one hash per picture.

    paced: plays in real time. Otherwise it always plays as fast as data is available.
    """
    sync = "true" if paced else "false"
    video = f"videoconvert ! video/x-raw,format=I420 ! checksumsink hash=md5 sync={sync}"
    sinks = (f"video-sink={video}", f"audio-sink=fakesink sync={sync}")
    return Program(["gst-launch-1.0", "-q", "playbin3", f"uri={url}", *sinks])


def gst_play_dash(url: str) -> Program:
    """GStreamer that plays the video of a DASH URL and prints one hash per picture.

    It uses dashdemux. dashdemux2 works too, but first buffers 30 s with gst-launch.
    """
    pipeline = f"souphttpsrc location={url} ! dashdemux ! video/quicktime ! queue ! decodebin"
    pipeline += " ! videoconvert ! video/x-raw,format=I420 ! checksumsink hash=md5 sync=false"
    return Program(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


def checksums(text: str) -> list[Frame]:
    """Parses the `<time> <hash>` lines of checksumsink. The times are internal to GStreamer and not compared."""
    frames = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and len(words[1]) == 32:
            hours, minutes, seconds = words[0].split(":")
            frames.append(Frame(words[1], int(hours) * 3600 + int(minutes) * 60 + float(seconds)))
    return frames


# ---- rtmpdump ---------------------------------------------------------------------------------


def rtmpdump(url: str, to: Path) -> Program:
    """rtmpdump that records a live stream into an FLV file until it is stopped."""
    return Program(["rtmpdump", "-q", "--live", "-r", url, "-o", str(to)])


# ---- OBS --------------------------------------------------------------------------------------

_OBS_GLOBAL = """[General]
FirstRun=true
EnableAutoUpdates=false
LastVersion=486539266
[Basic]
Profile=t
ProfileDir=t
SceneCollection=t
SceneCollectionFile=t
"""
_OBS_PROFILE = """[General]
Name=t
[Output]
Mode=Simple
[SimpleOutput]
VBitrate=1000
StreamEncoder=x264
ABitrate=128
Preset=veryfast
[Video]
BaseCX=320
BaseCY=180
OutputCX=320
OutputCY=180
FPSCommon=30
"""


@contextlib.contextmanager
def obs(server: str, key: str, script: str = "") -> Iterator[Program]:
    """OBS Studio that streams one coloured scene to `server` with `key`, on a virtual display.

    script: Lua that it runs; "": none.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-obs-") as name:
        home = Path(name)
        config = home / ".config" / "obs-studio"
        (config / "basic" / "profiles" / "t").mkdir(parents=True)
        (config / "basic" / "scenes").mkdir()
        (config / "global.ini").write_text(_OBS_GLOBAL)
        (config / "basic" / "profiles" / "t" / "basic.ini").write_text(_OBS_PROFILE)
        service = {"type": "rtmp_custom", "settings": {"server": server, "key": key, "use_auth": False}}
        (config / "basic" / "profiles" / "t" / "service.json").write_text(json.dumps(service))
        scene = _obs_scene()
        if script:
            (home / "script.lua").write_text(script)
            scene["modules"] = {"scripts-tool": [{"path": str(home / "script.lua"), "settings": {}}]}
        (config / "basic" / "scenes" / "t.json").write_text(json.dumps(scene))
        (home / "run").mkdir(mode=0o700)
        env = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "QT_QPA_PLATFORM": "xcb",
        }
        command = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", "dbus-run-session", "obs", "--startstreaming"]
        command += ["--minimize-to-tray", "--disable-updater", "--multi"]
        command += ["--profile", "t", "--collection", "t", "--scene", "S"]
        with Program(command, env=env, cwd=home) as program:
            yield program


def _obs_scene() -> dict[str, Any]:
    colour = {
        "id": "color_source_v3",
        "versioned_id": "color_source_v3",
        "name": "C",
        "settings": {"color": 4281545523, "width": 320, "height": 180},
        "enabled": True,
    }
    item = {"name": "C", "id": 1, "visible": True, "pos": {"x": 0.0, "y": 0.0}, "scale": {"x": 1.0, "y": 1.0}}
    scene = {"id": "scene", "versioned_id": "scene", "name": "S", "settings": {"id_counter": 1, "items": [item]}}
    return {
        "name": "t",
        "current_scene": "S",
        "current_program_scene": "S",
        "scene_order": [{"name": "S"}],
        "sources": [colour, scene],
    }


def missing(*programs: str) -> list[str]:
    """Returns the programs that are not on PATH."""
    return [name for name in programs if shutil.which(name) is None]
