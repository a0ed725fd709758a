"""Query encoder of a trained model: finds the encoder that made the training vectors, and encodes text with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor
from torchvision.models import ResNet18_Weights

from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.image import PictureEncoder
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.named_by import NamedByFile
from vidaudio.encoders.prompts import CLIPSEP_TEMPLATES
from vidaudio.encoders.spec import PACKAGE_FOLDER, RESNET, EncoderSpec, spelled
from vidaudio.errors import EncoderError, QueryError

_log = logging.getLogger(__name__)

# Corpora and checkpoints come from other people: the encoder they name is not the user's own choice.
NAMED_BY_RECORD = NamedByFile(
    "the corpus or checkpoint",
    "name it yourself: --encoder-weights NAME, a weights file, a folder, a tag or a hub's name",
)
IDENTITY_KEYS = ("weights_sha256", "image_size", "mean", "std", "interpolation")


def text_queries(
    encoder: ClipEncoder, labels: Sequence[str], templates: tuple[str, ...] = CLIPSEP_TEMPLATES
) -> dict[str, np.ndarray]:
    """Return label to float32 `[D]`: the mean of the label's raw embeddings in the templates."""
    return {label: encoder.embed_label(label, templates) for label in sorted(set(labels))}


def encoder_spec(fingerprint: dict[str, Any], weights: str | None = None) -> EncoderSpec:
    """Return the spec of the encoder whose vectors a model was trained on, without loading anything.

    Args:
        fingerprint: Fingerprint recorded with the corpus and checkpoint.
        weights: Weights file or folder that replaces the recorded place, or a hub's name or a tag; None for the
            recorded place.

    Raises:
        EncoderError: When the given weights do not exist, or are a file although the encoder is a folder, or the
            fingerprint is incomplete.
    """
    architecture, pretrained = _recorded(fingerprint)
    named_by = NAMED_BY_RECORD if weights is None else None
    if weights is not None:
        place = Path(_packaged(weights))
        if place.is_dir() or weights.startswith(("hf-hub:", "local-dir:")):
            architecture, pretrained = str(place) if place.is_dir() else weights, None
        elif place.is_file() or weights in _names_of_weights(architecture):
            by_name = architecture in open_clip.list_models() or architecture.endswith(".json")
            if not by_name and not architecture.startswith(RESNET):
                raise EncoderError(
                    f"the model's encoder, {architecture}, is a folder with configuration and weights; "
                    f"--encoder-weights wants such a folder, not the file {weights}"
                )
            pretrained = str(place)
        else:
            raise EncoderError(f"--encoder-weights: there is no file or folder {weights}")
    return EncoderSpec(architecture, pretrained, "float32", fingerprint["batch_size"], named_by)


def _recorded(fingerprint: dict[str, Any]) -> tuple[str, str | None]:
    """Return architecture and pretrained name of a fingerprint, which must describe its encoder completely."""
    lacking = [key for key in ("architecture", "pretrained", "batch_size", *IDENTITY_KEYS) if key not in fingerprint]
    if lacking:
        raise EncoderError(
            f"what is recorded of the encoder whose vectors were trained on lacks its {lacking[0]}; "
            "pack the corpus again, or take the checkpoint from where it was made"
        )
    return fingerprint["architecture"], fingerprint["pretrained"]


def _packaged(place: str) -> str:
    """Fill in `{package}`, the folder of this package, in a path."""
    return place.replace("{package}", str(PACKAGE_FOLDER))


def _names_of_weights(architecture: str) -> list[str]:
    """Return names of weights that are not files: open_clip's tags, or torchvision's names for a ResNet."""
    if architecture.startswith(RESNET):
        return [weights.name for weights in ResNet18_Weights]
    return open_clip.list_pretrained_tags_by_model(architecture)


def load_query_encoder(fingerprint: dict[str, Any], weights: str | None = None) -> PictureEncoder:
    """Load the encoder whose vectors a model was trained on.

    Args:
        fingerprint: Fingerprint recorded with the corpus and checkpoint.
        weights: Replacement of the recorded place, see `encoder_spec`.

    Raises:
        EncoderError: When the encoder cannot be loaded, or the loaded encoder is another one.
    """
    spec = encoder_spec(fingerprint, weights)
    trained = spelled(EncoderSpec(*_recorded(fingerprint)))
    try:
        encoder = load_encoder(spec)
    except EncoderError as error:
        if weights is None:
            raise
        raise EncoderError(f"{error}; the model was trained on vectors of {trained}") from error
    found = encoder.fingerprint
    wrong = [key for key in IDENTITY_KEYS if found[key] != fingerprint[key]]
    if wrong:
        raise EncoderError(
            f"the model was trained on vectors of {trained}, and {spelled(spec)} is another encoder "
            f"({', '.join(wrong)} differ); vectors of two encoders do not mix. Name the right one: --encoder-weights"
        )
    return encoder


def warn_unused_encoder(weights: str, system: str) -> None:
    """Warn that a system whose queries need no encoder does not use the given weights.

    Raises:
        EncoderError: When the weights do not exist.
    """
    if not Path(_packaged(weights)).exists():
        raise EncoderError(f"--encoder-weights: there is no file or folder {weights}")
    _log.warning(f"{system} needs no encoder to be asked: --encoder-weights {weights} is not used")


def query_from_text(encoder: ClipEncoder, text: str, templates: tuple[str, ...]) -> Tensor:
    """Return a text query as used in evaluation: the mean over the templates; float32 `[D]`."""
    refuse_empty(text)
    return torch.from_numpy(encoder.embed_label(text, templates))


def refuse_empty(text: str) -> None:
    """Raise QueryError if the text has no words."""
    if not text.strip():
        raise QueryError("the query is empty; describe the sound in words, such as --query 'playing violin'")
