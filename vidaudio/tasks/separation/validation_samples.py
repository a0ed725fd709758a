"""Validation samples: a few fixed validation mixtures, logged as sounds and spectrograms while a run learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidaudio.separation import mix_sources
from vidaudio.tasks.separation.module import VALIDATION, SeparationModule
from vidaudio.training.log_writers import LogWriter
from vidaudio.training.spectrograms import Panel, draw_panels, pixels

DECIBELS = 80.0


class ValidationSamples:
    """First validation mixtures of a run, logged after every validation.

    Logged are sounds and an image per mixture: spectrograms of mixture, target and estimate, the mask, and for a system
    with noise heads the sum of their masks, each with its name.

    Args:
        mixtures: Number of mixtures to log.
    """

    def __init__(self, mixtures: int) -> None:
        self._mixtures = mixtures
        self._batch: dict[str, Any] | None = None

    @torch.no_grad()
    def log(self, module: SeparationModule, writers: Sequence[LogWriter], step: int) -> None:
        """Log sounds and spectrograms."""
        shown = _separated(module, self._first(module))
        if shown is None:
            return
        rate = module.recipe.model.front_end.sample_rate
        for number in range(len(shown["mixture"])):
            picture = pixels(draw_panels(_panels(shown, number, module), rate, shown["mixture"].shape[-1] / rate))
            for writer in writers:
                writer.add_image(f"validation_{number}/spectrograms", picture, step)
                for name in ("mixture", "target", "estimate"):
                    sound = shown[name][number].float().cpu().numpy()
                    writer.add_audio(f"validation_{number}/{name}", sound, rate, step)

    def _first(self, module: SeparationModule) -> dict[str, Any]:
        if self._batch is None:
            assert module.validation_stream is not None
            batch = module.validation_stream.first(self._mixtures)
            self._batch = {name: value.to(module.device) for name, value in batch.items() if isinstance(value, Tensor)}
        return self._batch


def _separated(module: SeparationModule, batch: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return sounds `[M, samples]` and masks `[M, bins, frames]` of the usable mixtures; None if there are none."""
    model = module.eval_model
    was_training = model.training
    model.eval()
    queries, usable = module.queries(batch, module.recipe.query.validation, VALIDATION)
    audio = batch["audio"]
    if queries is not None and usable is not None:
        audio, queries = audio[usable], queries[usable]
    if not len(audio):
        return None
    sources, mixture = mix_sources(audio)
    spectrum = model.front_end.stft(mixture)
    mask = model.masks(spectrum, None if queries is None else queries[:, :1])[:, 0]
    samples = model.front_end.config.output_samples
    shown = {
        "mixture": mixture[:, :samples],
        "target": sources[:, 0, :samples],
        "estimate": model.front_end.istft(spectrum * mask).clamp(-1, 1),
        "mask": mask,
    }
    if getattr(model, "noise", None) is not None:
        shown["noise"] = model.noise_masks(spectrum, queries).sum(dim=1).clamp(max=1)
    model.train(was_training)
    return shown


def _panels(shown: dict[str, Tensor], number: int, module: SeparationModule) -> list[Panel]:
    """Return the panels of one mixture; all values are scaled to [0, 1]."""
    values = {name: _decibels(shown[name][number], module) for name in ("mixture", "target", "estimate")}
    values |= {name: shown[name][number].float().cpu().numpy() for name in ("mask", "noise") if name in shown}
    titles = {"noise": "noise masks"}
    return [Panel(titles.get(name, name), value, 0.0, 1.0) for name, value in values.items()]


def _decibels(sound: Tensor, module: SeparationModule) -> np.ndarray:
    """Return the log spectrogram in [0, 1]: the loudest pixel is 1, 80 dB below it is 0; `[bins, frames]`."""
    front_end = module.eval_model.front_end
    missing = front_end.config.window_samples - sound.shape[-1]
    magnitude = front_end.stft(torch.nn.functional.pad(sound[None].float(), (0, missing)))[0].abs()
    decibels = 20 * (magnitude / magnitude.amax().clamp_min(1e-8)).clamp_min(1e-10).log10()
    return (1 + decibels / DECIBELS).clamp_min(0).cpu().numpy()
