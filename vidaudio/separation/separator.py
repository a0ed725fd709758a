"""Separation systems: one front end and one U-Net, followed by masks for queries or by masks of all sources.

`QuerySeparator` is CLIPSep and the systems that differ from it in query path, noise heads, U-Net or options; with the
defaults it has 30,290,659 parameters, with noise heads 30,292,771. `PermutationSeparator` is PIT and MixIT.
`SeparatorConfig.query` decides between them. Encoders are not part of the models, except the image encoder of the
original Sound-of-Pixels.

Dong et al., CLIPSep: Learning Text-queried Sound Separation with Noisy Unlabeled Videos, ICLR 2023; sizes and formulas
as in its published code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from vidaudio.separation.conditional_unet import ConditionalUNet, ConditionalUNetConfig
from vidaudio.separation.config import NoiseConfig, SeparatorConfig
from vidaudio.separation.example import make_example, network_input
from vidaudio.separation.frontend import FrontEnd
from vidaudio.separation.fusion import MaskFusion
from vidaudio.separation.losses import (
    noise_activation,
    noise_invariant_loss,
    permutation_loss,
    pixel_weights,
    regularised_noise_loss,
    weighted_mask_loss,
)
from vidaudio.separation.noise import NoiseHeads
from vidaudio.separation.parts import assignment_reconstruction_losses, make_parts, reconstruction_losses
from vidaudio.separation.query import query_path
from vidaudio.separation.text_states import unpack_text
from vidaudio.separation.unet import AudioUNet, initialise

BatchMean = Callable[[Tensor], Tensor]
_ASK = "This system separates what it is asked for: give it queries."


class Separator(nn.Module, ABC):
    """Base class of all systems: front end, U-Net, and the way from masks to sound.

    Move it to channels_last and run it under bfloat16 autocast for speed: the front end and the loss stay in float32.

    Args:
        config: Parts and sizes of the system.
    """

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front_end)
        self.unet = _unet(config)

    @abstractmethod
    def forward(self, log_magnitude: Tensor, queries: Tensor | None) -> Tensor:
        """Return mask logits for each mixture; their sigmoid is the mask.

        Args:
            log_magnitude: Logarithm of the mixture magnitude, see `network_input`, float32 [B, 1, log_rows, frames].
            queries: Queries of the wanted sounds, [B, N, ...]; None for a system without queries.

        Returns:
            [B, N, log_rows, frames].
        """

    @abstractmethod
    def loss(
        self,
        audio: Tensor,
        queries: Tensor | None,
        gains: Tensor | None = None,
        *,
        step: int | None = 0,
        batch_mean: BatchMean | None = None,
    ) -> dict:
        """Return the training loss and its parts.

        Args:
            audio: The N sources of each mixture, int16 or float in [-1, 1], [B, N, window_samples].
            queries: One query per source, [B, N, ...]; None for a system without queries.
            gains: Gains of the sources in training, [B, N]; None for 1.
            step: Number of optimiser steps done, for terms that begin later. None includes all such terms, so that a
                validation measures the same loss during a whole run.
            batch_mean: For mixtures that are part of a larger batch: turns a mean over the part into a mean over the
                batch, with gradient. Terms that are no means over mixtures need it.

        Returns:
            `loss`, a float32 scalar with gradient; if a system has several terms, also the terms.
        """

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over many batches, from the means of its parts over the batches."""
        return parts["loss"]

    @torch.no_grad()
    def masks(self, spectrum: Tensor, queries: Tensor | None = None) -> Tensor:
        """Return the masks of N queries (or of all heads) for each spectrum, on linear bins.

        Args:
            spectrum: Spectra of the mixtures, complex [B, bins, frames].
            queries: Queries of the wanted sounds, [B, N, ...]; None for a system without queries.

        Returns:
            Masks in [0, 1], float32 [B, N, bins, frames].

        Raises:
            RuntimeError: When the model is in training mode, where masks depend on the batch and change its statistics.
        """
        if self.training:
            raise RuntimeError("The model is in training mode: call model.eval() before separating.")
        return self.soft_masks(spectrum, queries)

    def soft_masks(self, spectrum: Tensor, queries: Tensor | None = None) -> Tensor:
        """Return masks as `masks` does, with gradient and in any mode, for training."""
        picture = network_input(self.front_end, spectrum, self.config.input)
        return self.front_end.to_linear(torch.sigmoid(self(picture, queries).float()))

    def mask(self, spectrum: Tensor, query: Tensor, *, threshold: float | None = None) -> Tensor:
        """Return the mask of one query for each spectrum: [B, ...] queries -> float32 [B, bins, frames], see `masks`.

        Args:
            spectrum: Spectra of the mixtures, complex [B, bins, frames].
            query: One query per mixture, [B, ...].
            threshold: Threshold of a binary mask (1 above it); None, as in the paper, for a soft mask.
        """
        mask = self.masks(spectrum, query[:, None])[:, 0]
        return mask if threshold is None else (mask > threshold).float()

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Tensor, *, threshold: float | None = None) -> Tensor:
        """Separate one window: mixture spectrum times mask (so the mixture's phase), inverse STFT, clip to [-1, 1].

        For sound of another length see `separate_long`.

        Args:
            mixture: Mixtures, float [B, window_samples], in [-1, 1].
            query: One query per mixture, [B, ...].
            threshold: Threshold of a binary mask, or None for a soft one, see `mask`.

        Returns:
            float32 [B, output_samples] (65,280 by default).

        Raises:
            ValueError: When the mixture does not have window_samples samples.
            RuntimeError: When the model is in training mode.
        """
        spectrum = self._window_spectrum(mixture)
        return self.front_end.istft(spectrum * self.mask(spectrum, query, threshold=threshold)).clamp(-1, 1)

    @torch.no_grad()
    def separate_all(self, mixture: Tensor, queries: Tensor | None = None) -> Tensor:
        """Separate one window for N queries or all heads at once; otherwise as `separate`, always with soft masks.

        Returns:
            float32 [B, N, output_samples].
        """
        spectrum = self._window_spectrum(mixture)
        return self.front_end.istft(spectrum[:, None] * self.masks(spectrum, queries)).clamp(-1, 1)

    def _window_spectrum(self, mixture: Tensor) -> Tensor:
        expected = self.config.front_end.window_samples
        if mixture.ndim != 2 or mixture.shape[-1] != expected:
            raise ValueError(f"The mixture has shape {tuple(mixture.shape)}; expected [batch, {expected}].")
        return self.front_end.stft(mixture)


