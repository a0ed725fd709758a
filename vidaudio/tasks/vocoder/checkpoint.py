"""Vocoders by path: one of a training run of ours, or one as BigVGAN publishes it. Only data is read, never code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from vidaudio.config.recipes import check
from vidaudio.errors import CheckpointError, RecipeError, UsageError
from vidaudio.generation import MelConfig, Vocoder, VocoderConfig
from vidaudio.generation.vocoder import are_folded, from_library_names
from vidaudio.hashing import sha256_of
from vidaudio.json_values import parse_object
from vidaudio.tasks.vocoder.recipe import VocoderRecipe
from vidaudio.training.checkpoint import SOURCES_TENSOR, check_weights, read_checkpoint, require_system
from vidaudio.training.state_reading import misfit

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "bigvgan_generator.pt"


@dataclass(frozen=True)
class VocoderCheckpoint:
    """Trained vocoder with its description.

    Attributes:
        model: Vocoder in eval mode, float32, on the CPU, with folded weights.
        path: Path of the weights file.
        sha256: SHA-256 of the file.
        step: Steps it was trained for; None for a published vocoder, whose file does not say.
        training_sources: Hashes of the sources it was trained on, see `vidaudio.training.provenance`; None if unknown.
    """

    model: Vocoder
    path: Path
    sha256: str
    step: int | None = None
    training_sources: np.ndarray | None = None

    @property
    def mel(self) -> MelConfig:
        """Return the mel that the vocoder reads."""
        return self.model.config.mel

    @property
    def name(self) -> str:
        """Return the vocoder in words."""
        trained = "published" if self.step is None else f"of {self.step} steps"
        return f"the vocoder {self.path}, {trained}"

    def require_mel(self, mel: MelConfig, of: str) -> None:
        """Refuse mels that are not the vocoder's.

        Args:
            mel: Mel that is to become sound.
            of: Owner of that mel in the message.

        Raises:
            UsageError: When the mels differ; the message names both.
        """
        if mel.words != self.mel.words:
            raise UsageError(
                f"the vocoder {self.path} reads another mel than {of} makes: {self.mel.words}, not {mel.words}. Give a "
                "vocoder of that mel, or none, and the sound comes from Griffin-Lim"
            )


def load_vocoder(path: str | Path) -> VocoderCheckpoint:
    """Load a vocoder: a run's folder or its weights file, or a published BigVGAN by its folder or weights file.

    A published vocoder is `bigvgan_generator.pt`, or another .pt file, beside its `config.json`.

    Raises:
        CheckpointError: When a file is missing, is not a vocoder's, or has weights that do not fit its description.
        UsageError: When bigvgan is not installed.
    """
    config, weights, file, described = _read(path)
    model = Vocoder(config)
    if are_folded(weights):
        model.fold()
    sources = weights.pop(SOURCES_TENSOR, None)
    model.load_state_dict(weights)
    return VocoderCheckpoint(
        model.eval().fold(),
        file,
        sha256_of(file),
        described.get("step"),
        None if sources is None else sources.numpy(),
    )


def transfer_weights(model: Vocoder, checkpoint: str | Path) -> dict[str, Any]:
    """Load another vocoder's weights into one of the same sizes.

    Args:
        model: Freshly built vocoder; changed in place.
        checkpoint: See `load_vocoder`.

    Returns:
        Where the weights come from; plain JSON values.

    Raises:
        CheckpointError: When there is no such checkpoint, its sizes or mel differ, or its weights are folded.
    """
    config, weights, file, described = _read(checkpoint)
    weights.pop(SOURCES_TENSOR, None)
    if config.mel.words != model.config.mel.words:
        raise CheckpointError(f"{file} does not fit: it is of another mel, {config.mel.words}")
    wrong = misfit(model.state_dict(), weights)
    if wrong is not None:
        raise CheckpointError(f"{file} does not fit: {wrong}; give model.generator the sizes that it was trained with")
    model.load_state_dict(weights)
    return {"path": str(file), "system": "bigvgan", "step": described.get("step")}


def _read(path: str | Path) -> tuple[VocoderConfig, dict[str, Tensor], Path, Mapping[str, Any]]:
    """Return sizes, checked weights under the names of a `Vocoder`'s, file and description of a vocoder."""
    described: dict[str, Any] = {}
    published = _published_file(Path(path))
    if published is not None:
        config, weights = _read_published(published)
        file = published
    else:
        weights, described, file = read_checkpoint(path)
        require_system(described, get_args(VocoderRecipe.model_fields["system"].annotation), "vocoding", file)
        config = check(VocoderRecipe, described["recipe"], str(file)).model.vocoder()
    own = {name: value for name, value in weights.items() if name != SOURCES_TENSOR}
    folded = are_folded(own)
    check_weights(lambda: Vocoder(config).fold() if folded else Vocoder(config), own, file)
    return config, weights, file, described


def _published_file(path: Path) -> Path | None:
    """Return the weights file of a published vocoder; None for a path that is none."""
    if path.is_dir():
        return path / WEIGHTS_FILE if (path / CONFIG_FILE).is_file() else None
    return path if path.suffix in (".pt", ".pth") else None


def _read_published(file: Path) -> tuple[VocoderConfig, dict[str, Tensor]]:
    described = file.parent / CONFIG_FILE
    for needed in (file, described):
        if not needed.is_file():
            raise CheckpointError(
                f"there is no {needed}: a published vocoder is a .pt file ({WEIGHTS_FILE}) beside its {CONFIG_FILE}"
            )
    try:
        config = _published_config(parse_object(described.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecipeError) as error:
        raise CheckpointError(f"{described} describes no BigVGAN that is known here ({error!s})") from error
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:
        # Damage causes many kinds of errors, one for each part of a file.
        raise CheckpointError(f"{file} is no file of weights, or is damaged ({type(error).__name__})") from error
    weights = state.get("generator") if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise CheckpointError(f"{file} holds no weights under 'generator', as a published BigVGAN does")
    return config, from_library_names(weights)


def _published_config(values: Mapping[str, Any]) -> VocoderConfig:
    """Return the sizes in a published configuration.

    Raises:
        KeyError, TypeError, ValueError, RecipeError: When a value is missing or does not fit.
    """
    if values.get("win_size", values["n_fft"]) != values["n_fft"]:
        raise ValueError(f"its windows of {values['win_size']} samples are shorter than n_fft, {values['n_fft']}")
    if values["activation"] not in ("snake", "snakebeta") or values["resblock"] not in ("1", "2"):
        raise ValueError(f"activation {values['activation']!r}, resblock {values['resblock']!r}")
    mel = MelConfig(
        sample_rate=int(values["sampling_rate"]),
        n_fft=int(values["n_fft"]),
        hop=int(values["hop_size"]),
        bands=int(values["num_mels"]),
        lowest=float(values["fmin"]),
        highest=None if values["fmax"] is None else float(values["fmax"]),
    )
    return VocoderConfig(
        mel,
        int(values["upsample_initial_channel"]),
        tuple(map(int, values["upsample_rates"])),
        tuple(map(int, values["upsample_kernel_sizes"])),
        tuple(map(int, values["resblock_kernel_sizes"])),
        tuple(tuple(map(int, each)) for each in values["resblock_dilation_sizes"]),
        values["resblock"],
        values["activation"],
        bool(values["snake_logscale"]),
        bool(values.get("use_tanh_at_final", True)),
        bool(values.get("use_bias_at_final", True)),
    )
