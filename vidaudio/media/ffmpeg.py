"""The one FFmpeg of a run: which executable it is, and how commands built with ffmpeg-python are run over it.

FFmpeg on PATH comes first; where there is none, the binary that imageio-ffmpeg carries does, so that pip alone is
enough. That one brings no ffprobe: files are probed with PyAV.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

# FFmpeg says at which address of its memory a part lies: "[out#0/webm @ 0x563ed0b2fd80]".
_ADDRESS = re.compile(r"\[([^\[\]]*?) @ 0x[0-9a-f]+\]")


class FfmpegError(Exception):
    """A command that failed; the text is FFmpeg's own last line. `stderr` holds all it said."""

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


@functools.cache
def ffmpeg_executable() -> str:
    """Path of the FFmpeg to use.

    Raises:
        RuntimeError: There is none on PATH and imageio-ffmpeg carries none for this platform.
    """
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def run_ffmpeg(stream: Any, *, timeout_seconds: float | None = None) -> None:
    """Run a command built with ffmpeg-python, silently; its outputs are overwritten.

    Args:
        stream: What `ffmpeg.output(...)` or `ffmpeg.merge_outputs(...)` gave.
        timeout_seconds: The command is killed after this long.

    Raises:
        FfmpegError: The command failed.
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
        raise FfmpegError(f"ffmpeg: {last_line}", stderr)


def file_argument(path: Path) -> str:
    """How FFmpeg is told a local file, so that no name is read as an option or as a protocol."""
    return f"file:{path.absolute()}"
