"""Training of one fold's model, on bands and vectors that lie in memory or in a file that is mapped into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidaudio.correspondence.model import SAMPLE_RATE, CorrespondenceModel, LogMel, ScorerConfig, contrastive_loss
from vidaudio.correspondence.scorer import FULL_SCALE
from vidaudio.correspondence.windows import WINDOW_SECONDS, picture_of_window, window_starts

# Bands are kept as bytes: 32 steps a unit, from -4 to 4.
STEPS_A_UNIT, LOWEST = 32, -4.0
LONGEST_SECONDS = 12.0


@dataclass(frozen=True)
class FitSettings:
    """How a model is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Clips a step, of different sources where there are enough.
        learning_rate: Highest one; AdamW, cosine to zero after a warm-up of a tenth.
        weight_decay: Of AdamW.
        gain_db: A window's level is changed by up to this much, either way.
        masked_share: Bands and times that are masked, at most (SpecAugment).
        seed: Of the weights and of all draws.
    """

    steps: int = 600
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    gain_db: float = 6.0
    masked_share: float = 0.4
    seed: int = 0


@dataclass(frozen=True)
class FitClip:
    """Where a clip's pictures lie in time.

    Attributes:
        vectors: Vectors of its pictures `[pictures, D]`.
        grid_seconds: When each picture is on screen, on the clip's clock.
        audio_start_seconds: When the sound begins, on the clip's clock.
        seconds: Length of its sound.
        times: Times of its bands that are kept.
        source: Number of its source.
    """

    vectors: np.ndarray
    grid_seconds: np.ndarray
    audio_start_seconds: float
    seconds: float
    times: int
    source: int


class BandCache:
    """Log-mel bands of many clips, a byte each, `[clips, bands, times]`.

    Args:
        config: Of the model.
        clips: Number of clips.
        path: File that holds them; None for memory.
    """

    def __init__(self, config: ScorerConfig, clips: int, path: str | None = None) -> None:
        self._front_end = LogMel(config.bands, config.window_size, config.hop_size)
        self.times_per_second = SAMPLE_RATE / config.hop_size
        shape = (clips, config.bands, round(LONGEST_SECONDS * self.times_per_second) + 1)
        self.bands = np.zeros(shape, np.uint8) if path is None else np.memmap(path, np.uint8, "w+", shape=shape)

    @torch.inference_mode()
    def put(self, row: int, samples: np.ndarray) -> int:
        """Store the first seconds of a clip's sound, int16 at 16 kHz; return how many times are kept."""
        sound = torch.from_numpy(samples[: round(LONGEST_SECONDS * SAMPLE_RATE)].astype(np.float32) / FULL_SCALE)
        # At least one window, with silence at its end, as in `sound_window`.
        missing = max(0, round(WINDOW_SECONDS * SAMPLE_RATE) - len(sound))
        bands = self._front_end(torch.nn.functional.pad(sound, (0, missing))[None])[0].numpy()
        times = min(bands.shape[1], self.bands.shape[2])
        self.bands[row, :, :times] = np.clip((bands[:, :times] - LOWEST) * STEPS_A_UNIT, 0, 255).astype(np.uint8)
        return times

    def window(self, row: int, first: int, length: int) -> np.ndarray:
        """Return bands of a clip, float32 `[bands, length]`."""
        return self.bands[row, :, first : first + length].astype(np.float32) / STEPS_A_UNIT + LOWEST


