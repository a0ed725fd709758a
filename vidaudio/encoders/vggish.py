"""VGGish (Hershey et al., ICASSP 2017): 128 numbers for each 0.96 s of sound, those of the Fréchet audio distance.

The network of torchvggish, under the names of its published weights, without its last ReLU and without the PCA that
belongs to released AudioSet vectors: so the `frechet-audio-distance` package measures by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vidaudio.encoders.sound_network import Heard, SoundNetwork, kaldi_filters

SAMPLE_RATE = 16_000
# 25 ms every 10 ms; spectra have the next power of two.
FRAME, HOP, N_FFT = 400, 160, 512
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0
LOG_OFFSET = 0.01
# Frames of an example, which do not overlap.
EXAMPLE = 96
# Places of the convolutions in `features`, and the first one of each block, which ends with a maximum over 2 x 2.
CONVOLUTIONS = (0, 3, 6, 8, 11, 13)
BLOCKS = ((0,), (3,), (6, 8), (11, 13))
LINEAR = (0, 2, 4)


class VggishMel(nn.Module):
    """VGGish's log mel: magnitudes in 64 bands from 125 to 7,500 Hz, natural logarithm of the band plus 0.01.

    Bands are triangles in HTK's mel scale, 1127 ln(1 + f / 700), not in Hz; frames are not centred on a sample.
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = kaldi_filters(N_FFT, BANDS, LOWEST, HIGHEST, SAMPLE_RATE)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(FRAME), persistent=False)

    def forward(self, sounds: Tensor) -> Tensor:
        """Return the examples of sounds: `[N, samples]` to `[N, W, 96 frames, 64 bands]`; what is left over is dropped.

        Sounds have `FRAME + (EXAMPLE - 1) * HOP` samples at least.
        """
        frames = sounds.unfold(-1, FRAME, HOP) * self.window
        magnitudes = torch.fft.rfft(frames, N_FFT).abs()
        bands = (magnitudes @ self.filters + LOG_OFFSET).log()
        examples = bands.shape[1] // EXAMPLE
        return bands[:, : examples * EXAMPLE].unflatten(1, (examples, EXAMPLE))


class Vggish(SoundNetwork):
    """VGGish, with the names of torchvggish.

    Args:
        channels: Output channels of the six convolutions.
        widths: Output numbers of the three linear layers.
    """

    title = "VGGish"
    sample_rate = SAMPLE_RATE
    least_samples = FRAME + (EXAMPLE - 1) * HOP

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.front_end = VggishMel()
        self.features = nn.Sequential()
        of, before = dict(zip(CONVOLUTIONS, channels, strict=True)), 1
        for block in BLOCKS:
            for place in block:
                self.features.extend([nn.Conv2d(before, of[place], 3, padding=1), nn.ReLU(inplace=True)])
                before = of[place]
            self.features.append(nn.MaxPool2d(2))
        flat = before * (EXAMPLE // 2 ** len(BLOCKS)) * (BANDS // 2 ** len(BLOCKS))
        first, second, last = widths
        self.embeddings = nn.Sequential(
            nn.Linear(flat, first), nn.ReLU(inplace=True), nn.Linear(first, second), nn.ReLU(inplace=True),
            nn.Linear(second, last),
        )  # fmt: skip

    @staticmethod
    def is_of(tensors: Mapping[str, Tensor]) -> bool:
        """Return whether weights are VGGish's, by their names."""
        return {"features.0.weight", "embeddings.0.weight"} <= tensors.keys()

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> tuple[Vggish, dict[str, Tensor]]:
        """Return the network of the weights' sizes, and the weights that fill it.

        Raises:
            KeyError: When weights are missing.
        """
        network = cls(
            [len(tensors[f"features.{place}.weight"]) for place in CONVOLUTIONS],
            [len(tensors[f"embeddings.{place}.weight"]) for place in LINEAR],
        )
        # The PCA, where it is saved with the network.
        return network, {name: tensor for name, tensor in tensors.items() if not name.startswith("pproc.")}

    def heard(self, sounds: Tensor) -> Heard:
        """Return a vector of every example."""
        examples = self.front_end(sounds)
        maps = self.features(examples.flatten(0, 1)[:, None])
        # The published weights are of maps whose channels come last.
        vectors = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
        return Heard(vectors.unflatten(0, examples.shape[:2]))
