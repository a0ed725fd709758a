"""The one FFmpeg of a run: which executable it is, and how commands built with ffmpeg-python are run over it.

FFmpeg on PATH comes first; where there is none that starts, the binary that imageio-ffmpeg carries does, so that pip
alone is enough. That one brings no ffprobe: files are probed with PyAV.
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

# An FFmpeg that has not said its version by then hangs.
START_SECONDS = 20.0
# FFmpeg says at which address of its memory a part lies: "[out#0/webm @ 0x563ed0b2fd80]".
_ADDRESS = re.compile(r"\[([^\[\]]*?) @ 0x[0-9a-f]+\]")


class FfmpegError(Exception):
    """A command that failed; the text is FFmpeg's own last line.

    Attributes:
        stderr: All that FFmpeg wrote.
        executable: Path of the FFmpeg that ran. Not part of the text, which tables keep and which must not differ
            between machines.
    """

    def __init__(self, message: str, stderr: str = "", executable: str = "") -> None:
        super().__init__(message)
        self.stderr, self.executable = stderr, executable

    @property
    def told(self) -> str:
        """The text for whoever gave the command: with the FFmpeg that ran."""
        return f"{self}; ran {self.executable}" if self.executable else str(self)


class NoFfmpeg(VidaudioError, RuntimeError):
    """No FFmpeg on this machine can be started; the text names each and what is wrong with it."""


@functools.cache
def ffmpeg_executable() -> str:
    """Return the path of the FFmpeg to use: the first on PATH that starts, else the one imageio-ffmpeg carries.

    Each is started once. One that is there and cannot run (another machine's, a library missing, not executable) must
    not stand before one that can.

    Raises:
        NoFfmpeg: None can be started.
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
    """Return what keeps an executable from being an FFmpeg that runs; empty where nothing does."""
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
    """Run a command built with ffmpeg-python, silently; its outputs are overwritten.

    Args:
        stream: What `ffmpeg.output(...)` or `ffmpeg.merge_outputs(...)` gave.
        timeout_seconds: The command is killed after this long.

    Raises:
        FfmpegError: The command failed.
        NoFfmpeg: No FFmpeg can be started.
        TimeoutError: It ran longer than `timeout_seconds`.
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
    """Yield a path that ffmpeg-python takes: this one, or a link to it where its name is not UTF-8."""
    if is_utf8(str(path.absolute())):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="vidaudio-link-") as folder:
        link = Path(folder) / "media"
        link.symlink_to(path.absolute())
        yield link


def file_argument(path: Path) -> str:
    """How FFmpeg is told a local file, so that no name is read as an option or as a protocol."""
    return f"file:{path.absolute()}"