def train_model(
    config: ScorerConfig,
    cache: BandCache,
    clips: list[FitClip],
    rows: np.ndarray,
    settings: FitSettings,
    advance: Callable[[int], object] = lambda steps: None,
) -> CorrespondenceModel:
    """Train a model on some of the clips.

    Args:
        config: Sizes.
        cache: Bands of all clips.
        clips: All clips.
        rows: Numbers of the clips to train on.
        settings: How.
        advance: Called with the number of steps just made.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(settings.seed)
    model = CorrespondenceModel(config).to(device).train()
    generator = np.random.default_rng(settings.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    warm_up = max(1, settings.steps // 10)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + float(np.cos(np.pi * (step - warm_up) / max(1, settings.steps - warm_up))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    drawer = _Drawer(cache, clips, rows, settings, generator)
    for _ in range(settings.steps):
        bands, pictures, sources = (values.to(device) for values in drawer.batch())
        optimiser.zero_grad(set_to_none=True)
        sounds = model.encode_bands(bands)
        contrastive_loss(sounds, model.encode_pictures(pictures), model.log_scale, sources).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        advance(1)
    return model.cpu().eval()


@torch.inference_mode()
def encode_cached(
    model: CorrespondenceModel, cache: BandCache, row: int, clip: FitClip, late_seconds: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors of the sound and of the pictures of a clip's windows, float32 `[windows, D]` each.

    Args:
        model: Encoder of both.
        cache: Bands of all clips.
        row: Number of the clip.
        clip: The clip.
        late_seconds: The sound is taken this much later than the pictures; windows that do not fit are left out, as
            long as one fits.
    """
    length = round(WINDOW_SECONDS * cache.times_per_second)
    starts = window_starts(min(clip.seconds, LONGEST_SECONDS))
    moved = np.round((starts + late_seconds) * cache.times_per_second).astype(int)
    fits = (moved >= 0) & (moved + length <= max(clip.times, length))
    if not fits.any():
        moved = np.clip(moved, 0, max(0, clip.times - length))
        fits = np.arange(len(moved)) == 0
    bands = np.stack([cache.window(row, first, length) for first in moved[fits]])
    pictures = [
        picture_of_window(clip.vectors, clip.grid_seconds, clip.audio_start_seconds, start) for start in starts[fits]
    ]
    sounds = model.encode_bands(torch.from_numpy(bands))
    return sounds.numpy(), model.encode_pictures(torch.from_numpy(np.stack(pictures).astype(np.float32))).numpy()


class _Drawer:
    """Draws batches: epochs in a drawn order, a window of each clip at a drawn place."""

    def __init__(
        self,
        cache: BandCache,
        clips: list[FitClip],
        rows: np.ndarray,
        settings: FitSettings,
        generator: np.random.Generator,
    ) -> None:
        self._cache, self._clips, self._rows = cache, clips, rows
        self._settings, self._generator = settings, generator
        self._order = np.zeros(0, np.int64)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return bands `[B, bands, times]`, unit vectors of pictures `[B, D]` and sources `[B]`."""
        size = min(self._settings.batch_size, len(self._rows))
        if len(self._order) < size:
            self._order = np.concatenate([self._order, self._generator.permutation(self._rows)])
        taken, self._order = self._order[:size], self._order[size:]
        drawn = [self._window(int(row)) for row in taken]
        bands = torch.from_numpy(np.stack([bands for bands, _ in drawn]))
        pictures = torch.from_numpy(np.stack([picture for _, picture in drawn]))
        return bands, pictures, torch.tensor([self._clips[int(row)].source for row in taken])

    def _window(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        clip, cache, generator = self._clips[row], self._cache, self._generator
        length = round(WINDOW_SECONDS * cache.times_per_second)
        first = int(generator.integers(0, max(1, clip.times - length + 1)))
        bands = cache.window(row, first, length)
        # A level of so many dB more, in the front end's own unit.
        bands += generator.uniform(-1, 1) * self._settings.gain_db / 10 * np.log(10) / 4
        # Zero is the mean: bands first, then times.
        for masked in (bands, bands.T):
            width = int(generator.integers(0, round(self._settings.masked_share * len(masked)) + 1))
            begin = int(generator.integers(0, len(masked) - width + 1))
            masked[begin : begin + width] = 0
        start = first / cache.times_per_second
        picture = picture_of_window(clip.vectors, clip.grid_seconds, clip.audio_start_seconds, start)
        return bands, picture.astype(np.float32)
