"""The one FFmpeg executable of a run, and a runner for commands built with ffmpeg-python.

Executables on PATH are tried first. If none of them starts, the binary that comes with imageio-ffmpeg is used, so that
pip alone is enough. That package has no ffprobe: files are probed with PyAV.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

from vidaudio.errors import VidaudioError
from vidaudio.text import is_utf8

# An FFmpeg that has not printed its version by then counts as hanging.
START_SECONDS = 20.0
# FFmpeg prints memory addresses of its parts: "[out#0/webm @ 0x563ed0b2fd80]".
_ADDRESS = re.compile(r"\[([^\[\]]*?) @ 0x[0-9a-f]+\]")


class FfmpegError(Exception):
    """Error of a command that failed; the text is FFmpeg's own last line.

    Attributes:
        stderr: All output of FFmpeg on stderr.
        executable: Path of the FFmpeg that ran. The text does not contain it, because tables keep the text and must not
            differ between machines.
    """

    def __init__(self, message: str, stderr: str = "", executable: str = "") -> None:
        super().__init__(message)
        self.stderr, self.executable = stderr, executable

    @property
    def told(self) -> str:
        """Error text for whoever ran the command, with the path of the FFmpeg that ran, if known."""
        return f"{self}; ran {self.executable}" if self.executable else str(self)


class NoFfmpeg(VidaudioError, RuntimeError):
    """Error for a machine on which no FFmpeg starts; the text names each executable and what is wrong with it."""


@functools.cache
def ffmpeg_executable() -> str:
    """Return the path of the FFmpeg to use: the first on PATH that starts, otherwise the one of imageio-ffmpeg.

    Each candidate is started once. An FFmpeg that exists but cannot run (built for another machine, a library missing,
    not executable) must not take precedence over one that runs.

    Raises:
        NoFfmpeg: When none can be started.
    """
    problems = []
    for candidate in _candidates(os.environ.get("PATH", "")):
        problem = _problem_of(candidate)
        if not problem:
            return candidate
        problems.append(f"{candidate} {problem}")
    found = "; ".join(problems) or "there is none on PATH, and imageio-ffmpeg has none for this platform"
    raise NoFfmpeg(f"no FFmpeg can be started: {found}. Install one, or imageio-ffmpeg with its binary")


def _candidates(path: str) -> Iterator[str]:
    seen = set()
    for folder in path.split(os.pathsep):
        found = shutil.which("ffmpeg", path=folder) if folder else None
        if found is not None and found not in seen:
            seen.add(found)
            yield found
    try:
        yield imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        return


def _problem_of(executable: str) -> str:
    """Return what keeps an executable from running as FFmpeg; empty if nothing does."""
    try:
        done = subprocess.run(
            [executable, "-hide_banner", "-version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=START_SECONDS,
        )
    except OSError as error:
        return f"cannot be started ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"does not answer within {START_SECONDS:g} s"
    if done.returncode != 0:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        return f"ends with {how}"
    return "" if done.stdout.startswith(b"ffmpeg") else "is no FFmpeg"


def run_ffmpeg(stream: Any, *, timeout_seconds: float | None = None) -> None:
    """Run a command built with ffmpeg-python silently and overwrite its outputs.

    Args:
        stream: Result of `ffmpeg.output(...)` or `ffmpeg.merge_outputs(...)`.
        timeout_seconds: Time after which the command is killed, seconds; None means no limit.

    Raises:
        FfmpegError: When the command fails.
        NoFfmpeg: When no FFmpeg can be started.
        TimeoutError: When the command runs longer than `timeout_seconds`.
    """
    executable = ffmpeg_executable()
    _, *arguments = ffmpeg.compile(stream, cmd=executable, overwrite_output=True)
    command = [executable, "-nostdin", "-hide_banner", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"ffmpeg ran longer than {timeout_seconds:g} s") from error
    if done.returncode != 0:
        stderr = done.stderr.decode("utf-8", "replace").strip()
        last_line = _ADDRESS.sub(r"[\1]", stderr.splitlines()[-1]) if stderr else f"exit status {done.returncode}"
        raise FfmpegError(f"ffmpeg: {last_line}", stderr, executable)


@contextlib.contextmanager
def plainly_named(path: Path) -> Iterator[Path]:
    """Yield a path that ffmpeg-python accepts: this path, or a temporary link to it if the path is not UTF-8."""
    if is_utf8(str(path.absolute())):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="vidaudio-link-") as folder:
        link = Path(folder) / "media"
        link.symlink_to(path.absolute())
        yield link


def file_argument(path: Path) -> str:
    """Return the FFmpeg argument for a local file, so that no name is read as an option or a protocol."""
    return f"file:{path.absolute()}"
