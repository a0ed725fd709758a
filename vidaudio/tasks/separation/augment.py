"""Image augmentation in training, as in Zhao et al.: enlarge slightly, crop anywhere, mirror half of the time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Their loader resizes to 246 pixels and crops to 224.
ENLARGED = 246 / 224

# First row and first column of the crop, and whether it is mirrored.
Variation = tuple[int, int, bool]


def augment_pictures(pictures: Tensor, *, seed: int, positions: Sequence[int], batch_size: int) -> Tensor:
    """Crop and mirror the images of each window, all images of one window alike.

    The random choices for a mixture are a pure function of seed, batch size and the mixture's position in the run. They
    are therefore the same after a restart, on any number of ranks and with any number of parts per batch.

    Args:
        pictures: Images, uint8 `[B, N, F, 3, H, W]`.
        seed: Seed of the run.
        positions: Positions of the B mixtures among all mixtures of the run.
        batch_size: Mixtures per optimiser step, over all ranks and parts.

    Returns:
        uint8, same shape.
    """
    sources, (height, width) = pictures.shape[1], pictures.shape[-2:]
    large = (round(height * ENLARGED), round(width * ENLARGED))
    room = (large[0] - height + 1, large[1] - width + 1)
    drawn: dict[int, list[Variation]] = {}
    varied = []
    for mixture, position in zip(pictures, positions, strict=True):
        step, place = divmod(position, batch_size)
        if step not in drawn:
            drawn[step] = _variations(batch_size * sources, room, seed, step)
        variations = drawn[step][place * sources : (place + 1) * sources]
        varied += [_varied(window, large, chosen) for window, chosen in zip(mixture, variations, strict=True)]
    return torch.stack(varied).view_as(pictures)


def _variations(count: int, room: tuple[int, int], seed: int, step: int) -> list[Variation]:
    """Draw the crops of all windows of a step, in order."""
    rng = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=rng))

    return [(below(room[0]), below(room[1]), bool(below(2))) for _ in range(count)]


def _varied(window: Tensor, large: tuple[int, int], variation: Variation) -> Tensor:
    """Crop one window's images, uint8 `[F, 3, H, W]`, and mirror them if the variation says so."""
    top, left, mirrored = variation
    height, width = window.shape[-2:]
    enlarged = F.interpolate(window.float(), size=large, mode="bilinear", align_corners=False)
    cut = enlarged[..., top : top + height, left : left + width]
    return (cut.flip(-1) if mirrored else cut).round().clamp(0, 255).byte()
