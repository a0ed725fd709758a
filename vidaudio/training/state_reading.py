"""Reading of a run's states: finds the newest complete one, and checks once everything that is used later.

A state may be incomplete, or another program's file, until these checks have passed.
"""

from __future__ import annotations

import random
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidaudio.errors import CheckpointError
from vidaudio.stream.index_checks import check_fingerprint
from vidaudio.training.loss_band import is_band_state

LAST_FILE = "last.ckpt"
STATES_FOLDER = "states"
SNAPSHOTS_FOLDER = "averages"
STATE_FORMAT = 2
# Key of a run's facts in the states of version 0.1, which Lightning's trainer wrote.
_FIRST_KEPT = "Keeper"
MAX_STEPS = 1 << 40
_STATE_NAME = re.compile(r"step-(\d+)\.ckpt")
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class State:
    """State that a run can go on from.

    Attributes:
        path: Path of the file.
        step: Steps done.
        run: Facts of the run beside weights and optimisers, see `vidaudio.training.checkpointing`.
        can_resume: Whether training can go on from it; of version 0.1's states, only the weights can be used.
    """

    path: Path
    step: int
    run: dict[str, Any]
    can_resume: bool = True


class DamagedState(CheckpointError):
    """Error about a file that is not a complete state.

    Attributes:
        step: Steps after which it was written; None if neither its name nor its contents say so.
    """

    def __init__(self, path: Path, why: str, step: int | None) -> None:
        super().__init__(f"{path} is not a state that training can go on from ({why})")
        self.step = step


class _Foreign(ValueError):
    """Content that no training writes into a state; the message names it."""


def state_paths(run: Path) -> list[Path]:
    """Return the files of a run's states: those in `states/` by name, then `last.ckpt`."""
    found = [*sorted((run / STATES_FOLDER).glob("*.ckpt")), run / LAST_FILE]
    return [path for path in found if path.is_file()]


def newest_whole(run: Path) -> tuple[State | None, list[DamagedState]]:
    """Return the complete state with the most steps or None, and the damaged ones that may be newer.

    Raises:
        CheckpointError: When a state cannot be read.
    """
    states, damaged = [], []
    for path in state_paths(run):
        try:
            state = read_state(path)
            states.append(State(path, state["steps_done"], state["run"], state["optimisers"] is not None))
        except DamagedState as error:
            damaged.append(error)
    states.sort(key=lambda state: state.step)
    while states and (why := damage_of(states[-1].path)):
        damaged.append(DamagedState(states[-1].path, why, states.pop().step))
    newest = states[-1] if states else None
    return newest, [one for one in damaged if newest is None or one.step is None or one.step > newest.step]


def read_state(path: Path) -> dict[str, Any]:
    """Return the contents of a state, checked; its tensors are mapped, not read.

    Returns:
        `steps_done`, `weights` of the module, `optimisers` (None in a state of version 0.1), `average` or None, `run`;
        `band` or None, which older states lack.

    Raises:
        DamagedState: When the file is incomplete, garbled, or not a state of vidaudio.
        CheckpointError: When the file cannot be read.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:
        # Damage causes many kinds of errors, one for each part of a file.
        raise DamagedState(path, f"it is incomplete or garbled: {type(error).__name__}", step_of(path)) from None
    try:
        _want(isinstance(state, dict), "it is no dictionary")
        if "pytorch-lightning_version" in state:
            state = _from_first_version(state)
        _check(state)
    except ValueError as error:
        raise DamagedState(path, f"it is none of a run of ours: {error}", step_of(path)) from None
    return state


def _from_first_version(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights and facts of a state of version 0.1, which Lightning's trainer wrote."""
    callbacks = state.get("callbacks", {})
    _want(isinstance(callbacks, dict), "its parts have no names")
    kept = callbacks.get(_FIRST_KEPT, {})
    _want(isinstance(kept, dict), "it does not say what it is of")
    facts = {name: kept[name] for name in ("encoder", "labels") if name in kept}
    return {
        "format": STATE_FORMAT,
        "steps_done": state.get("global_step"),
        "weights": state.get("state_dict"),
        "average": state.get("average"),
        "optimisers": None,
        "run": {**{name: value for name, value in kept.items() if name not in facts}, "facts": facts},
    }


def step_of(path: Path) -> int | None:
    """Return the step in a state's name; None for `last.ckpt`."""
    named = _STATE_NAME.fullmatch(path.name)
    return int(named[1]) if named else None


