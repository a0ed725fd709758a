"""States of a run, read: which is the newest whole one. What is used of a state later is checked here, once.

A state is another program's file until it is known to be ours: copied by halves, of another tool, or of another system.
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

LAST_FILE = "last.ckpt"
STATES_FOLDER = "states"
# In every state since the first: never to be changed.
KEPT = "Keeper"
MAX_STEPS = 1 << 40
_STATE_NAME = re.compile(r"step-(\d+)\.ckpt")
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class State:
    """One that a run can go on from.

    Attributes:
        path: Of the file.
        step: Optimiser steps done.
        kept: What `CheckpointCallback` keeps in it.
    """

    path: Path
    step: int
    kept: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.kept.get("labels", ()))


class DamagedState(CheckpointError):
    """A file that is no whole state.

    Attributes:
        step: Optimiser steps it was written after, where its name or contents say so.
    """

    def __init__(self, path: Path, why: str, step: int | None) -> None:
        super().__init__(f"{path} is not a state that training can go on from ({why})")
        self.step = step


class _Foreign(ValueError):
    """What no training writes into a state; says what."""


def state_paths(run: Path) -> list[Path]:
    """Return the files of a run's states: those in `states/` by name, then `last.ckpt`."""
    found = [*sorted((run / STATES_FOLDER).glob("*.ckpt")), run / LAST_FILE]
    return [path for path in found if path.is_file()]


def newest_whole(run: Path) -> tuple[State | None, list[DamagedState]]:
    """Return the whole state with the most steps, None where there is none, and what may be newer and is damaged.

    Raises:
        CheckpointError: A state cannot be read.
    """
    states, damaged = [], []
    for path in state_paths(run):
        try:
            state = read_state(path)
            states.append(State(path, state["global_step"], state.get("callbacks", {}).get(KEPT, {})))
        except DamagedState as error:
            damaged.append(error)
    states.sort(key=lambda state: state.step)
    while states and (why := damage_of(states[-1].path)):
        damaged.append(DamagedState(states[-1].path, why, states.pop().step))
    newest = states[-1] if states else None
    return newest, [one for one in damaged if newest is None or one.step is None or one.step > newest.step]


def read_state(path: Path) -> dict[str, Any]:
    """Return what a state holds, of the types that a training writes; its tensors are mapped, not read.

    Raises:
        DamagedState: It is incomplete, garbled, or none of ours.
        CheckpointError: It cannot be read.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:
        # Damage shows in as many kinds of errors as a file has parts.
        raise DamagedState(path, f"it is incomplete or garbled: {type(error).__name__}", step_of(path)) from None
    try:
        _check(state)
    except ValueError as error:
        raise DamagedState(path, f"it is none of a run of ours: {error}", step_of(path)) from None
    return state


def step_of(path: Path) -> int | None:
    """Return the step that a state's name says; None for `last.ckpt`."""
    named = _STATE_NAME.fullmatch(path.name)
    return int(named[1]) if named else None


def damage_of(path: Path) -> str | None:
    """Return what is wrong with a state's bytes, by the checksums that it carries; None where nothing is.

    Raises:
        CheckpointError: It cannot be read.
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
    """The first of some weights that is missing, unknown, or of another shape or type than a model's; None if none."""
    wrong = sorted(wanted.keys() ^ found.keys())
    wrong += [name for name in wanted if name in found and not alike(wanted[name], found[name])]
    return wrong[0] if wrong else None


def alike(wanted: Tensor, found: Tensor) -> bool:
    """Whether a tensor has a model's shape, and numbers that become its numbers without loss of their kind."""
    types = _FLOATS if wanted.dtype in _FLOATS else (wanted.dtype,)
    return wanted.shape == found.shape and found.dtype in types


def _check(state: Any) -> None:
    """Raises ValueError for a state that no training has written."""
    _want(isinstance(state, dict), "it is no dictionary")
    _want(_is_count(state.get("global_step")), "its step is no count")
    _want(_are_weights(state.get("state_dict")), "it has no weights")
    average = state.get("average")
    whole = isinstance(average, dict) and _are_weights(average.get("weights")) and _is_count(average.get("steps"))
    _want(average is None or whole, "its average of the weights is none")
    callbacks = state.get("callbacks", {})
    _want(isinstance(callbacks, dict), "its parts have no names")
    _want(isinstance(callbacks.get(KEPT, {}), dict), "it does not say what it is of")
    _check_kept(callbacks.get(KEPT, {}))
    _want(isinstance(state.get("pytorch-lightning_version"), str), "it does not say what wrote it")
    _want(isinstance(state.get("loops"), dict), "it does not say how far its loops were")
    loop = state["loops"].get("fit_loop")
    for name in ("epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"):
        progress = loop.get(name) if isinstance(loop, dict) else None
        counts = [progress.get(part) for part in ("total", "current")] if isinstance(progress, dict) else [None]
        _want(all(isinstance(each, dict) for each in counts), "it does not say how far its loops were")
    for name in ("optimizer_states", "lr_schedulers"):
        values = state.get(name)
        _want(isinstance(values, list) and all(isinstance(each, dict) for each in values), f"it has no {name}")


def _check_kept(kept: Mapping[str, Any]) -> None:
    recipe, encoder, labels = kept.get("recipe"), kept.get("encoder"), kept.get("labels", [])
    _want(recipe is None or isinstance(recipe, dict), "its recipe is none")
    _want(recipe is None or isinstance(recipe.get("system"), str), "its recipe names no system")
    if encoder is not None:
        check_fingerprint(encoder)
    _want(isinstance(labels, list) and all(isinstance(each, str) for each in labels), "its labels are no names")
    best = kept.get("best_loss", 0.0)
    _want(isinstance(best, int | float), "its best loss is no number")
    _want(_is_count(kept.get("validated_step", 0)), "its validated step is no count")
    _want(isinstance(kept.get("shares", []), list), "its shares are no list")
    _want(isinstance(kept.get("data") or "", str), "its data have no name")
    sources = kept.get("training_sources")
    _want(sources is None or are_sources(sources), "its list of what it was trained on is none")
    generators = kept.get("generators")
    _want(generators is None or isinstance(generators, list), "its random generators are no list")
    for each in generators or ():
        _check_generators(each)


def are_sources(value: Any) -> bool:
    """Whether a value is a list of hashes, see `vidaudio.training.provenance`."""
    return _is_tensor(value) and value.ndim == 1 and value.dtype == torch.int64


def _check_generators(states: Any) -> None:
    """Set generators that nobody uses: what they want of a state is theirs to know."""
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


def _is_tensor(value: Any) -> bool:
    """Whether a value is a plain tensor whose numbers are all in its file: repeated ones could be of any size."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_nested:
        return False
    return value.device.type == "cpu" and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_STEPS


def _want(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Foreign(otherwise)
