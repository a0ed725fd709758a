"""A ResNet-18 for places in pictures: dilated, so that its last map keeps 1/16 of each side instead of 1/32.

As Sound-of-Pixels (Zhao et al. 2018) uses it: the last of the four stages does not halve the map again; its later
convolutions look twice as far instead.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet18


class DilatedResNet18(nn.Module):
    """torchvision's ResNet-18 without its classifier, output stride 16; its weights keep torchvision's names."""

    channels = 512

    def __init__(self) -> None:
        super().__init__()
        whole = resnet18(weights=None)
        for name, part in whole.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, part)
        for part in self.layer4.modules():
            if isinstance(part, nn.Conv2d):
                _dilate(part)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] -> maps [B, 512, H / 16, W / 16]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(pixels))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _dilate(convolution: nn.Conv2d) -> None:
    if convolution.stride == (2, 2):
        convolution.stride = (1, 1)
    elif convolution.kernel_size == (3, 3):
        convolution.dilation = convolution.padding = (2, 2)
