"""Where the tools are that judges need, and clear words about those that are missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "judges"
STREAMS = BUILD / "streams"
SCRIPTS = ROOT / "judges" / "node"
GO_PROGRAM = BUILD / "judge-go"
NODE_MODULES = BUILD / "node" / "node_modules"
KINESIS_JARS = BUILD / "kinesis"
M3U8_PYTHON = BUILD / "m3u8" / "bin" / "python"


def program(*names: str) -> str | None:
    """Path of the first program that is there."""
    return next((found for name in names if (found := shutil.which(name))), None)


def chromium() -> str | None:
    """Path of Chromium; the variable CHROMIUM names another one."""
    return os.environ.get("CHROMIUM") or program("chromium", "chromium-browser", "google-chrome")


def node() -> str | None:
    """Path of Node: of this machine, or of the development tools."""
    beside = ROOT / ".venv" / "bin" / "node"
    return program("node") or (str(beside) if beside.exists() else None)


def new_ffmpeg() -> str | None:
    """An ffmpeg that writes HEVC and AV1 by Enhanced RTMP: the one of PyPI's imageio-ffmpeg."""
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def missing_go() -> str:
    return "" if GO_PROGRAM.exists() else "not built: install Go and run `make judges`"


def missing_node() -> str:
    if node() is None:
        return "Node is not installed"
    return "" if (NODE_MODULES.parent / ".done").exists() else "not installed: run `make judges` with npm"


def missing_browser() -> str:
    return missing_node() or ("" if chromium() else "Chromium is not installed (Debian: chromium)")


def missing_java() -> str:
    if program("java") is None:
        return "Java is not installed (Debian: default-jdk-headless)"
    return "" if (KINESIS_JARS / ".done").exists() else "not built: install Maven and run `make judges`"


def missing_m3u8() -> str:
    return "" if (M3U8_PYTHON.parents[1] / ".done").exists() else "not installed: run `make judges`"


def missing_ffmpeg() -> str:
    return "" if program("ffmpeg") else "ffmpeg is not installed"


def nothing_missing() -> str:
    return ""
