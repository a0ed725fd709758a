"""Systems that can be trained, by name: each belongs to a family, whose task is imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from vidaudio.config.recipes import check, load_values, override
from vidaudio.errors import CheckpointError, RecipeError
from vidaudio.training.base import Data, TrainingTask
from vidaudio.training.checkpoint import read_system
from vidaudio.training.recipe import CommonRecipe
from vidaudio.training.train import TrainResult, run_training

_SEPARATION = "vidaudio.tasks.separation.task:SeparationTask"
_GENERATION = "vidaudio.tasks.generation.task:GenerationTask"
_VOCODER = "vidaudio.tasks.vocoder.task:VocoderTask"
# Module and class of each system's family.
TASKS: dict[str, str] = {
    "clipsep": _SEPARATION,
    "clipsep_nit": _SEPARATION,
    "clipsep_text": _SEPARATION,
    "clipsep_hybrid": _SEPARATION,
    "labelsep": _SEPARATION,
    "bertsep": _SEPARATION,
    "sop": _SEPARATION,
    "sop_original": _SEPARATION,
    "pit": _SEPARATION,
    "bimodal_mixsep": _SEPARATION,
    "bimodal_weak": _SEPARATION,
    "bimodal_semi": _SEPARATION,
    "bimodal_supervised": _SEPARATION,
    "mixit": _SEPARATION,
    "mixit_ranked": _SEPARATION,
    "custom": _SEPARATION,
    "clipsonic_iq": _GENERATION,
    "clipsonic_iq_modern": _GENERATION,
    "clip_tta": _GENERATION,
    "clap_tta": _GENERATION,
    "bigvgan": _VOCODER,
}
Method = Literal["separator", "generator"]
METHODS: tuple[Method, ...] = get_args(Method)
_METHODS: dict[str, Method] = {"separation": "separator", "generation": "generator"}
Family = Literal["separation", "generation", "vocoder"]
_FAMILIES: dict[str, Family] = {_SEPARATION: "separation", _GENERATION: "generation", _VOCODER: "vocoder"}
# System of a recipe that names none.
DEFAULT_SYSTEM = "clipsep"


def task_type(system: str) -> type[TrainingTask]:
    """Return the class of the family that a system belongs to.

    Raises:
        KeyError: When there is no such system.
    """
    module, _, name = TASKS[system].partition(":")
    return getattr(importlib.import_module(module), name)


def family_of(checkpoint: str | Path) -> Family:
    """Return the family that trained a checkpoint.

    Raises:
        CheckpointError: When the checkpoint cannot be read, or its system is not known.
    """
    system = read_system(checkpoint)
    if system not in TASKS:
        raise CheckpointError(f"{checkpoint} is of system {system!r}, which this version does not know")
    return _FAMILIES[TASKS[system]]


def separation_method(checkpoint: str | Path, asked: Method | None = None) -> Method:
    """Return the method by which a checkpoint separates: a separator's masks, or a generator without training.

    Args:
        checkpoint: A run's folder or its weights file.
        asked: Method that the user named; None for the checkpoint's.

    Raises:
        CheckpointError: When the checkpoint cannot be read, or separates by another method or not at all.
    """
    family = family_of(checkpoint)
    if family not in _METHODS:
        raise CheckpointError(f"{checkpoint} is of system {read_system(checkpoint)!r}, which does not separate")
    method = _METHODS[family]
    if asked is not None and asked != method:
        system = read_system(checkpoint)
        raise CheckpointError(f"{checkpoint} is a {method} ({system}): leave --method out, or say --method {method}")
    return method


def load_train_recipe(name: str, settings: Sequence[str] = ()) -> Any:
    """Read a recipe of `train/` by name or path, with `key=value` overrides.

    Returns:
        Recipe of the type that the family of its `system` has.

    Raises:
        RecipeError: When the recipe cannot be read, or its parts do not fit together.
    """
    return check_train_recipe(override(load_values(name, "train"), settings), f"recipe {Path(name).name}")


def check_train_recipe(values: Mapping[str, Any], where: str) -> Any:
    """Return the recipe with these values.

    Args:
        values: Values of the recipe.
        where: Origin of the values, which begins the message.

    Raises:
        RecipeError: When a value is wrong, or the parts do not fit together.
    """
    system = values.get("system", DEFAULT_SYSTEM)
    if not isinstance(system, str) or system not in TASKS:
        *names, last = (repr(name) for name in TASKS)
        raise RecipeError(f"{where}: system wants {', '.join(names)} or {last}, not {system!r}")
    task = task_type(system)
    recipe = check(task.recipe_type, values, where)
    task.check_recipe(recipe, where)
    return recipe


def train(
    recipe: CommonRecipe,
    data: Data,
    run: str | Path,
    *,
    resume: bool | Literal["auto"] = False,
    encoder_weights: str | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train the system of a recipe, and leave `best.safetensors`, `last.ckpt`, `recipe.yaml` and logs in a folder.

    If the environment says so, as under torchrun, this process is one of several, see `vidaudio.training.distributed`.

    Args:
        recipe: Recipe of the run, see `load_train_recipe`.
        data: A packed corpus, `CORPUS/training/NAME`; or several with their weights.
        run: Folder of the run.
        resume: Whether to go on from the run's newest state; examples continue where the optimiser stopped. `auto`: go
            on if there is a state, else begin, and do nothing if all steps are made.
        encoder_weights: Place of the query encoder's weights, if they are needed and not at their recorded place.
        progress: Whether to show a progress bar.

    Raises:
        CorpusError, RecipeError, CheckpointError: When training is refused or fails; the message says what to do.
        SystemExit: When a signal stopped the run; its state is saved, and the code is 128 + the signal's number.
        KeyboardInterrupt: Likewise, for Ctrl-C.
    """
    task = task_type(recipe.system)
    task.check_recipe(recipe, f"system {recipe.system}")
    return run_training(
        task, recipe, data, Path(run), resume=resume, encoder_weights=encoder_weights, progress=progress
    )
