"""Which FFmpeg runs, and how its failures are told."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import pytest

from vidaudio.media.ffmpeg import FfmpegError, NoFfmpeg, ffmpeg_executable, file_argument, run_ffmpeg


@pytest.fixture(autouse=True)
def _forget_the_executable():
    ffmpeg_executable.cache_clear()
    yield
    ffmpeg_executable.cache_clear()


ANSWERS = "#!/bin/sh\n[ \"$2\" = -version ] && echo 'ffmpeg version 7.0' && exit 0\n"
BROKEN = {
    "a library is missing": "#!/bin/sh\necho 'libx264.so.164: cannot open shared object file' >&2\nexit 127\n",
    "its interpreter is missing": "#!/nowhere/ld-linux.so\n",
    "another processor's": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(100),
    "dies": "#!/bin/sh\nkill -SEGV $$\n",
    "something else": "#!/bin/sh\necho 'hello'\n",
    "empty": "",
}


def installed(folder: Path, program: str | bytes, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "ffmpeg"
    path.write_bytes(program if isinstance(program, bytes) else program.encode())
    path.chmod(mode)
    return path


def test_the_one_on_path_comes_first_and_the_bundled_one_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert ffmpeg_executable() == imageio_ffmpeg.get_ffmpeg_exe()
    ffmpeg_executable.cache_clear()
    assert ffmpeg_executable() == imageio_ffmpeg.get_ffmpeg_exe()
    ffmpeg_executable.cache_clear()
    first = installed(tmp_path / "bin", ANSWERS)
    assert ffmpeg_executable() == str(first)


@pytest.mark.parametrize("kind", BROKEN)
def test_one_that_cannot_start_stands_before_none_that_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    installed(tmp_path / "broken", BROKEN[kind])
    monkeypatch.setenv("PATH", f"{tmp_path / 'broken'}:/usr/bin:/bin")
    bundled = imageio_ffmpeg.get_ffmpeg_exe()
    usual = ffmpeg_executable()
    assert not usual.startswith(str(tmp_path))
    # What is asked of it works, and does not say that it is another one.
    run_ffmpeg(ffmpeg.output(ffmpeg.input("anullsrc", f="lavfi", t=0.1), str(tmp_path / "out.wav")))
    assert (tmp_path / "out.wav").stat().st_size > 0
    # A later one on PATH comes before the bundled one.
    ffmpeg_executable.cache_clear()
    second = installed(tmp_path / "second", ANSWERS)
    monkeypatch.setenv("PATH", f"{tmp_path / 'broken'}:{tmp_path / 'second'}:/usr/bin:/bin")
    assert ffmpeg_executable() == str(second) != bundled


def test_one_that_may_not_be_executed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    installed(tmp_path / "bin", ANSWERS, mode=0o644)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert ffmpeg_executable() == imageio_ffmpeg.get_ffmpeg_exe()


def test_none_that_starts_is_said_with_what_is_wrong_with_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = installed(tmp_path / "bin", BROKEN["a library is missing"])
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "gone"))
    monkeypatch.setattr("vidaudio.media.ffmpeg.shutil.which", lambda name, path: str(broken))
    with pytest.raises(NoFfmpeg) as caught:
        ffmpeg_executable()
    assert f"{broken} ends with exit status 127" in str(caught.value)
    assert "gone cannot be started (No such file or directory)" in str(caught.value)


def test_a_failure_is_ffmpegs_own_last_line_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture):
    with pytest.raises(FfmpegError, match="No such file or directory") as caught:
        run_ffmpeg(ffmpeg.output(ffmpeg.input(str(tmp_path / "missing.mp4")), str(tmp_path / "out.mp4")))
    assert caught.value.stderr
    assert caught.value.executable == ffmpeg_executable()
    assert ffmpeg_executable() not in str(caught.value), "committed tables keep the text"
    assert ffmpeg_executable() in caught.value.told
    assert capfd.readouterr() == ("", "")


def test_where_a_part_lies_in_ffmpegs_memory_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    installed(tmp_path, ANSWERS + "echo '[out#0/webm @ 0x563ed0b2fd80] Nothing was written' >&2\nexit 1\n")
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
