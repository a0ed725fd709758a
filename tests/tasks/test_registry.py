"""Every system of the registry trains at its smallest, is stopped after two steps, and goes on to the same last bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml

from tests.tasks.conftest import FROM_MIXTURES, GENERATORS, SYSTEMS, VOCODERS
from vidaudio.config.recipes import find_recipe, load_values, recipe_names
from vidaudio.tasks.registry import TASKS, task_type, train
from vidaudio.training.base import TrainingTask
from vidaudio.training.checkpoint import read_checkpoint

STEPS = 4


def test_the_registry_names_every_system_of_every_family_and_of_the_recipes():
    families = {TASKS[system]: task_type(system) for system in TASKS}
    for place, family in families.items():
        assert issubclass(family, TrainingTask)
        listed = {system for system, of in TASKS.items() if of == place}
        assert set(get_args(family.recipe_type.model_fields["system"].annotation)) == listed
    assert {load_values(name, "train").get("system", "clipsep") for name in recipe_names("train")} <= set(TASKS)
    # The trainings below leave none out.
    trained = {system.removesuffix("_frames") for system in (*SYSTEMS, *GENERATORS, *VOCODERS, *FROM_MIXTURES)}
    assert trained | {"custom"} == set(TASKS)
    assert yaml.safe_load(find_recipe("clipsep", "train").read_text())["system"] == "clipsep"


@pytest.mark.parametrize("name", [*SYSTEMS, *GENERATORS, *VOCODERS, *FROM_MIXTURES])
def test_a_system_trains_and_goes_on_to_the_last_bit(name: str, corpora: dict, recipes: dict, tmp_path: Path):
    data = str(corpora["resnet" if name == "sop" else "clip"])

    def recipe(steps: int):
        schedule = recipes[name].schedule.model_copy(update={"steps": steps, "decay_until_step": STEPS})
        log = recipes[name].log.model_copy(update={"to": "none"})
        return recipes[name].model_copy(update={"schedule": schedule, "log": log})

    for run, starts in (("whole", (STEPS,)), ("resumed", (2, STEPS))):
        for number, steps in enumerate(starts):
            done = train(recipe(steps), data, tmp_path / run, resume=number > 0, progress=False)
            assert done.step == steps
            assert math.isfinite(done.best_loss)
    one, other = (torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("whole", "resumed"))
    assert one["weights"].keys() == other["weights"].keys()
    for weight, tensor in one["weights"].items():
        assert torch.equal(tensor, other["weights"][weight]), weight
    described = read_checkpoint(tmp_path / "whole")[1]
    assert described["system"] == recipes[name].system
