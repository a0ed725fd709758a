"""The commands as they are typed: real processes, signalled and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.trained import TINY
from vidaudio.errors import CheckpointError, RecipeError
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.training import launch as launching
from vidaudio.training.launch import launch

STEPS = 400
SETTINGS = (
    *TINY,
    "data={batch_size: 4, workers: 1}",
    f"schedule.steps={STEPS}",
    "validation.every_steps=200",
    "log={to: none, every_steps: 5}",
)


def _command(packed: Path, run: Path, *options: str, settings: Sequence[str] = SETTINGS) -> list[str]:
    chosen = [part for setting in settings for part in ("--set", setting)]
    # -o and not --run, which torchrun would take for an option of its own.
    return ["train", "clipsep", "--data", str(packed), "-o", str(run), "--quiet", *chosen, *options]


def _start(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for_steps(run: Path, process: subprocess.Popen, after: int = 0) -> None:
    """Until the run has logged a step behind `after`, which is far from its last."""
    metrics = run / "logs" / "metrics.csv"
    while process.poll() is None:
        rows = metrics.read_text().splitlines()[1:] if metrics.is_file() else []
        if rows and int(rows[-1].split(",")[0]) > after:
            return
        # Nothing is decided by how long this takes.
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"ended before its first step: {process.stderr.read()}")


def _state(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)


def test_sigterm_saves_the_state_of_a_whole_step_on_all_devices_and_the_same_command_goes_on(
    packed: Path, tmp_path: Path
):
    run = tmp_path / "run"
    command = ("vidaudio", *_command(packed, run, "--devices", "2", "--auto-resume"))
    first = _start(*command)
    _wait_for_steps(run, first)
    # Meanwhile nobody else may train there.
    with pytest.raises(CheckpointError, match="another process is training"):
        train(load_train_recipe("clipsep", SETTINGS), str(packed), run, resume="auto", progress=False)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate()
    assert first.returncode == 143, said
    assert "Traceback" not in said
    assert said.count("stopped; ") == 1
    stopped = _state(run)
    assert 5 <= stopped["steps_done"] < STEPS
    assert all(int(moments["step"]) == stopped["steps_done"] for moments in _moments(stopped))
    # One process goes on where two were stopped; a terminal's Ctrl-C reaches its loader processes as well.
    steps = stopped["steps_done"]
    second = _start("vidaudio", *_command(packed, run, "--auto-resume"))
    _wait_for_steps(run, second, steps)
    os.killpg(second.pid, signal.SIGINT)
    _, said = second.communicate()
    assert second.returncode == 130, said
    assert "Traceback" not in said
    assert steps < _state(run)["steps_done"] < STEPS


def _moments(state: dict) -> list[dict]:
    return list(state["optimisers"][0]["state"].values())


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGUSR1])
def test_a_launcher_told_to_stop_while_it_starts_its_ranks_leaves_none_behind(
    told: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    """Ranks know SIGTERM from their first moment, but SIGUSR1 only when the command has begun."""
    ranks = []

    def start(rank: int, *_) -> subprocess.Popen:
        ranks.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]))
        if rank == 1:
            signal.raise_signal(told)
        return ranks[-1]

    monkeypatch.setattr(launching, "_start", start)
    before = signal.getsignal(told)
    assert launch(3, []) == 143
    assert [rank.returncode for rank in ranks] == [-signal.SIGTERM] * 3
    assert signal.getsignal(told) is before


def test_the_command_takes_sigusr1_for_sigterm_from_its_beginning(tmp_path: Path):
    from vidaudio.cli.models import train as command

    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
        with pytest.raises(RecipeError):
            command(recipe="no such recipe", data=["nowhere"], run=tmp_path / "run")
        signal.raise_signal(signal.SIGUSR1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert heard == [signal.SIGTERM]


def test_torchrun_trains_with_the_ranks_it_starts(packed: Path, tmp_path: Path):
    few = (*SETTINGS, "schedule.steps=4", "validation.every_steps=4", "log.every_steps=1")
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "vidaudio")
    done = _start(*torchrun, *_command(packed, tmp_path / "run", settings=few))
    printed, said = done.communicate()
    assert done.returncode == 0, said
    assert printed.count("4 steps, 16 mixtures") == 1
    assert len(_state(tmp_path / "run")["run"]["generators"]) == 2


def test_killed_while_a_state_is_written_the_one_before_stands(packed: Path, tmp_path: Path):
    """By SIGKILL, at the moment when the new state is complete under its temporary name."""
    run = tmp_path / "run"
    program = f"""
import os, signal
from pathlib import Path
from vidaudio.training.launch import launch
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.registry import train

replaced = os.replace
def replace(source, target):
    if Path(target).name == "last.ckpt" and Path(target).is_file():
        os.kill(os.getpid(), signal.SIGKILL)
    replaced(source, target)

os.replace = replace
settings = {[*SETTINGS, "schedule.steps=6", "validation.every_steps=2"]!r}
train(load_train_recipe("clipsep", settings), {str(packed)!r}, {str(run)!r}, progress=False)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY)
    assert killed.returncode == -signal.SIGKILL
    assert _state(run)["steps_done"] == 2
    recipe = load_train_recipe("clipsep", [*SETTINGS, "schedule.steps=6", "validation.every_steps=2"])
    assert train(recipe, str(packed), run, resume=True, progress=False).step == 6
    assert not list(run.glob(".*.tmp"))


def test_what_other_ranks_say_of_a_mistake_is_said_once_and_the_code_is_theirs(capfd: pytest.CaptureFixture):
    assert launch(3, ["status", "nowhere"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("error: there is no corpus at")
    # Of ranks that were ended before they found it out for themselves nothing is heard.
    assert lines[1:] in ([], [f"other rank: {lines[0]}"])
