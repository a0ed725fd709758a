"""Base class of frozen encoders: what those of pictures, sound and text have in common.

Vectors of two encoders must never be compared. Everything that affects them (architecture, weights, preprocessing,
dtype, batch size) is therefore in the fingerprint, which is stored with the corpus and with every model trained on it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from vidaudio.encoders.spec import EncoderSpec
from vidaudio.stream.vector_columns import VectorInput, encoder_name

Method = TypeVar("Method", bound=Callable[..., Any])


class Encoder:
    """A frozen encoder. Embeddings are raw: not normalised, float32.

    Args:
        spec: Choice of the encoder, with the precision resolved.
        weights_sha256: Hash of the weights.

    Attributes:
        spec: Choice of the encoder, with the precision resolved.
        dimensions: Dimensions of the embeddings.
        weights_sha256: Hash of the weights' names, shapes and float32 values, independent of their file format.
    """

    dimensions: int

    def __init__(self, spec: EncoderSpec, weights_sha256: str) -> None:
        self.spec = spec
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.weights_sha256 = weights_sha256

    @property
    def input(self) -> VectorInput:
        """What goes in: pictures, sound or text."""
        return self.spec.input

    @property
    def name(self) -> str:
        """Folder name of this encoder's embeddings."""
        return encoder_name(self.spec.architecture, self.spec.precision, self.weights_sha256)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that affects an embedding, JSON-able; encoders may be mixed only if it is equal.

        A fingerprint that does not say what goes in is one of pictures.
        """
        values: dict[str, Any] = {
            "architecture": self.spec.architecture,
            "pretrained": self.spec.pretrained,
            "weights_sha256": self.weights_sha256,
            "dimensions": self.dimensions,
            "precision": self.spec.precision,
            "batch_size": self.spec.batch_size,
        }
        if self.input != "frames":
            values["input"] = self.input
        if self.spec.sample_rate is not None:
            values["sample_rate"] = self.spec.sample_rate
        return values


def without_autocast(embed: Method) -> Method:
    """Return a method of an encoder that computes in the encoder's own precision, also within a training's autocast.

    Vectors are kept and compared: they must not depend on who asks for them first.
    """

    @functools.wraps(embed)
    def embed_as_ever(encoder: Any, *args: Any, **options: Any) -> Any:
        with torch.autocast(encoder.device.type, enabled=False):
            return embed(encoder, *args, **options)

    return cast(Method, embed_as_ever)


def weights_hash(model: torch.nn.Module) -> str:
    """Return the SHA-256 over the names, shapes and float32 values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
