"""Queries: from a window's embeddings, from words, or from a picture file, always by the encoder trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidaudio.encoders.clip import ClipEncoder, EncoderSpec, load_encoder
from vidaudio.errors import EncoderError, MediaError

IDENTITY_KEYS = ("weights_sha256", "image_size", "mean", "std", "interpolation")


def image_queries(vectors: Tensor) -> Tensor:
    """Mean of the raw picture embeddings of each window: `[B, N, F, D]` to float32 `[B, N, D]` (CLIPSep)."""
    return vectors.float().mean(dim=2)


def text_queries(encoder: ClipEncoder, labels: Sequence[str], templates: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Label to float32 `[D]`: mean of its raw embeddings in the templates."""
    return {label: encoder.embed_label(label, templates) for label in sorted(set(labels))}


def load_query_encoder(fingerprint: dict[str, Any], weights: str | None = None) -> ClipEncoder:
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
    if not text.strip():
        raise MediaError("the query is empty; describe the sound in words, such as --query 'playing violin'")
    return torch.from_numpy(encoder.embed_label(text, templates))


def query_from_images(encoder: ClipEncoder, paths: Sequence[str | Path]) -> Tensor:
    """An image query: the mean of the raw embeddings of one or more pictures; float32 `[D]`."""
    from PIL import Image, UnidentifiedImageError

    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        except FileNotFoundError:
            raise MediaError(f"there is no picture {path}") from None
        except (UnidentifiedImageError, OSError) as error:
            raise MediaError(f"{path} is not a picture that can be read ({error})") from error
    return torch.from_numpy(encoder.embed_images(images).mean(axis=0))
