"""Files written whole or not at all, with the umask's mode, and errors that name them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidaudio.files import atomic_write, naming, remove_temporaries


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_the_mode_is_the_umasks_whoever_writes(umask: int, tmp_path: Path):
    writers = {
        "text": lambda path: path.write_text("x"),
        "safetensors": lambda path: save_file({"w": torch.zeros(2)}, path),
        "narrow": lambda path: (path.unlink(), os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))),
    }
    before = os.umask(umask)
    try:
        for name, write in writers.items():
            with atomic_write(tmp_path / name) as temporary:
                write(temporary)
        modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in writers}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(writers, 0o666 & ~umask)


def test_what_was_there_stays_until_all_is_written(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("before")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "before"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path):
    path = tmp_path / ("n" * 250)
    with atomic_write(path) as one, atomic_write(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"


def test_leftovers_of_one_name_go_and_no_others(tmp_path: Path):
    for name in (".file.0a.tmp", ".file.tmp", ".file2.0a.tmp", "file.tmp", ".other.tmp"):
        (tmp_path / name).touch()
    assert [path.name for path in remove_temporaries(tmp_path, "file")] == [".file.0a.tmp", ".file.tmp"]
    assert len(list(tmp_path.iterdir())) == 3


def test_errors_of_the_system_name_the_file(tmp_path: Path):
    with pytest.raises(OSError, match="Input/output error") as caught, naming(tmp_path / "file"):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.filename == str(tmp_path / "file")
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path / "file"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "nowhere" / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")
