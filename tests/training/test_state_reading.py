"""A state that is not one of ours is one sentence that names the file, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trained import TINY
from tests.training.made_states import state_of
from vidaudio.errors import CheckpointError, RecipeError
from vidaudio.tasks.separation.recipe import load_train_recipe
from vidaudio.training.checkpoint import build_model, load_checkpoint
from vidaudio.training.checkpointing import generator_states
from vidaudio.training.resume import check_weights, newest_state

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
        "encoder": None,
        "labels": [],
        "best_loss": 0.5,
        "training_sources": torch.arange(3),
        "generators": [generator_states()],
    }
    return state_of(Module().state_dict(), 5, **kept)


def _keeping(**kept: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: state["callbacks"]["Keeper"].update(kept)


FOREIGN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no step": lambda state: state.pop("global_step"),
    "step is text": lambda state: state.update(global_step="5"),
    "step is huge": lambda state: state.update(global_step=1 << 70),
    "no parts": lambda state: state.update(callbacks=None),
    "kept is a list": lambda state: state["callbacks"].update(Keeper=[1]),
    "recipe is text": _keeping(recipe="abc"),
    "recipe without system": _keeping(recipe={}),
    "encoder is text": _keeping(encoder="clip"),
    "labels are text": _keeping(labels="dog"),
    "sources are text": _keeping(training_sources="x"),
    "sources are fractions": _keeping(training_sources=torch.zeros(3)),
    "generators are text": _keeping(generators=["x"]),
    "best loss is text": _keeping(best_loss="x"),
    "no weights": lambda state: state.pop("state_dict"),
    "weights are a list": lambda state: state.update(state_dict=[1]),
    "a weight is text": lambda state: state["state_dict"].update(a="x"),
    "a weight repeats one number": lambda state: state["state_dict"].update(a=torch.zeros(1).expand(1 << 50)),
    "average is a list": lambda state: state.update(average=[1]),
    "no writer": lambda state: state.pop("pytorch-lightning_version"),
    "no loops": lambda state: state.update(loops={}),
    "no optimiser": lambda state: state.pop("optimizer_states"),
}


def _save(state: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def test_a_state_is_read_for_its_weights_and_to_go_on(state: dict[str, Any], tmp_path: Path):
    _save(state, tmp_path / "last.ckpt")
    found, read = newest_state(tmp_path), load_checkpoint(tmp_path)
    check_weights(found, Module())
    assert (found.step, read.step, read.training_sources.tolist()) == (5, 5, [0, 1, 2])
    for name, tensor in read.model.state_dict().items():
        assert torch.equal(tensor, state["state_dict"][f"model.{name}"])


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
    mine = state["state_dict"][name]
    state["state_dict"][name] = mine.to(torch.complex64) if other is None else other
    _save(state, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt do not fit its description: "):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt are not those of this recipe's model: model\.query"):
        check_weights(newest_state(tmp_path), Module())


@pytest.mark.parametrize(("name", "value"), [("n_fft", 1 << 33), ("log_rows", 10**8), ("sample_rate", 10**9)])
def test_a_model_of_sizes_that_no_memory_holds_is_refused(name: str, value: int, state: dict[str, Any], tmp_path: Path):
    state["callbacks"]["Keeper"]["recipe"]["model"]["front_end"][name] = value
    _save(state, tmp_path / "last.ckpt")
    with pytest.raises(RecipeError, match=rf"last\.ckpt: model\.front_end\.{name} wants \d+ or less"):
        load_checkpoint(tmp_path)


def test_weights_are_of_the_older_state_where_the_newest_is_damaged(
    state: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
):
    older = _save(state, tmp_path / "states" / "step-00000005.ckpt")
    last = _save({**state, "global_step": 7}, tmp_path / "last.ckpt")
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
