"""Metrics of a whole set of generated sounds, from vectors of an encoder or a classifier's probabilities.

All are plain NumPy in float64, and none ever returns NaN. A number is only worth what its encoder is: the same distance
on two encoders ranks systems differently (Gui et al., ICASSP 2024), so its name always says which encoder it is of.
"""

from __future__ import annotations

from vidaudio.generation.metrics.classifier import inception_score, mean_divergence
from vidaudio.generation.metrics.frechet import frechet_distance
from vidaudio.generation.metrics.kernel import KernelMatrices, kernel_distance, median_distance
from vidaudio.generation.metrics.neighbours import Coverage, coverage, nearest_distances, within_radii

__all__ = [
    "Coverage",
    "KernelMatrices",
    "coverage",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "mean_divergence",
    "median_distance",
    "nearest_distances",
    "within_radii",
]