class QuerySeparator(Separator):
    """System with queries: a query path and the fusion on top of the U-Net, and optional noise heads for training.

    Args:
        config: Parts and sizes of the system; None for CLIPSep.
    """

    def __init__(self, config: SeparatorConfig | None = None) -> None:
        super().__init__(config or SeparatorConfig())
        config = self.config
        self.query = query_path(config)
        self.fusion = MaskFusion(config.channels, config.fusion)
        self.noise = None
        if config.noise is not None:
            self.noise = NoiseHeads(config.sources, config.channels, config.noise.input, config.noise.initial_bias)

    def forward(self, log_magnitude: Tensor, queries: Tensor | None) -> Tensor:
        """Return mask logits of the queries, see `Separator.forward`."""
        if self.config.condition is None:
            return self.fusion(self.unet(log_magnitude), self._vectors(queries))
        if queries is None:
            raise ValueError(_ASK)
        vectors, states = unpack_text(queries, self.config.query_dimensions, self.config.condition.state_dimensions)
        coefficients = self.fusion.coefficients(self.query(vectors))
        return self.unet(log_magnitude, states, coefficients) + self.fusion.bias

    def loss(
        self,
        audio: Tensor,
        queries: Tensor | None,
        gains: Tensor | None = None,
        *,
        step: int | None = 0,
        batch_mean: BatchMean | None = None,
    ) -> dict:
        """Return the weighted BCE of the sources' masks, or the weighted L1 of magnitudes, each with its own query.

        With noise heads, it is the loss of the masks united with the noise masks, and the parts are `mask_loss`,
        `noise_activation` (the paper's A), `noise_penalty`, and with a `query_weight` also `query_penalty`, the second
        regulariser. Before `start_step`, the noise masks are not used and there are no penalties.
        """
        options = self.config.loss
        if options.kind == "magnitudes":
            parts = make_parts(self.front_end, audio[:, :, None], None if gains is None else gains[:, :, None])
            predicted = self.soft_masks(parts.spectrum, queries) * parts.magnitude[:, None]
            weights = pixel_weights(parts.magnitude, options.pixel_weight)
            return {"loss": reconstruction_losses(predicted, parts.parts, weights, options.sources).mean()}
        example = make_example(self.front_end, audio, gains, pixel_weight=options.pixel_weight)
        if self.noise is None:
            logits = self(example.log_magnitude, queries)
            return {"loss": weighted_mask_loss(logits, example.targets, example.weights, options.sources)}
        features, vectors = self.unet(example.log_magnitude), self._vectors(queries)
        logits = self.fusion(features, vectors)
        mean = batch_mean or (lambda value: value)
        return self._noise_loss(logits, self._noise_logits(features, vectors), example, step, mean)

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the total loss; the noise regulariser is computed from the mean activation, not per batch."""
        if "noise_penalty" not in parts:
            return parts["loss"]
        return parts["loss"] - parts["noise_penalty"] + self._noise_penalty(parts["noise_activation"])

    @property
    def _noise_options(self) -> NoiseConfig:
        assert self.config.noise is not None, "a model without noise heads has no noise loss"
        return self.config.noise

    def _noise_penalty(self, activation: Tensor) -> Tensor:
        options = self._noise_options
        return options.activation_weight * torch.relu(activation - options.gamma)

    def _noise_loss(
        self, logits: Tensor, noise_logits: Tensor, example, step: int | None, batch_mean: BatchMean
    ) -> dict:
        options, sources = self._noise_options, self.config.loss.sources
        pictures = (example.targets, example.weights)
        activation = batch_mean(noise_activation(noise_logits))
        if step is not None and step < options.start_step:
            mask_loss = weighted_mask_loss(logits, *pictures, sources)
            # Multiplied by 0 and not left out: DDP expects a gradient, even a zero one, for every parameter.
            return {"loss": mask_loss + 0 * activation, "mask_loss": mask_loss, "noise_activation": activation}
        penalty = self._noise_penalty(activation)
        if options.query_weight == 0:
            mask_loss = noise_invariant_loss(logits, noise_logits, *pictures, sources)
            return {
                "loss": mask_loss + penalty,
                "mask_loss": mask_loss,
                "noise_activation": activation,
                "noise_penalty": penalty,
            }
        mask_loss, query_penalty = regularised_noise_loss(
            logits, noise_logits, *pictures, sources, weight=options.query_weight, margin=options.query_margin
        )
        return {
            "loss": mask_loss + penalty + query_penalty,
            "mask_loss": mask_loss,
            "noise_activation": activation,
            "noise_penalty": penalty,
            "query_penalty": query_penalty,
        }

    @torch.no_grad()
    def noise_masks(self, spectrum: Tensor, queries: Tensor) -> Tensor:
        """Return the masks of the noise heads, to inspect what they have learned; separation does not use them.

        Args:
            spectrum: Spectra of the mixtures, complex [B, bins, frames].
            queries: Queries of the wanted sounds, [B, N, ...].

        Returns:
            float32 [B, heads, bins, frames].

        Raises:
            ValueError: When the system has no noise heads.
        """
        if self.noise is None:
            raise ValueError("This system has no noise heads.")
        picture = network_input(self.front_end, spectrum, self.config.input)
        logits = self._noise_logits(self.unet(picture), self._vectors(queries))
        return self.front_end.to_linear(torch.sigmoid(logits.float()))

    def _noise_logits(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Return mask logits of the noise heads, `[B, heads, H, W]`."""
        assert self.noise is not None, "a model without noise heads has no noise masks"
        logits = self.fusion(features, self.noise(vectors))
        return logits if self.noise.bias is None else logits + self.noise.bias

    def _vectors(self, queries: Tensor | None) -> Tensor:
        if queries is None:
            raise ValueError(_ASK)
        return self.query(queries)


