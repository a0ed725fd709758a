"""The picture encoder of Sound-of-Pixels as CLIPSep re-implemented it: a frozen ResNet-18, and no words.

ResNet-18 whose last stage is dilated, the maximum over all places of a picture: 512 numbers. Pictures are normalised as
CLIP's are, not as ImageNet's (CLIPSep's loader gives all systems the same pictures).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from vidaudio.encoders.clip import DTYPES, PACKAGE_FOLDER, EncoderSpec
from vidaudio.encoders.image import PictureEncoder, PictureView, weights_hash
from vidaudio.errors import EncoderError
from vidaudio.separation.resnet import WIDTH, DilatedResNet18

DEFAULT_IMAGE_SIZE = 224
_NAME = re.compile(r"resnet18-dilated(?:-(\d+))?")


class ResNetEncoder(PictureEncoder):
    """A frozen dilated ResNet-18 with global max pooling. It knows pictures only."""

    def __init__(self, spec: EncoderSpec, model: DilatedResNet18, image_size: int) -> None:
        geometry: list[Callable[[Image.Image], Image.Image]] = [
            Resize(image_size, InterpolationMode.BICUBIC),
            CenterCrop(image_size),
        ]
        view = PictureView(
            image_size, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic", "shortest", geometry
        )
        # BatchNorm counts its batches in a buffer that shapes no vector; torchvision's older files lack it.
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.num_batches_tracked.zero_()
        super().__init__(spec, model, DTYPES[spec.precision], view, weights_hash(model))
        self.dimensions = model.channels

    def _pooled(self, pixels: Tensor) -> Tensor:
        return self._visual(pixels).amax(dim=(-2, -1))

    @torch.inference_mode()
    def embed_pixels(self, pictures: Tensor) -> Tensor:
        """Embed pictures that are on the device already: uint8 `[..., 3, H, W]` -> float32 `[..., dimensions]`.

        As CLIPSep computes them in every step, in batches of whatever size comes; `embed_squares` is the exact way. In
        the encoder's own dtype whatever the autocast, as whoever asks by pictures later will compute them.
        """
        pixels = pictures.flatten(0, -4).to(self.device).float() / 255
        pixels = (pixels - self._mean.to(self.device)) / self._std.to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            return self._pooled(pixels.to(self._dtype)).float().view(*pictures.shape[:-3], self.dimensions)


def load_resnet_encoder(spec: EncoderSpec) -> ResNetEncoder:
    """Load the encoder `resnet18-dilated`, or `resnet18-dilated-112` for pictures of 112 px; as wide as its weights.

    Raises:
        EncoderError: Another name, or weights that cannot be had.
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


def _width(tensors: dict[str, Any]) -> int:
    """Of the ResNet that these weights are of, by their last stage; ResNet-18's where that cannot be told."""
    last = tensors.get("layer4.1.bn2.weight")
    return WIDTH if last is None or last.ndim != 1 or len(last) < 8 else len(last) // 8


def load_resnet_weights(model: DilatedResNet18, weights: str) -> None:
    """Fill a ResNet from torchvision's weights.

    Args:
        model: To fill.
        weights: A `.safetensors` or `.pth` file with torchvision's names (its classifier is left out), or one of
            torchvision's own names, `IMAGENET1K_V1`, which is fetched. `{package}` is the folder of this package.

    Raises:
        EncoderError: No such file or name, or weights of something else.
    """
    _fill(model, _read(weights), weights)


def _fill(model: DilatedResNet18, tensors: dict[str, Any], weights: str) -> None:
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    wanted = model.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    wrong = sorted((set(wanted) - counters) ^ (set(tensors) - counters))
    wrong += [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    if wrong:
        raise EncoderError(f"{weights} holds no weights of a ResNet-18 ({wrong[0]} does not fit)")
    model.load_state_dict(tensors, strict=False)


def _read(weights: str) -> dict[str, Any]:
    if weights in ResNet18_Weights.__members__:
        try:
            return dict(ResNet18_Weights[weights].get_state_dict(progress=False, weights_only=True))
        except Exception as error:
            # Downloads fail in dozens of types; whichever it was, the user can do the same.
            raise EncoderError(
                f"torchvision's weights {weights} cannot be fetched ({type(error).__name__}: {error}); copy the file "
                "here and name it: embed.encoder.pretrained=FILE for a corpus, query.pictures.weights=FILE in training"
            ) from error
    path = Path(weights.replace("{package}", str(PACKAGE_FOLDER)))
    if not path.is_file():
        names = ", ".join(ResNet18_Weights.__members__)
        raise EncoderError(f"{weights!r} is neither a weights file nor one of torchvision's names ({names})")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Zip files, pickles and headers break in a dozen types; whichever it was, this is no file of weights.
        raise EncoderError(f"{path} cannot be read as weights ({type(error).__name__})") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise EncoderError(f"{path} holds no table of weights")
    return tensors
