"""Runs the judges: starts the gateway, pushes streams of each kind, and judges each as soon as it can be played."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass, field, replace
from pathlib import Path

from judges import tools
from judges.findings import Findings
from judges.kinds import Kind, source
from judges.processes import Processes
from judges.table import Judge, Subject
from tests.support.gateway import Channel, Gateway, running
from tests.support.putmedia import KvsDouble

PLAYABLE_SECONDS = 60.0
LATE_AT_ONCE = 2
# After so many seconds a judge is given up.
JUDGE_SECONDS = 300.0
LINGER_SECONDS = 5
KINESIS_SECONDS = 40.0


@dataclass(frozen=True)
class Verdict:
    """What one judge says of one kind of stream."""

    kind: str
    judge: str
    findings: Findings
    seconds: float


@dataclass
class Suite:
    """One run. told: is called with each verdict as it comes, from several threads."""

    kinds: list[Kind]
    judges: list[Judge]
    at_once: int
    told: Callable[[Verdict], None]
    progress: Callable[[str], None]
    processes: Processes = field(default_factory=Processes)

    def run(self) -> None:
        """Judges every kind. Ends everything that it started, also when it is interrupted."""
        try:
            wanted = [(kind, mine) for kind in self.kinds if (mine := [j for j in self.judges if j.applies(kind)])]
            ffmpeg = tools.new_ffmpeg() or "ffmpeg"
            sources = {kind.name: self._source(kind, ffmpeg) for kind, _ in wanted}
            with kinesis_double() as double, running(**_settings(double)) as gateway:
                turns = threading.BoundedSemaphore(self.at_once)
                threads = []
                for kind, judges in wanted:
                    path = sources[kind.name]
                    if path is None:
                        continue
                    while not turns.acquire(timeout=1.0):
                        if gateway.process.poll() is not None:
                            raise AssertionError(f"the gateway ended: {gateway.log[-1000:]}")
                    stage = _Stage(self, gateway, double, kind, judges, path, ffmpeg)
                    threads.append(_start(stage.run, turns))
                for thread in threads:
                    while thread.is_alive():
                        thread.join(1.0)
        except BaseException:
            # What judges say of a gateway that is being ended is no verdict.
            self.told = lambda _: None
            raise
        finally:
            self.processes.kill_all()

    def _source(self, kind: Kind, ffmpeg: str) -> Path | None:
        self.progress(f"making the stream {kind.name}")
        try:
            return source(kind, tools.STREAMS, ffmpeg, self.processes)
        except OSError as error:
            findings = Findings()
            findings.breaks("the stream can be made", error)
            self.told(Verdict(kind.name, "stream", findings, 0.0))
            return None


def _start(run: Callable[[], None], turns: threading.BoundedSemaphore) -> threading.Thread:
    def body() -> None:
        try:
            run()
        finally:
            turns.release()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


@dataclass
class _Stage:
    """One kind of stream on its own channel."""

    suite: Suite
    gateway: Gateway
    double: KvsDouble
    kind: Kind
    judges: list[Judge]
    source: Path
    ffmpeg: str

    def run(self) -> None:
        """Pushes the stream, and lets every judge judge it."""
        findings, began = Findings(), time.monotonic()
        try:
            self._run(findings)
        except Exception as error:  # said as a verdict: the other kinds go on
            findings.breaks("the stream can be judged", repr(error)[:600])
        if findings.broken:
            self.suite.told(Verdict(self.kind.name, "stream", findings, time.monotonic() - began))

    def _run(self, findings: Findings) -> None:
        kind = self.kind
        channel = self.gateway.channel(kind.name, hls_time="2", hls_list_size="6", **kind.fields)
        stop = threading.Event()
        pusher = threading.Thread(target=self._push, args=(channel, stop, findings), daemon=True)
        pusher.start()
        try:
            paths = ["master.m3u8", "manifest.mpd", *(["live.m3u8"] if kind.codec != "av1" else [])]
            paths += ["index.m3u8"] if kind.fields.get("isCodec") else []
            channel.wait_playable(*paths, timeout=PLAYABLE_SECONDS)
            self._judge(channel)
        finally:
            stop.set()
            pusher.join(20)

    def _push(self, channel: Channel, stop: threading.Event, findings: Findings) -> None:
        """Pushes as the kind says; a push of 0 seconds lasts until the judges have ended."""
        # A burst at the start, ffmpeg's default, puts the media ahead of the clock that availability is judged by.
        pace = ["-re", "-readrate_initial_burst", "0.001"] if self.ffmpeg != "ffmpeg" else ["-re"]
        command = [self.ffmpeg, "-nostdin", "-v", "error", *pace, "-i", str(self.source), "-c", "copy", "-f", "flv"]
        command += [channel.push]
        if change := self.kind.change:
            port, key = str(self.gateway.ports["rtmp"]), f"{channel.id}?sign={channel.key}"
            command = [sys.executable, "-m", "judges.unusual", change, str(self.source), port, key]
        for seconds in self.kind.pushes:
            process = self.suite.processes.start(command)
            ended = stop.wait(seconds or None) if seconds else self._until_end(process, stop)
            self.suite.processes.kill(process)
            if ended:
                return
            if not seconds:
                findings.breaks("the push lasts as long as its judges", (process.communicate()[1] or "its end")[-300:])
                return
            stop.wait(self.kind.pause)

    @staticmethod
    def _until_end(process: object, stop: threading.Event) -> bool:
        while not stop.wait(0.2):
            if process.poll() is not None:  # type: ignore[attr-defined]
                return False
        return True

    def _judge(self, channel: Channel) -> None:
        subject = Subject(
            self.kind, channel.url("").rstrip("/"), self.source, self.ffmpeg, self.gateway.ports["admin"],
            self.suite.processes, channel.key,
        )  # fmt: skip
        early = [_Running(judge, subject) for judge in self.judges if judge.early]
        late = [judge for judge in self.judges if not judge.early and not judge.bodies]
        if late:
            time.sleep(self.kind.window)
        while late:
            group = [_Running(judge, subject) for judge in late[:LATE_AT_ONCE]]
            late = late[LATE_AT_ONCE:]
            for one in group:
                self._tell(one)
        for one in early:
            self._tell(one)
        for judge in (judge for judge in self.judges if judge.bodies):
            with tempfile.TemporaryDirectory(prefix="millrace-judges-") as folder:
                bodies = self._bodies(Path(folder))
                self._tell(_Running(judge, replace(subject, bodies=bodies)))

    def _tell(self, one: _Running) -> None:
        findings = one.findings()
        self.suite.told(Verdict(self.kind.name, one.judge.name, findings, one.seconds))

    def _bodies(self, folder: Path) -> tuple[Path, ...]:
        """What the gateway sent to the double of Kinesis, once there is enough of it."""
        end = time.monotonic() + KINESIS_SECONDS
        while time.monotonic() < end and sum(connection.fragments for connection in self.double.connections) < 8:
            time.sleep(0.5)
        paths = []
        for index, connection in enumerate(self.double.connections):
            path = folder / f"{index}.mkv"
            # Up to the end of the last whole fragment: the connection is still open.
            path.write_bytes(connection.whole())
            paths.append(path)
        return tuple(path for path in paths if path.stat().st_size)


class _Running:
    """A judge at work in a thread of its own."""

    def __init__(self, judge: Judge, subject: Subject) -> None:
        self.judge, self.seconds = judge, 0.0
        self._began = time.monotonic()
        self._done: Future[Findings] = Future()
        threading.Thread(target=self._run, args=(subject,), daemon=True).start()

    def _run(self, subject: Subject) -> None:
        findings = Findings()
        try:
            self.judge.run(subject, findings)
        except Exception as error:  # a judge that fails says so in its own line
            findings.breaks("the judge itself failed", repr(error)[:600])
        self.seconds = time.monotonic() - self._began
        self._done.set_result(findings)

    def findings(self) -> Findings:
        """What it found; a judge that does not end is broken itself."""
        try:
            return self._done.result(max(1.0, self._began + JUDGE_SECONDS - time.monotonic()))
        except TimeoutError:
            findings = Findings()
            findings.breaks("the judge ends in time", f"{JUDGE_SECONDS:.0f} s")
            return findings


def _settings(double: KvsDouble) -> dict[str, str]:
    """Variables of the gateway: short lingering, no limits by address, AWS on the double."""
    missing = "/nonexistent/aws"
    return {
        "MILLRACE_STREAM__LINGER": str(LINGER_SECONDS),
        "MILLRACE_LIMITS__PUBLISHERS_PER_ADDRESS": "0",
        "MILLRACE_LIMITS__PLAYBACK_PER_ADDRESS": "0",
        "AWS_ENDPOINT_URL_KINESIS_VIDEO": double.url,
        "AWS_ENDPOINT_URL_STS": double.url,
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": missing,
        "AWS_SHARED_CREDENTIALS_FILE": missing,
    }


@contextlib.contextmanager
def kinesis_double() -> Iterator[KvsDouble]:
    """The double of Kinesis Video Streams on a loop in a thread of its own; it keeps the bodies that it is sent."""
    ready: Future[KvsDouble] = Future()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        async with KvsDouble(keep_bodies=True) as double:
            double.add("judged")
            ready.set_result(double)
            await ended.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except Exception as error:
            ready.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ready.result(20)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
