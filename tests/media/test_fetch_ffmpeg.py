"""Which FFmpeg runs, and how its failures are told."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import pytest

from vidaudio.media.ffmpeg import FfmpegError, ffmpeg_executable, file_argument, run_ffmpeg


@pytest.fixture(autouse=True)
def _forget_the_executable():
    ffmpeg_executable.cache_clear()
    yield
    ffmpeg_executable.cache_clear()


def test_the_one_on_path_comes_first_and_the_bundled_one_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ffmpeg_executable() == imageio_ffmpeg.get_ffmpeg_exe()
    ffmpeg_executable.cache_clear()
    installed = tmp_path / "ffmpeg"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    assert ffmpeg_executable() == str(installed)


def test_a_failure_is_ffmpegs_own_last_line_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture):
    with pytest.raises(FfmpegError, match="No such file or directory") as caught:
        run_ffmpeg(ffmpeg.output(ffmpeg.input(str(tmp_path / "missing.mp4")), str(tmp_path / "out.mp4")))
    assert caught.value.stderr
    assert capfd.readouterr() == ("", "")


def test_where_a_part_lies_in_ffmpegs_memory_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    installed = tmp_path / "ffmpeg"
    installed.write_text("#!/bin/sh\necho '[out#0/webm @ 0x563ed0b2fd80] Nothing was written' >&2\nexit 1\n")
    installed.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(FfmpegError, match=r"^ffmpeg: \[out#0/webm\] Nothing was written$"):
        run_ffmpeg(ffmpeg.output(ffmpeg.input("a.wav"), "b.wav"))


def test_a_command_that_hangs_is_ended(tmp_path: Path):
    endless = ffmpeg.input("anullsrc", f="lavfi", re=None)
    with pytest.raises(TimeoutError, match=r"0\.5 s"):
        run_ffmpeg(ffmpeg.output(endless, str(tmp_path / "out.wav")), timeout_seconds=0.5)


@pytest.mark.parametrize("name", ["-i.wav", "concat:x.wav", "50%d.wav"])
def test_names_are_neither_options_nor_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    run_ffmpeg(ffmpeg.output(ffmpeg.input("anullsrc", f="lavfi", t=0.1), file_argument(Path(name))))
    assert (tmp_path / name).stat().st_size > 0
