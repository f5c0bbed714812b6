"""Limits the length of a VOD, and the time and disk space of its job, whatever the file's header declares."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.settings.models import VodSettings


JOB_SECONDS: Final = 1800.0  # of work that are always allowed: a short video in 4K, on a busy machine


class UnusableFilm(Exception):
    """A media file cannot be converted. The message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one job; 0 switches a limit off. The check_… methods raise UnusableFilm; the message names the option.

    film_seconds: maximum length of the video. output_ratio: output bytes for each byte of the source.
    output_bytes: output bytes that are always allowed. job_ratio: seconds of work for each second of finished video.
    keep_free: bytes of the disk that must stay free.
    """

    film_seconds: float = 0.0
    output_ratio: float = 0.0
    output_bytes: int = 0
    job_ratio: float = 0.0
    keep_free: int = 0

    @classmethod
    def of(cls, vod: VodSettings) -> Bounds:
        """Returns the limits of the settings."""
        return cls(vod.film_seconds, vod.output_ratio, vod.output_bytes, vod.job_ratio, vod.keep_free)

    def check_declared_length(self, seconds: float) -> None:
        """Checks the length in the file's header. seconds: 0 if the header has none. Raises UnusableFilm."""
        if self.film_seconds and seconds > self.film_seconds:
            raise UnusableFilm(
                f"it says that it lasts {format_duration(seconds)}: "
                f"at most {format_duration(self.film_seconds)} are allowed (vod.film_seconds)"
            )

    def check_length(self, seconds: float) -> None:
        """Checks the length of the finished part of the video, in seconds. Raises UnusableFilm."""
        if self.film_seconds and seconds > self.film_seconds:
            raise UnusableFilm(f"it lasts longer than {format_duration(self.film_seconds)} (vod.film_seconds)")

    def output_limit(self, size: int) -> int | None:
        """Returns the maximum output bytes for a source of `size` bytes; None: no limit."""
        return max(self.output_bytes, round(self.output_ratio * size)) if self.output_ratio else None

    def time_limit(self, finished: float) -> float | None:
        """Returns the maximum seconds of work for `finished` seconds of video; None: no limit."""
        return max(JOB_SECONDS, self.job_ratio * finished) if self.job_ratio else None

    def check_space(self, folder: Path, needed: int = 0) -> None:
        """Checks the free disk space. Blocks. Raises UnusableFilm.

        needed: bytes that will be written to the folder.
        """
        if self.keep_free and (free := shutil.disk_usage(folder).free) < self.keep_free + needed:
            wanted = f": {needed} are needed and" if needed else ","
            raise UnusableFilm(f"the disk has {free} bytes left{wanted} {self.keep_free} stay free (vod.keep_free)")


class Allowance:
    """Counts the bytes that a job writes, up to a limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._spent = 0

    def spend(self, size: int) -> None:
        """Counts `size` bytes. Raises UnusableFilm above the limit. Hot path."""
        self._spent += size
        if self._limit is not None and self._spent > self._limit:
            raise UnusableFilm(
                f"more than {self._limit} bytes would be made of it (vod.output_ratio, vod.output_bytes)"
            )


def format_duration(seconds: float) -> str:
    """Formats a duration for messages: seconds below 120 s, minutes below 120 min, else hours."""
    if seconds < 120:
        return f"{seconds:g} s" if seconds == int(seconds) else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
