"""Image encoder of Sound-of-Pixels as re-implemented in CLIPSep: a frozen ResNet-18, without text.

A ResNet-18 whose last stage is dilated, and the maximum over all positions of an image: 512 dimensions. Images are
normalised as for CLIP, not as for ImageNet (CLIPSep's loader gives all systems the same images).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from vidaudio.encoders.base import weights_hash, without_autocast
from vidaudio.encoders.image import PictureEncoder, PictureView
from vidaudio.encoders.spec import DTYPES, PACKAGE_FOLDER, EncoderSpec
from vidaudio.encoders.weights_files import fill, read_weights
from vidaudio.errors import EncoderError
from vidaudio.separation.resnet import WIDTH, DilatedResNet18

DEFAULT_IMAGE_SIZE = 224
_NAME = re.compile(r"resnet18-dilated(?:-(\d+))?")


class ResNetEncoder(PictureEncoder):
    """A frozen dilated ResNet-18 with global max pooling. It encodes only images.

    Args:
        spec: Choice of the encoder, with the precision resolved.
        model: The loaded network.
        image_size: Side of the input images, pixels.
    """

    def __init__(self, spec: EncoderSpec, model: DilatedResNet18, image_size: int) -> None:
        geometry: list[Callable[[Image.Image], Image.Image]] = [
            Resize(image_size, InterpolationMode.BICUBIC),
            CenterCrop(image_size),
        ]
        view = PictureView(
            image_size, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic", "shortest", geometry
        )
        # BatchNorm counts its batches in a buffer that affects no vector; torchvision's older files do not have it.
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d) and part.num_batches_tracked is not None:
                part.num_batches_tracked.zero_()
        super().__init__(spec, model, DTYPES[spec.precision], view, weights_hash(model))
        self.dimensions = model.channels

    def _pooled(self, pixels: Tensor) -> Tensor:
        return self._visual(pixels).amax(dim=(-2, -1))

    @without_autocast
    @torch.inference_mode()
    def embed_pixels(self, pictures: Tensor) -> Tensor:
        """Embed image tensors: uint8 `[..., 3, H, W]` -> float32 `[..., dimensions]`.

        All images are one batch of any size, as CLIPSep computes them in every step; `embed_squares` is the exact way.
        """
        pixels = pictures.flatten(0, -4).to(self.device).float() / 255
        pixels = (pixels - self._mean.to(self.device)) / self._std.to(self.device)
        return self._pooled(pixels.to(self._dtype)).float().view(*pictures.shape[:-3], self.dimensions)


def load_resnet_encoder(spec: EncoderSpec) -> ResNetEncoder:
    """Load `resnet18-dilated`, or `resnet18-dilated-112` for images of 112 px; the weights decide the width.

    Raises:
        EncoderError: When the name is another one, or the weights cannot be loaded.
    """
    spec = spec.resolved()
    match = _NAME.fullmatch(spec.architecture)
    if match is None:
        raise EncoderError(f"there is no encoder {spec.architecture!r}; did you mean resnet18-dilated?")
    if not spec.pretrained:
        raise EncoderError(f"{spec.architecture} needs weights: name a file of a torchvision ResNet-18 as `pretrained`")
    tensors = _read(spec.pretrained)
    model = DilatedResNet18(_width(tensors))
    _fill(model, tensors, spec.pretrained)
    return ResNetEncoder(spec, model, int(match[1] or DEFAULT_IMAGE_SIZE))


def _width(tensors: dict[str, Tensor]) -> int:
    """Return the ResNet's width, inferred from its last stage's weights; ResNet-18's if it cannot be inferred."""
    last = tensors.get("layer4.1.bn2.weight")
    return WIDTH if last is None or last.ndim != 1 or len(last) < 8 else len(last) // 8


def load_resnet_weights(model: DilatedResNet18, weights: str) -> None:
    """Fill a ResNet from torchvision's weights.

    Args:
        model: The network to fill.
        weights: A `.safetensors` or `.pth` file with torchvision's names (its classifier is left out), or one of
            torchvision's own names, `IMAGENET1K_V1`, which is downloaded. `{package}` is the folder of this package.

    Raises:
        EncoderError: When there is no such file or name, or the weights belong to another network.
    """
    _fill(model, _read(weights), weights)


def _fill(model: DilatedResNet18, tensors: dict[str, Tensor], weights: str) -> None:
    fill(model, {name: each for name, each in tensors.items() if not name.startswith("fc.")}, weights, "a ResNet-18")


def _read(weights: str) -> dict[str, Tensor]:
    if weights in ResNet18_Weights.__members__:
        try:
            return dict(ResNet18_Weights[weights].get_state_dict(progress=False, weights_only=True))
        except Exception as error:
            # Downloads raise dozens of error types; the user can do the same for each of them.
            raise EncoderError(
                f"torchvision's weights {weights} cannot be fetched ({type(error).__name__}: {error}); copy the file "
                "here and name it: embed.encoder.pretrained=FILE for a corpus, query.pictures.weights=FILE in training"
            ) from error
    path = Path(weights.replace("{package}", str(PACKAGE_FOLDER)))
    if not path.is_file():
        names = ", ".join(ResNet18_Weights.__members__)
        raise EncoderError(f"{weights!r} is neither a weights file nor one of torchvision's names ({names})")
    return read_weights(path)
