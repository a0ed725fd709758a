"""A state that is not one of ours is one sentence that names the file, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trained import TINY
from tests.training.made_states import first_version_state_of, state_of
from vidaudio.errors import CheckpointError, RecipeError
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.checkpoint import build_model, load_checkpoint
from vidaudio.training.checkpointing import generator_states
from vidaudio.training.resume import check_weights, newest_state, require_resumable
from vidaudio.training.state_reading import read_state

RECIPE = load_train_recipe("clipsep", TINY)
DIMENSIONS = 8


class Module(torch.nn.Module):
    """What of a training's module has weights."""

    def __init__(self) -> None:
        super().__init__()
        self.model = build_model(RECIPE, DIMENSIONS)


@pytest.fixture
def state() -> dict[str, Any]:
    kept = {
        "recipe": RECIPE.model_dump(mode="json"),
        "facts": {"encoder": None, "labels": [], "query_dimensions": DIMENSIONS},
        "best_loss": 0.5,
        "training_sources": torch.arange(3),
        "generators": [generator_states()],
    }
    return state_of(Module().state_dict(), 5, **kept)


def _keeping(**kept: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: state["run"].update(kept)


def _saying(**facts: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: state["run"]["facts"].update(facts)


FOREIGN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no step": lambda state: state.pop("steps_done"),
    "step is text": lambda state: state.update(steps_done="5"),
    "step is huge": lambda state: state.update(steps_done=1 << 70),
    "no run": lambda state: state.pop("run"),
    "run is a list": lambda state: state.update(run=[1]),
    "facts are a list": _keeping(facts=[1]),
    "another format": lambda state: state.update(format=3),
    "recipe is text": _keeping(recipe="abc"),
    "recipe without system": _keeping(recipe={}),
    "encoder is text": _saying(encoder="clip"),
    "labels are text": _saying(labels="dog"),
    "sources are text": _keeping(training_sources="x"),
    "sources are fractions": _keeping(training_sources=torch.zeros(3)),
    "generators are text": _keeping(generators=["x"]),
    "best loss is text": _keeping(best_loss="x"),
    "dimensions are text": _saying(query_dimensions="8"),
    "no weights": lambda state: state.pop("weights"),
    "weights are a list": lambda state: state.update(weights=[1]),
    "a weight is text": lambda state: state["weights"].update(a="x"),
    "a weight repeats one number": lambda state: state["weights"].update(a=torch.zeros(1).expand(1 << 50)),
    "average is a list": lambda state: state.update(average=[1]),
    "no optimiser": lambda state: state.pop("optimisers"),
    "optimisers are text": lambda state: state.update(optimisers=["adam"]),
}


def _save(state: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def test_a_state_is_read_for_its_weights_and_to_go_on(state: dict[str, Any], tmp_path: Path):
    _save(state, tmp_path / "last.ckpt")
    found, read = newest_state(tmp_path), load_checkpoint(tmp_path)
    check_weights(read_state(found.path), Module(), found.path)
    assert (found.step, read.step, read.training_sources.tolist()) == (5, 5, [0, 1, 2])
    for name, tensor in read.model.state_dict().items():
        assert torch.equal(tensor, state["weights"][f"model.{name}"])


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_state_is_refused_by_name(kind: str, state: dict[str, Any], tmp_path: Path):
    FOREIGN[kind](state)
    _save(state, tmp_path / "last.ckpt")
    for read in (load_checkpoint, newest_state):
        with pytest.raises(CheckpointError, match=r"last\.ckpt is not a state .*none of a run of ours"):
            read(tmp_path)


def test_a_list_is_no_state(tmp_path: Path):
    _save([1, 2, 3], tmp_path / "last.ckpt")
    for read in (load_checkpoint, newest_state):
        with pytest.raises(CheckpointError, match=r"last\.ckpt is not a state"):
            read(tmp_path)


@pytest.mark.parametrize("other", [torch.tensor(1.0), torch.zeros(3, 3), None])
def test_weights_of_another_model_are_refused(other: torch.Tensor | None, state: dict[str, Any], tmp_path: Path):
    name = "model.query.linear.weight"
    mine = state["weights"][name]
    state["weights"][name] = mine.to(torch.complex64) if other is None else other
    _save(state, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt do not fit its description: "):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt are not those of this recipe's model: model\.query"):
        check_weights(read_state(tmp_path / "last.ckpt"), Module(), tmp_path / "last.ckpt")


@pytest.mark.parametrize(("name", "value"), [("n_fft", 1 << 33), ("log_rows", 10**8), ("sample_rate", 10**9)])
def test_a_model_of_sizes_that_no_memory_holds_is_refused(name: str, value: int, state: dict[str, Any], tmp_path: Path):
    state["run"]["recipe"]["model"]["front_end"][name] = value
    _save(state, tmp_path / "last.ckpt")
    with pytest.raises(RecipeError, match=rf"last\.ckpt: model\.front_end\.{name} wants \d+ or less"):
        load_checkpoint(tmp_path)


def test_weights_are_of_the_older_state_where_the_newest_is_damaged(
    state: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
):
    older = _save(state, tmp_path / "states" / "step-00000005.ckpt")
    last = _save({**state, "steps_done": 7}, tmp_path / "last.ckpt")
    data = last.read_bytes()
    for damaged in (data[: len(data) // 2], data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :]):
        last.write_bytes(damaged)
        assert (load_checkpoint(tmp_path).step, load_checkpoint(tmp_path).path) == (5, older)
        said = capsys.readouterr().err
        assert "last.ckpt is not a state" in said
        assert "the state before is used" in said
    older.unlink()
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not a state .* holds no other state"):
        load_checkpoint(tmp_path)


def test_of_a_state_of_version_0_1_the_weights_are_read_and_training_does_not_go_on(
    state: dict[str, Any], tmp_path: Path
):
    run = state["run"]
    kept = {"recipe": run["recipe"], "encoder": None, "labels": [], "training_sources": run["training_sources"]}
    _save(first_version_state_of(state["weights"], 5, **kept), tmp_path / "last.ckpt")
    read = load_checkpoint(tmp_path)
    assert (read.step, read.model.config.query_dimensions, read.training_sources.tolist()) == (5, DIMENSIONS, [0, 1, 2])
    for name, tensor in read.model.state_dict().items():
        assert torch.equal(tensor, state["weights"][f"model.{name}"])
    with pytest.raises(CheckpointError, match=rf"written by version 0\.1, .* weights: --init {tmp_path}"):
        require_resumable(newest_state(tmp_path))
