import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidaudio.errors import RecipeError
from vidaudio.separation import AudioUNet, UNetConfig


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_default_has_the_published_number_of_parameters():
    assert parameters(AudioUNet()) == 30_274_210


@pytest.mark.parametrize("levels", [2, 5, 7])
def test_the_picture_keeps_its_size_and_gets_k_channels(levels):
    unet = AudioUNet(UNetConfig(levels=levels, width=4), out_channels=11).eval()
    assert unet(torch.randn(2, 1, 128, 256)).shape == (2, 11, 128, 256)


def test_the_network_equals_a_second_writing_of_it():
    """Level inside level, as pix2pix states it, each returning its activated input beside its output."""
    unet = AudioUNet(UNetConfig(levels=3, width=4), out_channels=5).eval()
    for part in unet.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, 0, 0.3)

    def up(level: int, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x.clamp_min(0), scale_factor=2, mode="bilinear", align_corners=True)
        conv = unet.up[level].conv
        return unet.up[level].norm(F.conv2d(x, conv.weight, conv.bias, padding=1))

    def inner(level: int, x: torch.Tensor) -> torch.Tensor:
        active = torch.where(x > 0, x, 0.2 * x)
        deeper = unet.down[level].norm(F.conv2d(active, unet.down[level].conv.weight, stride=2, padding=1))
        if level < 2:
            deeper = inner(level + 1, deeper)
        return torch.cat([active, up(level, deeper)], dim=1)

    picture = torch.randn(2, 1, 16, 24)
    first = F.conv2d(unet.input_norm(picture), unet.down[0].conv.weight, stride=2, padding=1)
    torch.testing.assert_close(unet(picture), up(0, inner(1, first)))


def test_norms_and_biases_are_where_the_paper_has_them():
    unet = AudioUNet()
    assert [isinstance(block.norm, nn.BatchNorm2d) for block in unet.down] == [False, *[True] * 5, False]
    assert [isinstance(block.norm, nn.BatchNorm2d) for block in unet.up] == [False, *[True] * 6]
    assert all(block.conv.bias is None for block in unet.down)
    assert [block.conv.bias is not None for block in unet.up] == [True, *[False] * 6]
    assert [block.conv.in_channels for block in unet.up] == [128, 256, 512, 1024, 1024, 1024, 512]
    assert [block.conv.out_channels for block in unet.up] == [32, 64, 128, 256, 512, 512, 512]


def test_initial_weights_are_drawn_as_published():
    unet = AudioUNet()
    assert unet.down[3].conv.weight.std().item() == pytest.approx(0.001, rel=0.01)
    assert unet.up[2].conv.weight.std().item() == pytest.approx(0.001, rel=0.01)
    norms = torch.cat([block.norm.weight for block in unet.up[1:]])
    assert norms.mean().item() == pytest.approx(1, abs=0.003)
    assert norms.std().item() == pytest.approx(0.02, rel=0.1)
    assert all((block.norm.bias == 0).all() for block in unet.up[1:])


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        AudioUNet(UNetConfig(levels=5, width=2))(torch.zeros(1, 1, 64, 48))


@pytest.mark.parametrize("sizes", [{"levels": 1}, {"width": 0}, {"max_multiplier": 0}])
def test_impossible_sizes_are_refused_by_name(sizes):
    with pytest.raises(RecipeError, match=next(iter(sizes))):
        UNetConfig(**sizes)
