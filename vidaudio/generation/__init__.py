"""Generation of sound in plain PyTorch: mel, diffusion, network, guidance, samplers and vocoder.

The package depends neither on files nor on the training framework. Names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "conditions": ("fixed_length",),
    "denoiser": ("Denoiser", "DenoiserConfig"),
    "diffusion": ("Diffusion", "DiffusionConfig", "cosine_betas", "even_steps", "trailing_steps", "zero_terminal"),
    "discriminators": ("DiscriminatorConfig", "Discriminators"),
    "distances": ("mel_distance", "stft_distance"),
    "editing": ("Edit", "sample_edit"),
    "flow": ("Flow", "FlowConfig"),
    "griffinlim": ("griffin_lim",),
    "guidance": ("Guidance", "guided"),
    "inversion": ("change_prompt", "invert"),
    "joint": ("WindowGroup", "joint_predictor"),
    "mel": ("MelConfig", "MelFrontEnd"),
    "mel_masks": ("apply_mask", "mel_ratio"),
    "samplers": ("ExampleNoise", "SamplerConfig", "sample"),
    "spans": ("blend", "frames_of_spans"),
    "vocoder": ("Vocoder", "VocoderConfig"),
    "vocoder_losses": ("VocoderLossConfig", "VocoderLosses"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
