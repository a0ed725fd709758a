"""Query path of the original Sound-of-Pixels (Zhao et al. 2018): an image encoder that is trained with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidaudio.separation.resnet import DilatedResNet18

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PictureQuery(nn.Module):
    """Dilated ResNet-18, a 3x3 convolution to `channels`, the maximum over positions and images.

    As in the published code, `project` starts with PyTorch's own initial values, not with those of the audio side. The
    images of one source at a time pass through the ResNet: in training, BatchNorm normalises over them alone. `body` is
    meant to be loaded with pretrained weights.

    Args:
        channels: Dimensions of a query vector.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.project = nn.Conv2d(DilatedResNet18.channels, channels, kernel_size=3, padding=1)
        self.body = DilatedResNet18()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, queries: Tensor) -> Tensor:
        """Return query vectors of images: uint8 [B, N, F, 3, H, W] -> [B, N, channels]."""
        return torch.stack([self._of_source(pictures) for pictures in queries.unbind(dim=1)], dim=1)

    def _of_source(self, pictures: Tensor) -> Tensor:
        """Return query vectors of one source's images: uint8 [B, F, 3, H, W] -> [B, channels]."""
        pixels = (pictures.flatten(0, 1).float() / 255 - self.mean) / self.std
        response = self.project(self.body(pixels)).flatten(2).amax(dim=2)
        return response.view(*pictures.shape[:2], -1).amax(dim=1)
