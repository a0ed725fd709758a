"""Weights on disk: one safetensors file that says what it is: system, sizes, recipe, whose vectors are its queries."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from vidaudio.config.recipes import check
from vidaudio.errors import CheckpointError
from vidaudio.files import atomic_write
from vidaudio.json_values import parse_object
from vidaudio.separation import (
    FrontEndConfig,
    FusionConfig,
    LossConfig,
    NoiseConfig,
    Separator,
    SeparatorConfig,
    UNetConfig,
    build_separator,
)
from vidaudio.stream.index_checks import check_fingerprint
from vidaudio.tasks.separation.recipe import TrainRecipe
from vidaudio.text import first_line, is_utf8, number_of, shown_name
from vidaudio.training.state_reading import LAST_FILE, MAX_STEPS, are_sources, misfit, state_paths
from vidaudio.training.state_weights import newest_state_file, weights_of_state

BEST_FILE = "best.safetensors"
FORMAT = 1
# Hashes of the sources trained on, beside the weights: whoever evaluates can tell whether a test was seen.
SOURCES_TENSOR = "vidaudio.training_sources"
_METADATA_KEY = "vidaudio"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what it needs to know.

    Attributes:
        model: In eval mode, float32, on the CPU. recipe: It was trained with. encoder: Fingerprint of the encoder whose
        vectors are its queries; None where none are. labels: The labels it knows, where its queries are labels. step:
        Optimiser steps. path: Of the file. training_sources: Hashes of the sources it was trained on, see
        `vidaudio.training.provenance`; None where the file
            does not say.
    """

    model: Separator
    recipe: TrainRecipe
    encoder: dict[str, Any] | None
    labels: tuple[str, ...]
    step: int
    path: Path
    training_sources: np.ndarray | None = None


def separator_config(recipe: TrainRecipe, query_dimensions: int, labels: int = 0) -> SeparatorConfig:
    """Parts and sizes of a recipe's system.

    Args:
        recipe: Of the system.
        query_dimensions: Of the vectors it is asked with, where it is asked with vectors.
        labels: How many labels it knows, where it is asked with labels.

    Raises:
        RecipeError: Sizes or parts that do not go together.
    """
    block, query = recipe.model, recipe.query
    kind = {"label": "label", "none": "none"}.get(query.kind, "vector")
    if query.kind == "pictures" and query.pictures.trained:
        kind = "pictures"
    return SeparatorConfig(
        query=kind,
        query_dimensions=query_dimensions,
        labels=labels if kind == "label" else 0,
        sources=recipe.data.sources,
        channels=block.channels,
        noise=None if block.noise is None else NoiseConfig(**block.noise.model_dump()),
        fusion=FusionConfig(**block.fusion.model_dump()),
        loss=LossConfig(**recipe.loss.model_dump()),
        front_end=FrontEndConfig(**block.front_end.model_dump()),
        unet=UNetConfig(**block.unet.model_dump()),
    )


def build_model(recipe: TrainRecipe, query_dimensions: int, labels: int = 0) -> Separator:
    """A recipe's system, freshly initialised; see `separator_config`."""
    return build_separator(separator_config(recipe, query_dimensions, labels))


