"""PANNs (Kong et al., IEEE/ACM TASLP 2020): Cnn14, also with a Wavegram, trained to tag AudioSet.

The published files of `audioset_tagging_cnn`: Cnn14 at 32, 16 or 8 kHz, its variants with narrower vectors or other
mel bands, and Wavegram-Logmel-Cnn14. A file holds the window and the mel filters that its network was trained with, so
these are taken from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidaudio.encoders.sound_network import Heard, SoundNetwork

# Samples of a frame to the sample rate, Hz, and the samples between frames.
RATES = {1024: (32_000, 320), 512: (16_000, 160), 256: (8_000, 80)}
# Least power of a band.
FLOOR = 1e-10
BLOCKS = 6
# Frames that all blocks together halve to one.
LEAST_FRAMES = 2 ** (BLOCKS - 1)
WINDOW, SINES, FILTERS = (
    "spectrogram_extractor.stft.conv_real.weight",
    "spectrogram_extractor.stft.conv_imag.weight",
    "logmel_extractor.melW",
)
# Samples that the Wavegram's first convolution and each of its three blocks make one of: together the hop of 32 kHz.
WAVE_STRIDE, WAVE_POOL, WAVE_RATE = 5, 4, 32_000


class PannsMel(nn.Module):
    """Log mel of PANNs: powers in decibels; frames are centred, the sound is reflected at its ends.

    Args:
        window: Window of a frame, `[n_fft]`.
        filters: Mel filters, `[n_fft // 2 + 1, bands]`.
        hop: Samples between frames.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, window: Tensor, filters: Tensor, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, sounds: Tensor) -> Tensor:
        """Return the log mels: `[N, samples]` to `[N, 1, frames, bands]`."""
        spectra = torch.stft(
            sounds, len(self.window), self.hop, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        powers = (spectra.real.square() + spectra.imag.square()).transpose(1, 2)
        return 10 * (powers @ self.filters).clamp_min(FLOOR).log10()[:, None]


class ConvBlock(nn.Module):
    """Two convolutions over frames and bands, and the mean of each patch."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)

    def forward(self, maps: Tensor, patch: tuple[int, int]) -> Tensor:
        """Return the maps, made smaller by the sides of a patch."""
        maps = functional.relu(self.bn1(self.conv1(maps)))
        maps = functional.relu(self.bn2(self.conv2(maps)))
        return functional.avg_pool2d(maps, patch)


class WaveBlock(nn.Module):
    """Two convolutions over time, the second one dilated, and the maximum of every four steps."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv1d(after, after, 3, padding=2, dilation=2, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(after), nn.BatchNorm1d(after)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the steps, a quarter as many."""
        steps = functional.relu(self.bn1(self.conv1(steps)))
        return functional.max_pool1d(functional.relu(self.bn2(self.conv2(steps))), WAVE_POOL)


class Cnn14(SoundNetwork):
    """Cnn14: a vector of the whole sound, and the probabilities of AudioSet's classes.

    Args:
        tensors: The published weights, which decide all sizes.

    Raises:
        KeyError: When weights are missing.
        ValueError: When frames have a length that no published file has.
    """

    title = "PANNs' Cnn14"

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        # At frequency 0, the transform is the window itself.
        window = tensors[WINDOW][0, 0].clone()
        if len(window) not in RATES:
            raise ValueError(f"its frames have {len(window)} samples: {', '.join(map(str, RATES))} are known")
        self.sample_rate, hop = RATES[len(window)]
        self.least_samples = LEAST_FRAMES * hop
        filters = tensors[FILTERS]
        self.front_end = PannsMel(window, filters, hop)
        self.bn0 = nn.BatchNorm2d(filters.shape[1])
        for number in range(1, BLOCKS + 1):
            after, before = tensors[f"conv_block{number}.conv1.weight"].shape[:2]
            self.add_module(f"conv_block{number}", ConvBlock(before, after))
        wide, narrow = tensors["fc1.weight"].shape[::-1]
        self.classes = len(tensors["fc_audioset.weight"])
        self.fc1, self.fc_audioset = nn.Linear(wide, narrow), nn.Linear(narrow, self.classes)

    @staticmethod
    def is_of(tensors: Mapping[str, Tensor]) -> bool:
        """Return whether weights are of Cnn14 without a Wavegram, by their names."""
        return {"fc_audioset.weight", FILTERS} <= tensors.keys() and "pre_conv0.weight" not in tensors

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> tuple[Cnn14, dict[str, Tensor]]:
        """Return the network of the weights' sizes, and the weights that fill it.

        Raises:
            KeyError, ValueError: When weights are missing, or frames have another length.
        """
        return cls(tensors), {name: each for name, each in tensors.items() if name not in (WINDOW, SINES, FILTERS)}

    def heard(self, sounds: Tensor) -> Heard:
        """Return a vector of each sound, and its probabilities, which are scaled to sum to 1."""
        mel = self.bn0(self.front_end(sounds).transpose(1, 3)).transpose(1, 3)
        maps = self.first_block(mel, sounds)
        for number in range(2, BLOCKS + 1):
            maps = self.get_submodule(f"conv_block{number}")(maps, (1, 1) if number == BLOCKS else (2, 2))
        steps = maps.mean(3)
        vectors = functional.relu(self.fc1(steps.amax(2) + steps.mean(2)))
        probabilities = self.fc_audioset(vectors).sigmoid()
        return Heard(vectors[:, None], probabilities / probabilities.sum(1, keepdim=True))

    def first_block(self, mel: Tensor, sounds: Tensor) -> Tensor:
        """Return what the second block takes."""
        return self.get_submodule("conv_block1")(mel, (2, 2))


class WavegramCnn14(Cnn14):
    """Wavegram-Logmel-Cnn14: Cnn14 whose second block also takes a map that is learned from the samples.

    Args:
        tensors: The published weights, which decide all sizes.

    Raises:
        KeyError, ValueError: When weights are missing, or of another sample rate.
    """

    title = "PANNs' Wavegram-Logmel-Cnn14"

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        if self.sample_rate != WAVE_RATE:
            raise ValueError(f"its mel has {self.sample_rate} Hz: {WAVE_RATE} are known with a Wavegram")
        channels, _, kernel = tensors["pre_conv0.weight"].shape
        self.pre_conv0 = nn.Conv1d(1, channels, kernel, WAVE_STRIDE, kernel // 2, bias=False)
        self.pre_bn0 = nn.BatchNorm1d(channels)
        for number in (1, 2, 3):
            after, before = tensors[f"pre_block{number}.conv1.weight"].shape[:2]
            self.add_module(f"pre_block{number}", WaveBlock(before, after))
        wavegram, maps = tensors["pre_block4.conv1.weight"].shape[:2]
        self.pre_block4 = ConvBlock(maps, wavegram)
        self._maps = maps

    @staticmethod
    def is_of(tensors: Mapping[str, Tensor]) -> bool:
        """Return whether weights are of Cnn14 with Wavegram and mel, by their names."""
        return {"fc_audioset.weight", FILTERS, "pre_conv0.weight"} <= tensors.keys()

    def first_block(self, mel: Tensor, sounds: Tensor) -> Tensor:
        """Return the mel's maps and the Wavegram's; of two lengths that differ by a step, the shorter one counts."""
        steps = functional.relu(self.pre_bn0(self.pre_conv0(sounds[:, None])))
        for number in (1, 2, 3):
            steps = self.get_submodule(f"pre_block{number}")(steps)
        wavegram = self.pre_block4(steps.unflatten(1, (self._maps, -1)).transpose(2, 3), (2, 1))
        maps = super().first_block(mel, sounds)
        both = min(maps.shape[2], wavegram.shape[2])
        return torch.cat((maps[:, :, :both], wavegram[:, :, :both]), 1)
