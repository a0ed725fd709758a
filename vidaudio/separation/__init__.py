"""Sound separation in plain PyTorch: front end, U-Net, query path, fusion, losses, separation of long sounds, scores.

The package depends neither on files nor on the training framework. Names are imported on first use, so that processes
that only compute scores (`score_many`) never load PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "conditional_unet": ("ConditionalUNet", "ConditionalUNetConfig"),
    "config": ("ConditionConfig", "FusionConfig", "LossConfig", "NoiseConfig", "SeparatorConfig"),
    "contrast": ("contrastive_losses",),
    "example": ("MixtureExample", "make_example", "mixture_magnitude", "network_input"),
    "fast_sdr": ("fast_scores", "image_sdr", "scale_invariant_sdr"),
    "frontend": ("FrontEnd", "FrontEndConfig"),
    "fusion": ("MaskFusion",),
    "gains": ("gain_words", "headline_figures", "is_above_error"),
    "head_choice": ("HEAD_CHOICES", "candidate_masks"),
    "losses": (
        "binary_targets",
        "noise_activation",
        "noise_invariant_loss",
        "permutation_loss",
        "pixel_weights",
        "weighted_mask_loss",
    ),
    "mixing": ("mix_sources",),
    "noise": ("NoiseHeads",),
    "oracle": ("FixedFilters", "ideal_binary_mask", "ideal_ratio_mask", "separate_with_mask"),
    "overlap_add": ("separate_all_long", "separate_long"),
    "parts": (
        "PartExample",
        "assignment_reconstruction_losses",
        "consistency_losses",
        "make_parts",
        "reconstruction_losses",
    ),
    "pictures": ("PictureQuery",),
    "query": ("LabelQuery", "LinearQuery"),
    "request": ("Request", "request_mask"),
    "resampling": ("resample",),
    "resnet": ("DilatedResNet18",),
    "scoring": ("score_many",),
    "sdr": ("Summary", "is_scorable", "mixture_scores", "museval_scores", "summarise"),
    "separator": ("PermutationSeparator", "QuerySeparator", "RankedSeparator", "Separator", "build_separator"),
    "sound_jitter": ("jitter",),
    "text_states": ("pack_text", "unpack_text"),
    "torch_resampling": ("Resampler",),
    "unet": ("AudioUNet", "UNetConfig"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
