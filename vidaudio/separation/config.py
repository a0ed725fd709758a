"""What a separation system is made of: the choices in which the systems of the papers differ, and nothing else.

Every system has the same front end and U-Net. They differ in what a query is and how it becomes numbers (`query`), in
the heads (`noise`, or heads without queries), and in the loss. Where a paper and its code disagree, the choice is a
named option here whose default is the form that works.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vidaudio.errors import RecipeError
from vidaudio.separation.frontend import FrontEndConfig
from vidaudio.separation.unet import UNetConfig

QueryKind = Literal["vector", "label", "pictures", "none"]
# The assignments of n heads to n sources are tried one by one, n! of them.
MAX_PERMUTED_SOURCES = 6


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """How feature pictures and query numbers make a mask, see `vidaudio.separation.fusion`.

    Args:
        sigmoid: `outside`, one sigmoid over the weighted sum (CLIPSep's code); or `inside`, one a feature picture
            (the form the paper prints), here averaged instead of summed, since the sum is no probability.
        query_activation: `sigmoid` (the code) or `none` (the paper) on the query numbers.
    """

    sigmoid: Literal["outside", "inside"] = "outside"
    query_activation: Literal["sigmoid", "none"] = "sigmoid"


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """Noise invariant training (CLIPSep-NIT, section 3.2): as many noise heads as sources.

    Args:
        input: The noise heads see the `mean` of the query vectors (the code) or their `sum` (the paper).
        gamma: Total noise activation that costs nothing.
        activation_weight: What activation above gamma costs, the paper's lambda.
        query_weight: Coefficient of the second regulariser, 0 in the published code: what it costs that a query mask
            together with its noise mask explains a source hardly better than the noise mask alone.
        query_margin: By how much the loss must be lower with the query mask for that to cost nothing (the published
            code's epsilon).
        start_step: Optimiser steps of training without the noise heads first.

    Raises:
        RecipeError: A number below 0.
    """

    input: Literal["mean", "sum"] = "mean"
    gamma: float = 0.25
    activation_weight: float = 0.1
    query_weight: float = 0.0
    query_margin: float = 0.1
    start_step: int = 0

    def __post_init__(self) -> None:
        for name in ("gamma", "activation_weight", "query_weight", "query_margin", "start_step"):
            if getattr(self, name) < 0:
                raise RecipeError(f"noise.{name} is {getattr(self, name)}: it must not be below 0.")


@dataclass(frozen=True, slots=True)
class LossConfig:
    """How the errors of pixels and sources are put together.

    Args:
        pixel_weight: `clamped_log`, log(1 + |X|) in [0.001, 10] (the code), or `magnitude`, |X| (the paper).
        sources: `mean` over the sources (the code) or their `sum` (the paper).
    """

    pixel_weight: Literal["clamped_log", "magnitude"] = "clamped_log"
    sources: Literal["mean", "sum"] = "mean"


@dataclass(frozen=True, slots=True)
class SeparatorConfig:
    """Parts and sizes of a system; the defaults are CLIPSep's.

    Args:
        query: What a query is: a `vector` of a frozen encoder, the number of a `label`, `pictures` whose encoder is
            part of the model, or `none`: the model puts out all sources and learns by permutations (PIT).
        query_dimensions: Of the vectors, or of the learned vector a label has.
        labels: How many labels there are, where queries are labels.
        sources: Of a training mixture: the heads that PIT has, and the noise heads that NIT has.
        channels: Feature pictures the U-Net puts out, k.
        noise: Noise heads, or None.
        fusion, loss: Options.
        front_end: Sizes of the spectrogram.
        unet: Sizes of the U-Net.

    Raises:
        RecipeError: A size below 1, parts that do not go together, or a spectrogram whose sides the U-Net cannot halve
            `unet.levels` times.
    """

    query: QueryKind = "vector"
    query_dimensions: int = 512
    labels: int = 0
    sources: int = 2
    channels: int = 32
    noise: NoiseConfig | None = None
    fusion: FusionConfig = field(default_factory=FusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        for name, least in (("query_dimensions", 1), ("channels", 1), ("sources", 2)):
            if getattr(self, name) < least:
                raise RecipeError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if (self.query == "label") != (self.labels > 0):
            raise RecipeError(f"queries are of kind {self.query!r} and there are {self.labels} labels.")
        if self.query == "none" and self.noise is not None:
            raise RecipeError("noise heads are made from queries, and this system has none: leave `noise` out.")
        if (self.noise is not None or self.query == "none") and self.sources > MAX_PERMUTED_SOURCES:
            raise RecipeError(
                f"mixtures of {self.sources} sources have too many assignments of heads to sources; "
                f"up to {MAX_PERMUTED_SOURCES} are tried."
            )
        multiple = 2**self.unet.levels
        for name in ("log_rows", "frames"):
            side = getattr(self.front_end, name)
            if side % multiple:
                raise RecipeError(
                    f"front_end.{name} is {side}: a U-Net of {self.unet.levels} levels needs a multiple of {multiple}."
                )
