"""Weights files: safetensors with a header that contains system, recipe, step and a family's facts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vidaudio.errors import CheckpointError
from vidaudio.files import atomic_write
from vidaudio.json_values import parse_object
from vidaudio.text import first_line, is_utf8, number_of, shown_name
from vidaudio.training.state_reading import LAST_FILE, are_sources, check_facts, is_count, misfit, state_paths
from vidaudio.training.state_weights import newest_state_file, weights_of_state

_log = logging.getLogger(__name__)

BEST_FILE = "best.safetensors"
FORMAT = 1
# Hashes of the sources trained on are stored beside the weights, so that an evaluation can find leaks.
SOURCES_TENSOR = "vidaudio.training_sources"
_METADATA_KEY = "vidaudio"


def save_checkpoint(
    path: Path, model: nn.Module, described: Mapping[str, Any], training_sources: np.ndarray | None = None
) -> None:
    """Write weights and their description; the file appears complete or not at all.

    Args:
        path: Path of the file.
        model: Model with the weights.
        described: Description of the model: system, recipe, step, a family's facts; plain JSON values.
        training_sources: Hashes of the sources trained on; None if unknown.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if training_sources is not None:
        tensors[SOURCES_TENSOR] = torch.from_numpy(training_sources)
    save_tensors(path, tensors, described)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> None:
    """Write a weights file as `save_checkpoint` does, of tensors that may include the training sources."""
    text = json.dumps({"format": FORMAT, **described}, sort_keys=True)
    with atomic_write(path) as temporary:
        save_file(dict(tensors), temporary, metadata={_METADATA_KEY: text})


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Return weights, description and file of a weights file or a run's folder.

    From a folder, the best weights are read, or those of its newest state if there are none.

    Raises:
        CheckpointError: When the file is missing, or was not written by vidaudio.
    """
    file = Path(path)
    if file.is_dir():
        if not (file / BEST_FILE).is_file():
            return _unvalidated(file)
        file = file / BEST_FILE
    tensors, described = _read(file, with_weights=True)
    if SOURCES_TENSOR in tensors and not are_sources(tensors[SOURCES_TENSOR]):
        raise CheckpointError(f"{file} has a damaged list of what it was trained on; take it back from a copy")
    return tensors, described, file


def read_system(path: str | Path) -> str:
    """Return the system of a weights file or a run's folder, without reading its weights where it has best ones.

    Raises:
        CheckpointError: When the file is missing, or was not written by vidaudio.
    """
    file = Path(path)
    if file.is_dir():
        if not (file / BEST_FILE).is_file():
            return weights_of_state(_newest_state(file))[1]["system"]
        file = file / BEST_FILE
    return _read(file, with_weights=False)[1]["system"]


def _read(file: Path, *, with_weights: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint at {file}")
    if not is_utf8(str(file)):
        raise CheckpointError(f"the name {shown_name(str(file))} is not UTF-8, which safetensors needs; rename it")
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(_METADATA_KEY)
            names = opened.keys() if with_weights else ()
            tensors = {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        if file.suffix == ".ckpt":
            raise CheckpointError(
                f"{file} is a state for `vidaudio train --resume`, not weights to use; name the run's folder or its "
                f"{BEST_FILE}"
            ) from None
        raise CheckpointError(f"{file} is not a safetensors file ({error})") from error
    if text is None:
        raise CheckpointError(f"{file} was not written by vidaudio: it does not say which system it is of")
    try:
        described = parse_object(text)
    except ValueError as error:
        raise CheckpointError(f"{file} has a damaged description ({error}); take it back from a copy") from error
    _check_description(described, file)
    return tensors, described


def holds_weights(folder: Path) -> bool:
    """Return whether a run's folder contains best weights or a state."""
    return (folder / BEST_FILE).is_file() or bool(state_paths(folder))


def require_system(described: Mapping[str, Any], systems: tuple[str, ...], family: str, file: Path) -> None:
    """Check that a described model belongs to a family.

    Args:
        described: Description of a weights file, see `read_checkpoint`.
        systems: Names of the family's systems.
        family: Purpose of the family in the message.
        file: Path of the file.

    Raises:
        CheckpointError: When the model's system is not one of the family's.
    """
    if described["system"] not in systems:
        raise CheckpointError(
            f"{file} is of system {described['system']!r}, and a model for {family} is wanted: this version knows "
            f"{', '.join(systems)}"
        )


def _newest_state(run: Path) -> Path:
    state = newest_state_file(run)
    if state is None:
        raise CheckpointError(
            f"{run} holds neither {BEST_FILE} nor a state; a training run writes {LAST_FILE} when it is stopped, and "
            f"{BEST_FILE} at its first validation"
        )
    return state


def _unvalidated(run: Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Return the weights of a run's newest state, if it has no best weights yet; this is reported on stderr."""
    state = _newest_state(run)
    tensors, described, sources = weights_of_state(state)
    if sources is not None:
        tensors[SOURCES_TENSOR] = sources
    step = number_of(described["step"], "step")
    _log.warning(f"{run} holds no {BEST_FILE}: its state {state.name} after {step} is used, never validated")
    return tensors, {"format": FORMAT, **described}, state


def _check_description(described: Mapping[str, Any], file: Path) -> None:
    """Check the parts that every description has.

    Raises:
        CheckpointError: When the description was not written by a training run.
    """
    if described.get("format") != FORMAT or not isinstance(described.get("system"), str):
        raise CheckpointError(
            f"{file} is of system {described.get('system')!r}, checkpoint format {described.get('format')!r}; this "
            f"version knows the systems of train/, format {FORMAT}"
        )
    wrong = None
    if not is_count(described.get("step")):
        wrong = "its step is no count"
    elif not isinstance(described.get("recipe"), dict):
        wrong = "it has no recipe"
    else:
        try:
            check_facts(described)
        except ValueError as error:
            wrong = str(error)
    if wrong is not None:
        raise CheckpointError(f"{file} has a damaged description: {wrong}; take it back from a copy")


def check_weights(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], file: Path) -> None:
    """Check that a description is of a model of just these weights, before memory is taken for the model.

    Args:
        build: Builds the model that the file describes.
        tensors: Weights in the file.
        file: Path of the file, for messages.

    Raises:
        CheckpointError: When the weights do not fit the description, or are not finite.
    """
    try:
        with torch.device("meta"):
            wanted = build().state_dict()
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{file} describes a model that cannot be built ({first_line(error)})") from error
    wrong = misfit(wanted, tensors)
    if wrong is not None:
        raise CheckpointError(f"the weights in {file} do not fit its description: {wrong}")
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f"the weights in {file} are damaged: {bad[0]} holds values that are no numbers")


def best_device() -> torch.device:
    """Return the device that models run on: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