def damage_of(path: Path) -> str | None:
    """Return what is wrong with a state's bytes according to its checksums; None if nothing is.

    Raises:
        CheckpointError: When it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        return f"it is incomplete or garbled: {error}"
    return None if bad is None else "it is garbled: the checksum of a part of it does not fit"


def misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Return the first weight that is missing, unknown, or of another shape or type than the model's; None if none."""
    wrong = sorted(wanted.keys() ^ found.keys())
    wrong += [name for name in wanted if name in found and not alike(wanted[name], found[name])]
    return wrong[0] if wrong else None


def alike(wanted: Tensor, found: Tensor) -> bool:
    """Return whether a tensor has the wanted shape, and a type that can be converted to the wanted one."""
    types = _FLOATS if wanted.dtype in _FLOATS else (wanted.dtype,)
    return wanted.shape == found.shape and found.dtype in types


def _check(state: Mapping[str, Any]) -> None:
    """Raise ValueError for a state that no training has written."""
    _want(state.get("format") == STATE_FORMAT, f"it is of format {state.get('format')!r}, not {STATE_FORMAT}")
    _want(is_count(state.get("steps_done")), "its step is no count")
    _want(_are_weights(state.get("weights")), "it has no weights")
    average = state.get("average")
    whole = isinstance(average, dict) and _are_weights(average.get("weights")) and is_count(average.get("steps"))
    _want(average is None or (whole and _are_averages(average.get("widths", []))), "its average of the weights is none")
    optimisers = state.get("optimisers", ())
    known = optimisers is None or (isinstance(optimisers, list) and all(isinstance(each, dict) for each in optimisers))
    _want(known, "it has no optimisers")
    band = state.get("band")
    _want(band is None or is_band_state(band), "its loss band has no state")
    _want(isinstance(state.get("run"), dict), "it does not say what it is of")
    _check_run(state["run"])


def _check_run(run: Mapping[str, Any]) -> None:
    recipe = run.get("recipe")
    _want(recipe is None or isinstance(recipe, dict), "its recipe is none")
    _want(recipe is None or isinstance(recipe.get("system"), str), "its recipe names no system")
    _want(isinstance(run.get("facts"), dict), "it has no facts")
    check_facts(run["facts"])
    _want(isinstance(run.get("best_loss", 0.0), int | float), "its best loss is no number")
    _want(is_count(run.get("validated_step", 0)), "its validated step is no count")
    _want(isinstance(run.get("shares", []), list), "its shares are no list")
    _want(isinstance(run.get("data") or "", str), "its data have no name")
    sources = run.get("training_sources")
    _want(sources is None or are_sources(sources), "its list of what it was trained on is none")
    generators = run.get("generators")
    _want(generators is None or isinstance(generators, list), "its random generators are no list")
    for each in generators or ():
        _check_generators(each)


def check_facts(facts: Mapping[str, Any]) -> None:
    """Check the facts in a state or a weights file, beside the recipe, that all families have in common.

    Raises:
        ValueError: When a fact was not written by a training run; the message names it.
    """
    encoder, labels = facts.get("encoder"), facts.get("labels", [])
    if encoder is not None:
        check_fingerprint(encoder)
        _want(isinstance(encoder.get("architecture"), str), "its encoder has no name")
    _want(isinstance(labels, list) and all(isinstance(each, str) for each in labels), "its labels are no list of names")
    for name in facts:
        if name.endswith("_dimensions"):
            _want(is_count(facts[name]), "its dimensions are no count")


def are_sources(value: Any) -> bool:
    """Return whether a value is a list of hashes, see `vidaudio.training.provenance`."""
    return _is_tensor(value) and value.ndim == 1 and value.dtype == torch.int64


def _check_generators(states: Any) -> None:
    """Set unused generators to the states: only the generators know what a valid state is."""
    try:
        torch.Generator().set_state(states["torch"])
        np.random.RandomState().set_state(tuple(states["numpy"]))
        version, internal, gauss = states["python"]
        random.Random().setstate((version, tuple(internal), gauss))
        cuda = states["cuda"]
    except Exception:
        raise _Foreign("its random generators have no state") from None
    _want(cuda is None or (_is_tensor(cuda) and cuda.dtype == torch.uint8), "its random generators have no state")


def _are_weights(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) and _is_tensor(each) for name, each in value.items())


def _are_averages(value: Any) -> bool:
    """Return whether a value is a list of averages, each with its width."""
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get("sigma_rel"), float) and _are_weights(each.get("weights"))
        for each in value
    )


def _is_tensor(value: Any) -> bool:
    """Return whether a value is a plain tensor with all its values in the file: expanded ones could have any size."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_nested:
        return False
    return value.device.type == "cpu" and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def is_count(value: Any) -> bool:
    """Return whether a value is a count of steps or the like."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_STEPS


def _want(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Foreign(otherwise)
