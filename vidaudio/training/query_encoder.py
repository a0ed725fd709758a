"""The encoder whose vectors a model was trained on, found again, and words through it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidaudio.encoders.clip import ClipEncoder, EncoderSpec, load_encoder
from vidaudio.encoders.pictures import PictureEncoder
from vidaudio.encoders.templates import CLIPSEP_TEMPLATES
from vidaudio.errors import EncoderError, QueryError

IDENTITY_KEYS = ("weights_sha256", "image_size", "mean", "std", "interpolation")


def text_queries(
    encoder: ClipEncoder, labels: Sequence[str], templates: tuple[str, ...] = CLIPSEP_TEMPLATES
) -> dict[str, np.ndarray]:
    """Label to float32 `[D]`: mean of its raw embeddings in the templates."""
    return {label: encoder.embed_label(label, templates) for label in sorted(set(labels))}


def load_query_encoder(fingerprint: dict[str, Any], weights: str | None = None) -> PictureEncoder:
    """The encoder whose vectors a model was trained on.

    Args:
        fingerprint: As recorded with corpus and checkpoint.
        weights: A local weights file or folder, where the recorded place does not exist on this machine.

    Raises:
        EncoderError: It cannot be had, or what was loaded is another encoder.
    """
    architecture, pretrained = fingerprint["architecture"], fingerprint["pretrained"]
    if weights is not None:
        folder = Path(weights).is_dir()
        architecture, pretrained = (weights, None) if folder else (architecture, weights)
    encoder = load_encoder(EncoderSpec(architecture, pretrained, "float32", fingerprint["batch_size"]))
    found = encoder.fingerprint
    wrong = [key for key in IDENTITY_KEYS if found[key] != fingerprint[key]]
    if wrong:
        raise EncoderError(
            f"the model was trained on vectors of another encoder than {architecture}/{pretrained} "
            f"({', '.join(wrong)} differ); vectors of two encoders do not mix. Name the right one: --encoder-weights"
        )
    return encoder


def query_from_text(encoder: ClipEncoder, text: str, templates: tuple[str, ...]) -> Tensor:
    """A text query as evaluation makes it: the mean over the templates; float32 `[D]`."""
    refuse_empty(text)
    return torch.from_numpy(encoder.embed_label(text, templates))


def refuse_empty(text: str) -> None:
    """Raise QueryError where there are no words."""
    if not text.strip():
        raise QueryError("the query is empty; describe the sound in words, such as --query 'playing violin'")