class PermutationSeparator(Separator):
    """PIT: N masks at once, without queries; in training, the best assignment decides which head is which source.

    Args:
        config: Parts and sizes of the system, with `query` `none`.
    """

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__(config)
        self.heads = nn.Conv2d(config.channels, config.sources, kernel_size=1)
        initialise(self.heads, config.initial_weights)

    def forward(self, log_magnitude: Tensor, queries: Tensor | None = None) -> Tensor:
        """Return mask logits of all heads, see `Separator.forward`."""
        if queries is not None:
            raise ValueError("This system cannot be asked for a sound; it puts out all sources (queries=None).")
        return self.heads(self.unet(log_magnitude))

    def loss(
        self,
        audio: Tensor,
        queries: Tensor | None = None,
        gains: Tensor | None = None,
        *,
        step: int | None = 0,
        batch_mean: BatchMean | None = None,
    ) -> dict:
        """Return the weighted BCE under each example's best assignment of heads to sources.

        With a loss of magnitudes, it is MixIT's: every head belongs to one source, which is the sum of its heads.

        Raises:
            ValueError: When masks are compared, and the number of sources differs from the number of heads.
        """
        if self.config.loss.kind == "magnitudes":
            parts = make_parts(self.front_end, audio[:, :, None], None if gains is None else gains[:, :, None])
            estimates = self.soft_masks(parts.spectrum) * parts.magnitude[:, None]
            weights = pixel_weights(parts.magnitude, self.config.loss.pixel_weight)
            losses = assignment_reconstruction_losses(estimates, parts.parts, weights, self.config.loss.sources)
            return {"loss": losses.mean()}
        if audio.shape[1] != self.config.sources:
            raise ValueError(f"The mixtures have {audio.shape[1]} sources and the model {self.config.sources} heads.")
        options = self.config.loss
        example = make_example(self.front_end, audio, gains, pixel_weight=options.pixel_weight)
        logits = self(example.log_magnitude, queries)
        return {"loss": permutation_loss(logits, example.targets, example.weights, options.sources)}


