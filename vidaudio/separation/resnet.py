"""Dilated ResNet-18 for positions in images: its last map keeps 1/16 of each side instead of 1/32.

As in Sound-of-Pixels (Zhao et al. 2018), the last of the four stages does not halve the map again; its later
convolutions have a dilation of 2 instead.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

WIDTH = 64


class DilatedResNet18(nn.Module):
    """torchvision's ResNet-18 without its classifier, output stride 16; its weights keep torchvision's names.

    Args:
        width: Channels of the first stage; 64 is ResNet-18, less is a smaller network of the same shape.
    """

    channels = 8 * WIDTH

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.channels = 8 * width
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        for part in self.layer4.modules():
            if isinstance(part, nn.Conv2d):
                _dilate(part)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return feature maps of normalised images: [B, 3, H, W] -> [B, channels, H / 16, W / 16]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(pixels))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _stage(incoming: int, channels: int, stride: int) -> nn.Sequential:
    """Return two residual blocks; the first halves the map if `stride` is 2."""
    shortcut = None
    if stride != 1 or incoming != channels:
        projection = nn.Conv2d(incoming, channels, kernel_size=1, stride=stride, bias=False)
        shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))
    return nn.Sequential(BasicBlock(incoming, channels, stride, shortcut), BasicBlock(channels, channels))


def _dilate(convolution: nn.Conv2d) -> None:
    if convolution.stride == (2, 2):
        convolution.stride = (1, 1)
    elif convolution.kernel_size == (3, 3):
        convolution.dilation = convolution.padding = (2, 2)
