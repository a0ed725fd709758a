"""Lengths of generated sounds: the frames that a U-Net takes, and the longest sound."""

from __future__ import annotations

from vidaudio.generation import MelConfig
from vidaudio.tasks.generation.recipe import GenerationRecipe

MOST_SECONDS = 120.0


def nearest_frames(recipe: GenerationRecipe, seconds: float | None) -> int:
    """Return the frames of a sound: the multiple of the U-Net's divisor that is nearest to a length.

    Args:
        recipe: Recipe of the generator.
        seconds: Length; None for that of training.
    """
    if seconds is None:
        return recipe.frames
    data = recipe.data.model_copy(update={"window_seconds": seconds})
    return recipe.model_copy(update={"data": data}).frames


def covering_frames(samples: int, config: MelConfig, divisor: int) -> int:
    """Return the fewest frames that hold all samples of a sound and fit the U-Net.

    Args:
        samples: Samples at the mel's rate.
        config: Sizes of the mel.
        divisor: What the number of frames must be a multiple of.
    """
    # A shorter sound has no mel: it is reflected at its ends.
    least = (config.n_fft - config.hop) // 2 + 1
    return divisor * -(-max(samples, least) // (config.hop * divisor))