def save_checkpoint(
    path: Path,
    model: Separator,
    recipe: TrainRecipe,
    encoder: dict[str, Any] | None,
    step: int,
    facts: dict[str, Any],
    labels: Sequence[str] = (),
    training_sources: np.ndarray | None = None,
) -> None:
    """Write weights and their description; the file appears complete or not at all."""
    described = {
        "format": FORMAT,
        "system": recipe.system,
        "query_dimensions": model.config.query_dimensions,
        "recipe": recipe.model_dump(mode="json"),
        "encoder": encoder,
        "labels": list(labels),
        "step": step,
        **facts,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if training_sources is not None:
        tensors[SOURCES_TENSOR] = torch.from_numpy(training_sources)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(described, sort_keys=True)})


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a model from a weights file, or from a run's folder: its best weights, or its newest state if it has none.

    Raises:
        CheckpointError: Missing, not ours, of another system, or with weights that do not fit its description.
    """
    tensors, described, file = read_checkpoint(path)
    recipe = check(TrainRecipe, described["recipe"], str(file))
    labels = tuple(described.get("labels", ()))
    sources = tensors.pop(SOURCES_TENSOR, None)
    _check_shapes(recipe, described, tensors, file)
    model = build_model(recipe, described["query_dimensions"], len(labels))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {file} do not fit its description: {first_line(error)}") from None
    known = None if sources is None else sources.numpy()
    return Checkpoint(model.eval(), recipe, described.get("encoder"), labels, described["step"], file, known)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Weights, description and file of a run's folder or a weights file, without a model.

    Raises:
        CheckpointError: Missing, not ours, or of another system.
    """
    file = Path(path)
    if file.is_dir():
        if not (file / BEST_FILE).is_file():
            return _unvalidated(file)
        file = file / BEST_FILE
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint at {file}")
    if not is_utf8(str(file)):
        raise CheckpointError(f"the name {shown_name(str(file))} is not UTF-8, which safetensors needs; rename it")
    try:
        with safe_open(file, framework="pt") as opened:
            described = (opened.metadata() or {}).get(_METADATA_KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        if file.suffix == ".ckpt":
            raise CheckpointError(
                f"{file} is a state for `vidaudio train --resume`, not weights to use; name the run's folder or its "
                f"{BEST_FILE}"
            ) from None
        raise CheckpointError(f"{file} is not a safetensors file ({error})") from error
    if described is None:
        raise CheckpointError(f"{file} was not written by vidaudio: it does not say which system it is of")
    try:
        described = parse_object(described)
    except ValueError as error:
        raise CheckpointError(f"{file} has a damaged description ({error}); take it back from a copy") from error
    _require_known(described, file)
    if SOURCES_TENSOR in tensors and not are_sources(tensors[SOURCES_TENSOR]):
        raise CheckpointError(f"{file} has a damaged list of what it was trained on; take it back from a copy")
    return tensors, described, file


def holds_weights(folder: Path) -> bool:
    """Whether a folder is a run's that can be loaded: it holds best weights, or a state."""
    return (folder / BEST_FILE).is_file() or bool(state_paths(folder))


def _unvalidated(run: Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Weights of a run's newest state, where it has no best weights yet; stderr says so."""
    state = newest_state_file(run)
    if state is None:
        raise CheckpointError(
            f"{run} holds neither {BEST_FILE} nor a state; a training run writes {LAST_FILE} when it is stopped, and "
            f"{BEST_FILE} at its first validation"
        )
    tensors, described, sources = weights_of_state(state)
    if sources is not None:
        tensors[SOURCES_TENSOR] = sources
    _require_known(described, state)
    step = number_of(described["step"], "step")
    tqdm.write(f"{run} holds no {BEST_FILE}: its state {state.name} after {step} is used, never validated", sys.stderr)
    return tensors, described, state


def _require_known(described: Mapping[str, Any], file: Path) -> None:
    system = described.get("system")
    if described.get("format") != FORMAT or system not in get_args(TrainRecipe.model_fields["system"].annotation):
        raise CheckpointError(
            f"{file} is of system {system!r}, checkpoint format {described.get('format')!r}; this version knows the "
            f"separation systems of train/, format {FORMAT}"
        )
    wrong = _wrong_with(described)
    if wrong is not None:
        raise CheckpointError(f"{file} has a damaged description: {wrong}; take it back from a copy")


def _wrong_with(described: Mapping[str, Any]) -> str | None:
    """What no training writes into a description; None where all is well."""
    counts = (described.get("step"), described.get("query_dimensions"))
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_STEPS for n in counts):
        return "its step and dimensions are no counts"
    labels = described.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "its labels are no list of names"
    if not isinstance(described.get("recipe"), dict):
        return "it has no recipe"
    if described.get("encoder") is not None:
        try:
            check_fingerprint(described["encoder"])
        except ValueError as error:
            return str(error)
        if not isinstance(described["encoder"].get("architecture"), str):
            return "its encoder has no name"
    return None


def _check_shapes(recipe: TrainRecipe, described: Mapping[str, Any], tensors: Mapping[str, Tensor], file: Path) -> None:
    """Check that a description is of a model of just these weights, before memory is taken for the model.

    Raises:
        CheckpointError: It is not.
    """
    try:
        with torch.device("meta"):
            wanted = build_model(recipe, described["query_dimensions"], len(described.get("labels", ()))).state_dict()
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{file} describes a model that cannot be built ({reason})") from error
    wrong = misfit(wanted, tensors)
    if wrong is not None:
        raise CheckpointError(f"the weights in {file} do not fit its description: {wrong}")
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f"the weights in {file} are damaged: {bad[0]} holds values that are no numbers")


def best_device() -> torch.device:
    """The device models run on: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
