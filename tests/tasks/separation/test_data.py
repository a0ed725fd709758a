"""A run and the data it was begun with: resuming on others is refused, unless it is wanted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from vidaudio.errors import CheckpointError
from vidaudio.stream.index import INDEX_FILE, read_index, write_index
from vidaudio.tasks.registry import train
from vidaudio.tasks.separation.recipe import SeparationRecipe


def _steps(recipe: SeparationRecipe, steps: int, **data: object) -> SeparationRecipe:
    return recipe.model_copy(
        update={
            "schedule": recipe.schedule.model_copy(update={"steps": steps}),
            "data": recipe.data.model_copy(update=data),
        }
    )


def test_resuming_after_samples_were_taken_out_is_refused_unless_allowed(
    tmp_path: Path, packed: Path, tiny_recipe: SeparationRecipe
):
    data, run = Path(shutil.copytree(packed, tmp_path / "data")), tmp_path / "run"
    train(_steps(tiny_recipe, 3), str(data), run, progress=False)
    with pa.memory_map(str(data / INDEX_FILE)) as source:
        table, described, _ = read_index(source)
        write_index(tmp_path / "other.arrow", table, {**described, "generation": 1})
    (tmp_path / "other.arrow").replace(data / INDEX_FILE)
    with pytest.raises(CheckpointError, match=r"not what this run has seen so far.*data\.allow_other=true"):
        train(_steps(tiny_recipe, 5), str(data), run, resume=True, progress=False)
    assert train(_steps(tiny_recipe, 5, allow_other=True), str(data), run, resume=True, progress=False).step == 5
    # From then on the new data are the run's own.
    assert train(_steps(tiny_recipe, 6), str(data), run, resume=True, progress=False).step == 6


def test_accumulated_gradients_begin_again_where_the_optimiser_stopped(packed: Path, tiny_recipe: SeparationRecipe):
    """A step of the run is as many batches of the stream as gradients are summed over."""
    from types import SimpleNamespace

    from vidaudio.tasks.separation.data import streams
    from vidaudio.training.loader_processes import LoaderProcesses
    from vidaudio.training.loop import TrainingLoop

    data = tiny_recipe.data.model_copy(update={"batch_size": 6, "accumulate": 2})
    recipe = tiny_recipe.model_copy(update={"data": data})
    stream, _ = streams(recipe, str(packed))
    loop = object.__new__(TrainingLoop)
    loop.task, loop._recipe, loop.steps_done = SimpleNamespace(train_stream=stream), recipe, 5
    loop.fabric, loop._loaders = SimpleNamespace(global_rank=1, world_size=3), LoaderProcesses()
    assert next(loop._training_batches())["step"] == 10
    assert (stream.start_step, stream.rank, stream.world_size) == (10, 1, 3)
