"""Base class of frozen image encoders: preprocessing of images, and embedding in batches of a fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image

from vidaudio.encoders.base import Encoder, without_autocast

if TYPE_CHECKING:
    from vidaudio.encoders.spec import EncoderSpec


@dataclass(frozen=True, slots=True)
class PictureView:
    """Image preprocessing of an encoder.

    Attributes:
        image_size: Side of the model's input, pixels.
        mean: Mean of the normalisation, by channel, for values in [0, 1].
        std: Standard deviation of the normalisation, by channel, for values in [0, 1].
        interpolation: Interpolation of the resizing, as open_clip names it.
        resize_mode: Mode of the resizing, as open_clip names it.
        geometry: Steps from any RGB image to the square one.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    geometry: Sequence[Callable[[Image.Image], Image.Image]]


class PictureEncoder(Encoder):
    """A frozen image tower.

    Args:
        spec: Choice of the encoder, with the precision resolved.
        tower: Module that converts normalised images to vectors.
        dtype: Dtype of the tower.
        view: Image preprocessing.
        weights_sha256: Hash of the weights.

    Attributes:
        image_size: Side of the model's input, pixels.
    """

    def __init__(
        self, spec: EncoderSpec, tower: torch.nn.Module, dtype: torch.dtype, view: PictureView, weights_sha256: str
    ) -> None:
        super().__init__(spec, weights_sha256)
        self.image_size = view.image_size
        self._view = view
        self._dtype = dtype
        self._visual = tower.eval().requires_grad_(False).to(self.device, dtype)
        self._mean = torch.tensor(view.mean).view(3, 1, 1)
        self._std = torch.tensor(view.std).view(3, 1, 1)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that affects an embedding, with the preprocessing of images."""
        return super().fingerprint | {
            "image_size": self.image_size,
            "mean": [round(v, 8) for v in self._mean.flatten().tolist()],
            "std": [round(v, 8) for v in self._std.flatten().tolist()],
            "interpolation": self._view.interpolation,
            "resize_mode": self._view.resize_mode,
        }

    def to(self, device: torch.device | str) -> Self:
        """Move the encoder to a device, and return it."""
        self.device = torch.device(device)
        self._visual.to(self.device)
        return self

    def square(self, image: Image.Image) -> np.ndarray:
        """Return the image resized and cropped to the model's input; uint8 `[image_size, image_size, 3]`."""
        image = image.convert("RGB")
        for step in self._view.geometry:
            image = step(image)
        return np.asarray(image)

    @without_autocast
    @torch.inference_mode()
    def embed_squares(self, squares: Sequence[np.ndarray]) -> np.ndarray:
        """Embed images made by `square`, in order; float32 `[images, dimensions]`.

        Batches have one fixed size, and the last one is filled with black images, so that a vector does not depend on
        the number of images that are embedded with it.
        """
        batch_size = self.spec.batch_size
        rows = []
        for first in range(0, len(squares), batch_size):
            group = squares[first : first + batch_size]
            batch = torch.zeros(batch_size, self.image_size, self.image_size, 3, dtype=torch.uint8)
            batch[: len(group)] = torch.from_numpy(np.stack(group))
            pixels = batch.to(self.device).permute(0, 3, 1, 2).float().div_(255)
            pixels = (pixels - self._mean.to(self.device)) / self._std.to(self.device)
            rows.append(self._pooled(pixels.to(self._dtype))[: len(group)].float().cpu())
        return torch.cat(rows).numpy() if rows else np.zeros((0, self.dimensions), np.float32)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Embed images of any size; float32 `[images, dimensions]`."""
        return self.embed_squares([self.square(image) for image in images])

    def _pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return vectors of normalised images: `[B, 3, image_size, image_size]` -> `[B, dimensions]`."""
        return self._visual(pixels)
