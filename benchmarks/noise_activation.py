"""How much of a training mixture of the noisy demo world is sound from off screen: what noise masks would ideally take.

    python -m benchmarks.noise_activation [--mixtures N] [--seed N]

Mixtures of two training videos are drawn as in training, their sounds rendered apart. Counted is the share of the
spectrogram's pixels in which a sound from off screen is more than half of the mixture, as the targets of training
count: the sum of ideal noise masks, to be compared with gamma and with the activation that a training comes to.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from benchmarks.common import write_result
from benchmarks.trainings import load_budget, recipe_of
from benchmarks.world import WORLD_SEED
from vidaudio.demo.render import FULL, OFFSCREEN_SHARE, Video, add_offscreen, plan_world
from vidaudio.demo.sounds import SAMPLE_RATE
from vidaudio.demo.world import DURATION, Instance, kind_of
from vidaudio.separation.example import make_example
from vidaudio.separation.frontend import FrontEnd
from vidaudio.separation.resampling import resample
from vidaudio.tasks.separation.checkpoint import separator_config

# add_offscreen turns down what would clip; so far below full scale, nothing does.
QUIET = 0.1


def parts_of(video: Video) -> tuple[np.ndarray, np.ndarray]:
    """Return a video's own sound, and its sound from off screen or silence, float32 `[samples]` each."""
    own = Instance(kind_of(video.sounding), video.seed).sound()
    if not video.offscreen:
        return own, np.zeros_like(own)
    mixed = add_offscreen(QUIET * own, kind_of(video.offscreen), video.seed, DURATION) / np.float32(QUIET)
    return own, mixed - own


def ideal_activation(videos: list[Video], front_end: FrontEnd, rng: np.random.Generator) -> float:
    """Return the share of a mixture's pixels that is sound from off screen, of a drawn window of two videos."""
    config, parts = front_end.config, []
    for number in rng.choice(len(videos), 2, replace=False):
        sounds_of = np.stack([resample(part, SAMPLE_RATE, config.sample_rate) for part in parts_of(videos[number])])
        begin = int(rng.integers(sounds_of.shape[1] - config.window_samples + 1))
        parts.append(sounds_of[:, begin : begin + config.window_samples])
    own_and_offscreen = torch.from_numpy(np.concatenate(parts))[None]
    targets = make_example(front_end, own_and_offscreen).targets[0]
    return float(targets[1].mean() + targets[3].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    recipe = recipe_of(load_budget("noisy"), "clipsep_nit", chosen.seed)
    front_end, rng = FrontEnd(separator_config(recipe, 512).front_end), np.random.default_rng(chosen.seed)
    videos = [video for video in plan_world(WORLD_SEED, FULL, 0, OFFSCREEN_SHARE) if video.split == "train"]
    shares = [ideal_activation(videos, front_end, rng) for _ in range(chosen.mixtures)]
    mean, error = float(np.mean(shares)), float(np.std(shares, ddof=1) / len(shares) ** 0.5)
    print(f"{mean:.3f} +- {error:.3f} of the pixels of {len(shares)} mixtures are sound from off screen")
    write_result(
        "noise_activation",
        {"mixtures": chosen.mixtures, "seed": chosen.seed},
        {"ideal_activation": round(mean, 4), "standard_error": round(error, 4)},
    )


if __name__ == "__main__":
    main()
