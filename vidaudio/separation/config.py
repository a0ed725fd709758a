"""Configuration of a separation system: only the choices in which the systems of the papers differ.

Every system has the same front end and U-Net. Systems differ in the kind of query and how it is encoded (`query`), in
the heads (`noise` heads, or heads without queries), and in the loss. Where a paper and its code disagree, the choice is
a named option here; its default is the form that works.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vidaudio.errors import RecipeError
from vidaudio.separation.frontend import FrontEndConfig
from vidaudio.separation.unet import InitialWeights, UNetConfig

QueryKind = Literal["vector", "states", "label", "pictures", "none", "ranked"]
# All n! assignments of n heads to n sources are tried one by one.
MAX_PERMUTED_SOURCES = 6


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """How feature maps and query coefficients are combined into a mask, see `vidaudio.separation.fusion`.

    Args:
        sigmoid: `outside`, one sigmoid over the weighted sum (CLIPSep's code); or `inside`, one sigmoid per feature map
            (the form printed in the paper). The `inside` terms are averaged here instead of summed, since their sum is
            not a probability.
        query_activation: Activation of the query coefficients: `sigmoid` (the code) or `none` (the paper).
    """

    sigmoid: Literal["outside", "inside"] = "outside"
    query_activation: Literal["sigmoid", "none"] = "sigmoid"


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """Noise invariant training (CLIPSep-NIT, section 3.2), with as many noise heads as sources.

    Args:
        input: Input of the noise heads: the `mean` of the query vectors (the code) or their `sum` (the paper).
        gamma: Total noise activation up to which there is no penalty.
        activation_weight: Penalty weight of the activation above gamma, the paper's lambda.
        query_weight: Coefficient of the second regulariser, 0 in the published code. The regulariser penalises sources
            that the query mask and its noise mask together explain hardly better than the noise mask alone.
        query_margin: Amount by which the query mask must lower the loss to avoid that penalty (the published code's
            epsilon).
        start_step: Number of optimiser steps to train without the noise heads first.
        initial_bias: First value of a bias of the noise masks' own. None, as in the paper, for the bias that they share
            with the query masks: then all masks begin at 0.5, so that a query mask and its noise mask add up to 1, and
            the first steps have to lower both.

    Raises:
        RecipeError: When a number other than `initial_bias` is below 0.
    """

    input: Literal["mean", "sum"] = "mean"
    gamma: float = 0.25
    activation_weight: float = 0.1
    query_weight: float = 0.0
    query_margin: float = 0.1
    start_step: int = 0
    initial_bias: float | None = None

    def __post_init__(self) -> None:
        for name in ("gamma", "activation_weight", "query_weight", "query_margin", "start_step"):
            if getattr(self, name) < 0:
                raise RecipeError(f"noise.{name} is {getattr(self, name)}: it must not be below 0.")


@dataclass(frozen=True, slots=True)
class LossConfig:
    """How the errors of pixels and sources are combined.

    Args:
        kind: What is compared: `masks`, the binary masks of the sources, by weighted BCE (CLIPSep); or `magnitudes`,
            mask times mixture with the magnitudes of the sources, by weighted L1 (BiModal).
        pixel_weight: Weight of a pixel: `clamped_log`, log(1 + |X|) clamped to [0.001, 10] (the code), or `magnitude`,
            |X| (the paper).
        sources: Reduction over the sources: `mean` (the code) or `sum` (the paper).
    """

    kind: Literal["masks", "magnitudes"] = "masks"
    pixel_weight: Literal["clamped_log", "magnitude"] = "clamped_log"
    sources: Literal["mean", "sum"] = "mean"


@dataclass(frozen=True, slots=True)
class ConditionConfig:
    """How the text conditions the network of BiModal, see `vidaudio.separation.conditional_unet`.

    Args:
        levels: Inner levels of the U-Net with attention to the text.
        heads: Heads of every attention.
        mlp_ratio: Width of the hidden layers after an attention, in channels of the level.
        state_dimensions: Dimensions of the text encoder's states.
    """

    levels: int = 3
    heads: int = 8
    mlp_ratio: int = 2
    state_dimensions: int = 768


@dataclass(frozen=True, slots=True)
class SeparatorConfig:
    """Parts and sizes of a system; the defaults are CLIPSep's.

    Args:
        query: Kind of query: a `vector` of a frozen encoder, a text's vector and `states`, the number of a `label`,
            `pictures` whose encoder is part of the model, or `none`: the model outputs all sources and is trained with
            permutations (PIT). `ranked` is trained like that, and asked by vectors of sound afterwards.
        query_dimensions: Dimensions of the query vectors, or of the learned vector per label.
        labels: Number of labels; above 0 exactly if the queries are labels.
        sources: Sources per training mixture; also the number of heads of PIT and of noise heads of NIT.
        channels: Feature maps that the U-Net outputs, the paper's k.
        noise: Options of the noise heads; None for no noise heads.
        fusion: Options of the fusion of feature maps and queries.
        loss: Options of the loss.
        front_end: Sizes of the spectrogram.
        unet: Sizes of the U-Net.
        condition: How the states of a text condition the U-Net (BiModal); None for CLIPSep's U-Net, which knows nothing
            of the query. With it, queries are of kind `states`.
        initial_weights: CLIPSep's (`clipsep`), or `kaiming`, see `vidaudio.separation.unet.initialise`. The U-Net that
            is conditioned by text has PyTorch's; then it is the query layer's alone, where BiModal's are CLIPSep's.
        input: What the networks read: the `log` of the magnitude (CLIPSep), or `log1p` (BiModal).

    Raises:
        RecipeError: When a size is too small, options contradict each other, there are too many sources to permute, or
            a side of the spectrogram cannot be halved `unet.levels` times.
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
    condition: ConditionConfig | None = None
    initial_weights: InitialWeights = "clipsep"
    input: Literal["log", "log1p"] = "log"

    def __post_init__(self) -> None:
        for name, least in (("query_dimensions", 1), ("channels", 1), ("sources", 2)):
            if getattr(self, name) < least:
                raise RecipeError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if (self.query == "label") != (self.labels > 0):
            raise RecipeError(f"queries are of kind {self.query!r} and there are {self.labels} labels.")
        if (self.query == "states") != (self.condition is not None):
            raise RecipeError("A U-Net that is conditioned by text is asked by a text's states, and no other one is.")
        if self.condition is not None and (self.noise is not None or self.fusion.sigmoid == "inside"):
            raise RecipeError(
                "A U-Net that is conditioned by text has no noise heads, and its sigmoid outside the sum."
            )
        if self.noise is not None and self.loss.kind != "masks":
            raise RecipeError("Noise heads are trained on masks: leave `loss.kind` at masks.")
        if self.query in ("none", "ranked") and self.noise is not None:
            raise RecipeError("noise heads are made from queries, and this system has none: leave `noise` out.")
        if (self.noise is not None or (self.query == "none" and self.loss.kind == "masks")) and (
            self.sources > MAX_PERMUTED_SOURCES
        ):
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
