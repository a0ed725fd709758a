"""Mel spectrograms of sound from CLIP vectors, by a diffusion model that vidaudio trained.

    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    mels = pipe(vectors, seeds=[0]).log_mels

`generator.json` in the folder says of which encoder the vectors must be, which vocoders the mels fit, and with which
settings the generator is meant to be called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor, nn

# The U-Net is told times on this scale, whatever the number of steps in training.
TIME_SCALE = 1000.0
# Half the logarithm of signal to noise at which sampling begins: noisier steps hold nothing of a mel.
LEAST_LOG_SNR = -5.1
# In place of an infinite ratio of noise to signal, whose square must be finite in float32.
NOISE_ALONE = 1e15


@dataclass
class SoundOutput(BaseOutput):
    """Generated mels.

    Attributes:
        mels: Mels in [-1, 1], `[N, bands, frames]`.
        log_mels: Natural logarithms of the bands, which vocoders read, `[N, bands, frames]`.
    """

    mels: Tensor
    log_mels: Tensor


@dataclass(frozen=True)
class Guidance:
    """Settings of guidance: its scale (1 is none), the part of the time in which it acts, and its rescaling."""

    scale: float
    interval: tuple[float, float]
    rescale: float


class SoundPipeline(DiffusionPipeline):
    """Generator of mels.

    Args:
        unet: U-Net, a UNet2DModel.
        scheduler: Scheduler; DPMSolverMultistepScheduler and FlowMatchEulerDiscreteScheduler make vidaudio's steps,
            others their own.
        projection: Projection of the vectors.
        heads: Heads of each attention, which the configuration of a UNet2DModel cannot say.
        bands: Mel bands.
        frames: Frames of a mel in training.
        offset_noise: Deviation of a number that is added to all noise of a mel.
        log_least: Logarithm that -1 means.
        log_most: Logarithm that 1 means.
    """

    def __init__(  # noqa: PLR0913 - diffusers takes what a folder holds from the arguments
        self,
        unet: nn.Module,
        scheduler: object,
        projection: nn.Module,
        heads: int = 4,
        bands: int = 64,
        frames: int = 320,
        offset_noise: float = 0.0,
        log_least: float = -11.512925464970229,
        log_most: float = 3.5,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, projection=projection)
        self.register_to_config(heads=heads, bands=bands, frames=frames, offset_noise=offset_noise)
        self.register_to_config(log_least=log_least, log_most=log_most)
        for module in unet.modules():
            if type(module).__name__ == "Attention":
                attention: Any = module
                attention.heads = attention.sliceable_head_dim = heads
                attention.scale = (attention.inner_dim // heads) ** -0.5

    @torch.inference_mode()
    def __call__(
        self,
        vectors: Tensor,
        seeds: Sequence[int] | None = None,
        steps: int = 25,
        guidance: float = 1.5,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guidance_rescale: float = 0.0,
        negative: Tensor | None = None,
        frames: int | None = None,
    ) -> SoundOutput:
        """Return generated mels.

        Args:
            vectors: Vectors of what should be heard, of any length, `[N, D]`.
            seeds: Seed of each mel; None for 0, 1 and so on.
            steps: Steps of the scheduler.
            guidance: Scale of guidance: how much the vectors count; 1 is as in training.
            guidance_interval: Part of the time in which guidance acts, from 0 (clean) to 1 (noise).
            guidance_rescale: Share by which the prediction's spread is brought back, 0 to 1.
            negative: Vector to move away from, `[D]`; None for no condition.
            frames: Frames of a mel; None for those of training.
        """
        low, high = guidance_interval
        device, settings = self._execution_device, Guidance(guidance, (low, high), guidance_rescale)
        vectors = vectors.to(device)
        unwanted = None if negative is None else negative.to(device).expand_as(vectors)
        shape = (1, self.config.bands, frames or self.config.frames)
        chosen = range(len(vectors)) if seeds is None else seeds
        generators = [torch.Generator().manual_seed(seed) for seed in chosen]
        noisy = self._noise(generators, shape).to(device, self.unet.dtype)
        times, ends_in_noise = self._set_steps(steps, device)
        noisy = noisy * getattr(self.scheduler, "init_noise_sigma", 1.0)
        for number, (time, step) in enumerate(zip(self.progress_bar(times), self.scheduler.timesteps, strict=True)):
            scaled = noisy
            if hasattr(self.scheduler, "scale_model_input"):
                scaled = self.scheduler.scale_model_input(noisy, step)
            prediction = self.guided(scaled, time, vectors, unwanted, settings)
            noise = {}
            # Other schedulers keep the setting, which says nothing of them.
            is_stochastic = "sde" in self.scheduler.config.get("algorithm_type", "") and number + 1 < len(times)
            if is_stochastic and isinstance(self.scheduler, DPMSolverMultistepScheduler):
                noise["variance_noise"] = self._noise(generators, shape).to(device)
            noisy = self.scheduler.step(prediction, step, noisy, return_dict=False, **noise)[0]
            if number == 0 and ends_in_noise:
                # The distance to noise alone is infinite, so the next step cannot extrapolate along it.
                self.scheduler.lower_order_nums = 0
        mels = noisy[:, 0].clamp(-1, 1)
        self.maybe_free_model_hooks()
        half = (self.config.log_most - self.config.log_least) / 2
        return SoundOutput(mels=mels, log_mels=(mels + 1) * half + self.config.log_least)

    def predict(self, noisy: Tensor, times: Tensor, vectors: Tensor | None, is_used: Tensor | None = None) -> Tensor:
        """Return the U-Net's outputs, `[N, outputs, bands, frames]`.

        Args:
            noisy: Noisy mels, `[N, 1, bands, frames]`.
            times: Times between 0 and 1000, `[N]`.
            vectors: Vectors, `[N, D]`; None for none.
            is_used: Examples whose vector is used, bool `[N]`; None for all.
        """
        if vectors is None:
            added = noisy.new_zeros(len(noisy), self.projection.config.outputs)
        else:
            added = self.projection(vectors)
            if is_used is not None:
                added = added * is_used[:, None].to(added)
        return self.unet(noisy, times, class_labels=added, return_dict=False)[0]

    def guided(
        self, noisy: Tensor, time: float, vectors: Tensor, negative: Tensor | None, guidance: Guidance
    ) -> Tensor:
        """Return predictions with guidance, without the variance, `[N, 1, bands, frames]`."""
        # In float32: bfloat16 has no 997.
        times = torch.full((len(noisy),), time, dtype=torch.float32, device=noisy.device)
        low, high = guidance.interval
        if guidance.scale == 1 or not low <= float(times[0]) / TIME_SCALE <= high:
            return self.predict(noisy, times, vectors)[:, :1]
        other = torch.zeros_like(vectors) if negative is None else negative
        is_used = torch.ones(2 * len(noisy), dtype=torch.bool, device=noisy.device)
        is_used[len(noisy) :] = negative is not None
        both = self.predict(torch.cat([noisy, noisy]), torch.cat([times, times]), torch.cat([vectors, other]), is_used)
        strong, weak = both[:, :1].chunk(2)
        moved = weak + guidance.scale * (strong - weak)
        if guidance.rescale:
            spread = strong.flatten(1).std(1) / moved.flatten(1).std(1).clamp_min(1e-8)
            moved = moved * (guidance.rescale * spread + 1 - guidance.rescale).reshape(-1, 1, 1, 1)
        return moved

    def _noise(self, generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
        """Return the next noise of each mel, `[N, *shape]`, from a generator of its own."""
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        if self.config.offset_noise:
            offsets = torch.stack([torch.randn((), generator=generator) for generator in generators])
            noise = noise + self.config.offset_noise * offsets.reshape(-1, *[1] * len(shape))
        return noise

    def _set_steps(self, steps: int, device: torch.device) -> tuple[list[float], bool]:
        """Set the scheduler's steps; return the times that the U-Net is told, and whether the first is noise alone."""
        scheduler = self.scheduler
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)], device=device)
            scheduler.set_begin_index(0)
            return [(1 - step / steps) * TIME_SCALE for step in range(steps)], False
        scheduler.set_timesteps(steps, device=device)
        scale = TIME_SCALE / scheduler.config.num_train_timesteps
        if not isinstance(scheduler, DPMSolverMultistepScheduler):
            return [float(step) * scale for step in scheduler.timesteps], False
        numbers, ratios, ends_in_noise = self._even_in_log_snr(steps)
        scheduler.timesteps = torch.from_numpy(numbers).to(device)
        scheduler.sigmas = torch.from_numpy(np.append(ratios, 0.0)).float()
        scheduler.set_begin_index(0)
        return (numbers * scale).tolist(), ends_in_noise

    def _even_in_log_snr(self, count: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return steps at even distances in the logarithm of signal to noise, and ratios of noise to signal.

        The scheduler's own spacings leave too much noise for the last step, and mels become smooth.
        """
        config = self.scheduler.config
        root = np.sqrt(np.cumprod(1 - np.array(config.trained_betas, float)))
        if config.rescale_betas_zero_snr:
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        with np.errstate(divide="ignore"):
            log_snr = np.log(root) - 0.5 * np.log1p(-(root**2))
        ends_in_noise = not root[-1]
        wanted = np.linspace(max(LEAST_LOG_SNR, log_snr[-1]), log_snr[0], count - int(ends_in_noise))
        finite = np.isfinite(log_snr)
        numbers, ratios = np.interp(-wanted, -log_snr[finite], np.flatnonzero(finite)), np.exp(-wanted)
        if ends_in_noise:
            numbers, ratios = np.append(len(root) - 1.0, numbers), np.append(NOISE_ALONE, ratios)
        return numbers, ratios, ends_in_noise