# Level (RMS) of a mixture whose separated sounds are ranked: -20 dB.
RANKED_LEVEL = 0.1


class Ranker(Protocol):
    """An encoder of sound whose vectors lie in the space of the queries."""

    def embed_sound(self, sound: Tensor, sample_rate: int) -> Tensor:
        """Return unit vectors of sounds, `[N, samples]` -> `[N, D]`."""


class RankedSeparator(PermutationSeparator):
    """Heads without queries, of which a query gets the one that sounds the most like it (MixIT, asked in words).

    Training, and `masks` without queries, are those of `PermutationSeparator`. Before it is asked, it needs the encoder
    that made the queries: `rank_by`. The encoder is no part of the weights.

    Args:
        config: Parts and sizes of the model, with `query` `ranked`.
    """

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__(config)
        self._ranker: Ranker | None = None

    def rank_by(self, ranker: Ranker) -> None:
        """Set the encoder of sound that heads are compared with queries by."""
        self._ranker = ranker

    @torch.no_grad()
    def masks(self, spectrum: Tensor, queries: Tensor | None = None) -> Tensor:
        """Return the mask of the best head for each query, or of all heads without queries; see `Separator.masks`.

        Raises:
            RuntimeError: When it is asked, and no encoder has been set.
        """
        heads = super().masks(spectrum)
        if queries is None:
            return heads
        best = self.likeness(spectrum, heads, queries).argmax(dim=2)
        return heads.gather(1, best[:, :, None, None].expand(-1, -1, *heads.shape[2:]))

    @torch.no_grad()
    def likeness(self, spectrum: Tensor, heads: Tensor, queries: Tensor) -> Tensor:
        """Return the cosine of each query with the sound of each head, float32 [B, N, heads].

        Args:
            spectrum: Spectra of the mixtures, complex [B, bins, frames].
            heads: Masks of all heads, [B, heads, bins, frames].
            queries: Queries, [B, N, ...].

        Raises:
            RuntimeError: When no encoder has been set.
        """
        if self._ranker is None:
            raise RuntimeError("The heads cannot be ranked: call rank_by with the encoder of the queries.")
        # One level for all mixtures: encoders of sound are not indifferent to it.
        level = self.front_end.istft(spectrum).square().mean(dim=-1).sqrt().clamp_min(1e-8)
        sounds = self.front_end.istft(spectrum[:, None] * heads) * (RANKED_LEVEL / level)[:, None, None]
        vectors = self._ranker.embed_sound(sounds.flatten(0, 1), self.config.front_end.sample_rate)
        vectors = vectors.unflatten(0, heads.shape[:2]).to(queries.device)
        return torch.einsum("bnd,bmd->bnm", queries.float(), vectors)


def _unet(config: SeparatorConfig) -> nn.Module:
    if config.condition is None:
        return AudioUNet(config.unet, out_channels=config.channels, initial_weights=config.initial_weights)
    sizes = ConditionalUNetConfig(
        levels=config.unet.levels,
        width=config.unet.width,
        max_multiplier=config.unet.max_multiplier,
        conditioned=config.condition.levels,
        heads=config.condition.heads,
        mlp_ratio=config.condition.mlp_ratio,
        state_dimensions=config.condition.state_dimensions,
    )
    return ConditionalUNet(sizes, out_channels=config.channels)


def build_separator(config: SeparatorConfig | None = None) -> Separator:
    """Return a freshly initialised system of a configuration; CLIPSep by default."""
    config = config or SeparatorConfig()
    of_kind = {"none": PermutationSeparator, "ranked": RankedSeparator}
    return of_kind.get(config.query, QuerySeparator)(config)
