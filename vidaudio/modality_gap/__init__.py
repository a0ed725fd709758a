"""The gap between an encoder's vectors of pictures and of words: how wide it is, and methods that close it.

Models are trained with pictures and asked in words. CLIP puts the two in cones that lie apart, so a query in words is
unlike anything that a model met in training. A `GapMethod` changes the query in words, the vectors of pictures in
training, or both. Each is fitted to the vectors of one encoder; see `METHODS` for all of them.
"""

from vidaudio.modality_gap.base import GapData, GapMethod
from vidaudio.modality_gap.measures import GapMeasures, measure_gap
from vidaudio.modality_gap.registry import (
    ASKING_METHODS,
    METHODS,
    TRAINING_METHODS,
    fit_method,
    load_method,
    method_options,
    save_method,
)

__all__ = [
    "ASKING_METHODS",
    "METHODS",
    "TRAINING_METHODS",
    "GapData",
    "GapMeasures",
    "GapMethod",
    "fit_method",
    "load_method",
    "measure_gap",
    "method_options",
    "save_method",
]
