"""States of a run: whole under their names at every moment, passed over where they are damaged, never too many."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trained import TINY
from tests.training.made_states import state_of
from vidaudio import files
from vidaudio.errors import CheckpointError
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.training import state_files
from vidaudio.training.resume import FolderLock, newest_state
from vidaudio.training.state_files import write_state
from vidaudio.training.state_reading import damage_of


def a_state(step: int, values: int = 20_000) -> dict:
    weights = torch.full((values,), float(step))
    return state_of({"w": weights}, step, best_loss=0.5)


def step_in(path: Path) -> int:
    state = torch.load(path, weights_only=True)
    assert (state["weights"]["w"] == state["steps_done"]).all()
    return state["steps_done"]


def killed_at(moment: int, path: Path) -> bool:
    """Write a state of step 2 in a process that is killed at a moment of it; False where it came to its end before."""
    child = os.fork()
    if child == 0:
        left = moment

        def counted(do):
            def doing(*arguments):
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return do(*arguments)

            return doing

        state_files._Sink.write = counted(state_files._Sink.write)
        for name in ("replace", "fsync", "open", "close"):
            setattr(files.os, name, counted(getattr(os, name)))
        try:
            write_state(a_state(2), path)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_run_killed_at_any_moment_of_saving_leaves_a_whole_state(tmp_path: Path):
    path = tmp_path / "states" / "step-00000002.ckpt"
    seen = set()
    for moment in range(1000):
        shutil.rmtree(path.parent, ignore_errors=True)
        if moment % 2:
            write_state(a_state(1), path)
        killed = killed_at(moment, path)
        seen.add(step_in(path) if path.exists() else None)
        assert not path.exists() or damage_of(path) is None
        state_files.remove_leftovers(tmp_path)
        assert {each.name for each in path.parent.glob("*")} <= {path.name}
        if not killed and moment % 2 == 0:
            break
    assert moment > 10
    assert seen == {None, 1, 2}


DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-20],
    "one bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "zeros in the middle": lambda data: data[: len(data) // 3] + bytes(4096) + data[len(data) // 3 + 4096 :],
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"not a state",
}


@pytest.mark.parametrize("newest", ["last.ckpt", "states/step-00000003.ckpt"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_newest_state_is_named_and_the_one_before_is_offered(
    kind: str, newest: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    for step in (1, 2):
        write_state(a_state(step), tmp_path / "states" / f"step-{step:08d}.ckpt")
    write_state(a_state(3), tmp_path / newest)
    assert newest_state(tmp_path).step == 3
    (tmp_path / newest).write_bytes(DAMAGES[kind]((tmp_path / newest).read_bytes()))
    said = rf"{newest} is not a state .*--auto-resume goes on from the state before, .*step-00000002.ckpt of step 2"
    with pytest.raises(CheckpointError, match=said):
        newest_state(tmp_path)
    assert capsys.readouterr().err == ""
    state = newest_state(tmp_path, pass_over_damaged=True)
    assert (state.step, state.run["best_loss"]) == (2, 0.5)
    warned = capsys.readouterr().err
    assert newest in warned
    assert "going on from the state before" in warned


def test_where_no_state_is_whole_nothing_is_begun_over_the_run(tmp_path: Path):
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last.ckpt is not a state .* there is no other state; delete it"):
        newest_state(tmp_path, pass_over_damaged=True)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(CheckpointError, match="--init"):
        newest_state(tmp_path, pass_over_damaged=True)


def test_damage_of_an_older_state_is_of_no_interest(tmp_path: Path):
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "step-00000001.ckpt").write_bytes(b"")
    write_state(a_state(2), tmp_path / "last.ckpt")
    assert newest_state(tmp_path).step == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_state_before_stays(small_disk: Path):
    path = small_disk / "states" / "step-00000001.ckpt"
    state_files.save_state(a_state(1), path)
    for target in (path, path.with_name("step-00000002.ckpt"), small_disk / "last.ckpt"):
        with pytest.raises(
            CheckpointError, match=rf"{target.name} could not be written: No space left on device; .*stand"
        ):
            state_files.save_state(a_state(2, values=100_000), target)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert step_in(path) == 1


def test_states_of_killed_starts_go_and_files_have_the_mode_of_the_umask(packed: Path, tmp_path: Path):
    run = tmp_path / "run"
    settings = (*TINY, "log.to=none", "schedule.steps=4", "state={every_steps: 1, keep_last: 2}")
    before = os.umask(0o027)
    try:
        train(load_train_recipe("clipsep", settings), str(packed), run, progress=False)
        states = run / "states"
        assert sorted(path.name for path in states.iterdir()) == ["step-00000003.ckpt", "step-00000004.ckpt"]
        # Two kept by a start that was killed before it could remove them, and what killed writers leave.
        for step in (1, 2):
            shutil.copyfile(states / "step-00000004.ckpt", states / f"step-{step:08d}.ckpt")
        left = [run / ".last.ckpt.tmp", run / ".best.safetensors.12.tmp", states / ".step-00000004.ckpt.a.tmp"]
        left += [run / "logs" / ".metrics.csv.b.tmp", run / ".recipe.yaml.c.tmp"]
        for path in left:
            path.touch()
        (run / ".notes.tmp").touch()
        longer = load_train_recipe("clipsep", (*settings, "schedule.steps=5"))
        train(longer, str(packed), run, resume=True, progress=False)
    finally:
        os.umask(before)
    assert sorted(path.name for path in states.iterdir()) == ["step-00000004.ckpt", "step-00000005.ckpt"]
    assert [path.name for path in run.rglob("*.tmp")] == [".notes.tmp"]
    files_of_run = [path for path in run.rglob("*") if path.is_file()]
    assert {"best.safetensors", "last.ckpt", "recipe.yaml", "metrics.csv"} <= {path.name for path in files_of_run}
    assert {path: oct(stat.S_IMODE(path.stat().st_mode)) for path in files_of_run} == dict.fromkeys(
        files_of_run, "0o640"
    )


def test_a_disk_without_locks_is_not_another_process(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture):
    import errno
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    FolderLock(tmp_path).release()
    assert "has no locks" in capsys.readouterr().err
