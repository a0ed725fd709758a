"""What all methods against the modality gap have in common: the data they are fitted to, and what they do to a vector.

Vectors are raw, as the encoder gives them: models of this package are trained on raw vectors of pictures.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from vidaudio.errors import GapError

Needs = Literal["images", "texts", "pairs"]


@dataclass(frozen=True)
class GapData:
    """Vectors of one encoder that a method is fitted to, and measured with.

    Attributes:
        images: Vectors of pictures, float32 `[N, D]`.
        texts: Vectors of texts, float32 `[M, D]`; they need not belong to the pictures.
        image_rows, text_rows: Pairs, int64 `[P]` each: picture `image_rows[i]` is described by text `text_rows[i]`.
            Empty without pairs.
        encoder: Hash of the encoder's weights.
    """

    images: Tensor
    texts: Tensor
    image_rows: Tensor
    text_rows: Tensor
    encoder: str

    @classmethod
    def unpaired(cls, images: Tensor, texts: Tensor, encoder: str) -> GapData:
        """Return data without pairs."""
        return cls(images, texts, torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), encoder)

    def means(self) -> dict[str, Tensor]:
        """Return the mean of each modality, `[D]` each, by the names of methods' tensors."""
        return {"image_mean": self.images.mean(dim=0), "text_mean": self.texts.mean(dim=0)}

    def __post_init__(self) -> None:
        for name, vectors in (("images", self.images), ("texts", self.texts)):
            if vectors.ndim != 2 or not torch.isfinite(vectors).all():
                raise GapError(f"vectors of {name} must be finite and of the form [N, D], not {tuple(vectors.shape)}")
        if self.images.shape[1] != self.texts.shape[1]:
            raise GapError(
                f"pictures have {self.images.shape[1]} dimensions and texts {self.texts.shape[1]}: "
                "they are not of one encoder"
            )


class GapMethod(ABC):
    """A method against the modality gap, fitted to one encoder.

    A model trained on `map_images(images)`, changed by `perturb` at every step, is asked by `map_texts(texts)`.

    Attributes:
        name: Name of the method, in recipes and on the command line.
        needs: What `fit` needs of its data.
        trains: Whether it takes part in training; otherwise it only changes the query in words, and any model that was
            trained with pictures can be asked through it.
        dimensions: Dimensions of the vectors.
        encoder: Hash of the weights of the encoder that it was fitted to.
        options: Options it was fitted with.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Needs]] = frozenset()
    trains: ClassVar[bool] = False

    def __init__(self, tensors: Mapping[str, Tensor], encoder: str, dimensions: int, options: Mapping[str, Any]):
        self.tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        self.encoder = encoder
        self.dimensions = dimensions
        self.options = dict(options)

    @classmethod
    @abstractmethod
    def fit(cls, data: GapData, *, seed: int = 0, **options: Any) -> Self:
        """Fit the method to vectors of one encoder.

        Raises:
            GapError: When the data lack something that the method needs.
        """

    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the queries that stand for vectors of texts, float32 `[B, D]`."""
        return texts

    def map_words(self, sentences: Sequence[str], text: Tensor) -> Tensor:
        """Return the query that stands for a text, float32 `[D]`; a fitted method needs its vector alone.

        Args:
            sentences: The text in the recipe's templates.
            text: Mean vector of the sentences, `[D]`.
        """
        return self.map_texts(text[None])[0]

    def map_images(self, images: Tensor) -> Tensor:
        """Return the queries that stand for vectors of pictures, float32 `[B, D]`."""
        return images

    def perturb(self, queries: Tensor, generator: torch.Generator, texts: Tensor | None = None) -> Tensor:
        """Return a training step's queries `[..., D]`, changed at random.

        Args:
            queries: Mapped vectors of pictures.
            generator: Source of randomness.
            texts: Vectors of texts of the same clips, for methods that mix both.
        """
        return queries

    @property
    def hash(self) -> str:
        """SHA-256 of the method, its options, its encoder and its tensors, in hexadecimal digits."""
        digest = hashlib.sha256(f"{self.name} {sorted(self.options.items())} {self.encoder}".encode())
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def require(data: GapData, method: type[GapMethod]) -> None:
    """Check that the data hold what a method needs.

    Raises:
        GapError: When they do not.
    """
    have = {"images": len(data.images), "texts": len(data.texts), "pairs": len(data.image_rows)}
    for need in sorted(method.needs):
        if have[need] < 2:
            raise GapError(
                f"{method.name} is fitted to {need if need != 'images' else 'pictures'}, and there are "
                f"{have[need] or 'none'}{'; give clips labels or captions' if need != 'images' else ''}"
            )
