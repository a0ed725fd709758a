"""CLIPSep: pull out of a mixture the sound that a CLIP embedding (of a picture or of text) describes.

Dong et al., CLIPSep: Learning Text-queried Sound Separation with Noisy Unlabeled Videos, ICLR 2023; sizes and formulas
as in its published code. 30,290,659 parameters at the default sizes; the CLIP encoder is not part of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vidaudio.errors import RecipeError
from vidaudio.separation.example import make_example, mixture_magnitude
from vidaudio.separation.frontend import FrontEnd, FrontEndConfig
from vidaudio.separation.fusion import MaskFusion
from vidaudio.separation.losses import weighted_mask_loss
from vidaudio.separation.query import LinearQuery
from vidaudio.separation.unet import AudioUNet, UNetConfig


@dataclass(frozen=True, slots=True)
class CLIPSepConfig:
    """Sizes of a CLIPSep.

    Args:
        query_dimensions: Of the embeddings that serve as queries.
        channels: Feature pictures the U-Net puts out, k.
        front_end: Sizes of the spectrogram.
        unet: Sizes of the U-Net.

    Raises:
        RecipeError: A size below 1, or a spectrogram whose sides the U-Net cannot halve `unet.levels` times.
    """

    query_dimensions: int = 512
    channels: int = 32
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        for name in ("query_dimensions", "channels"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        multiple = 2**self.unet.levels
        for name in ("log_rows", "frames"):
            side = getattr(self.front_end, name)
            if side % multiple:
                raise RecipeError(
                    f"front_end.{name} is {side}: a U-Net of {self.unet.levels} levels needs a multiple of {multiple}."
                )


class CLIPSep(nn.Module):
    """Front end, U-Net, query path, fusion.

    Move it to channels_last and run it under bfloat16 autocast for speed: the front end and the loss stay in float32.
    """

    def __init__(self, config: CLIPSepConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CLIPSepConfig()
        self.front_end = FrontEnd(config.front_end)
        self.unet = AudioUNet(config.unet, out_channels=config.channels)
        self.query = LinearQuery(config.query_dimensions, config.channels)
        self.fusion = MaskFusion(config.channels)

    def forward(self, log_magnitude: Tensor, queries: Tensor) -> Tensor:
        """Mask logits of N queries about each mixture.

        Args:
            log_magnitude: Natural log of the warped mixture magnitude, float32 [B, 1, log_rows, frames].
            queries: Embeddings, not normalised, [B, N, query_dimensions].

        Returns:
            [B, N, log_rows, frames]; their sigmoid is the mask.
        """
        return self.fusion(self.unet(log_magnitude), self.query(queries))

    def loss(self, audio: Tensor, queries: Tensor, gains: Tensor | None = None) -> dict[str, Tensor]:
        """Weighted BCE of the masks of the sources, each asked for by its own query.

        Args:
            audio: The N sources of each mixture, int16 or float in [-1, 1], [B, N, window_samples].
            queries: One embedding a source, [B, N, query_dimensions].
            gains: [B, N] in training, None for 1.

        Returns:
            `loss`, a float32 scalar with gradient (systems with several terms put them beside it).
        """
        example = make_example(self.front_end, audio, gains)
        logits = self(example.log_magnitude, queries)
        return {"loss": weighted_mask_loss(logits, example.targets, example.weights)}

    @torch.no_grad()
    def mask(self, spectrum: Tensor, query: Tensor, *, threshold: float | None = None) -> Tensor:
        """The mask of one query for each spectrum, on linear bins.

        Args:
            spectrum: Of the mixtures, complex [B, bins, frames].
            query: One embedding a mixture, [B, query_dimensions].
            threshold: Makes the mask binary (1 above it); None, as in the paper, leaves it soft.

        Returns:
            In [0, 1], float32 [B, bins, frames].

        Raises:
            RuntimeError: The model is in training mode, where masks depend on the batch and change its statistics.
        """
        if self.training:
            raise RuntimeError("The model is in training mode: call model.eval() before separating.")
        log_magnitude = mixture_magnitude(self.front_end, spectrum).log()[:, None]
        mask = self.front_end.to_linear(torch.sigmoid(self(log_magnitude, query[:, None]).float()))[:, 0]
        return mask if threshold is None else (mask > threshold).float()

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Tensor, *, threshold: float | None = None) -> Tensor:
        """Separate one window: mixture spectrum times mask (so the mixture's phase), inverse STFT, clip to [-1, 1].

        For sound of another length see `separate_long`.

        Args:
            mixture: float [B, window_samples], in [-1, 1].
            query: One embedding a mixture, [B, query_dimensions].
            threshold: See `mask`.

        Returns:
            float32 [B, output_samples] (65,280 by default).

        Raises:
            ValueError: Another number of samples.
            RuntimeError: The model is in training mode.
        """
        spectrum = self._window_spectrum(mixture)
        return self.front_end.istft(spectrum * self.mask(spectrum, query, threshold=threshold)).clamp(-1, 1)

    @torch.no_grad()
    def separate_pair(self, mixture: Tensor, query: Tensor, *, threshold: float | None = None) -> Tensor:
        """What `separate` gives, and beside it the rest: the same with 1 - mask, the second estimate of an evaluation.

        Returns:
            float32 [B, 2, output_samples].
        """
        spectrum = self._window_spectrum(mixture)
        mask = self.mask(spectrum, query, threshold=threshold)
        return self.front_end.istft(spectrum[:, None] * torch.stack([mask, 1 - mask], dim=1)).clamp(-1, 1)

    def _window_spectrum(self, mixture: Tensor) -> Tensor:
        expected = self.config.front_end.window_samples
        if mixture.ndim != 2 or mixture.shape[-1] != expected:
            raise ValueError(f"The mixture has shape {tuple(mixture.shape)}; expected [batch, {expected}].")
        return self.front_end.stft(mixture)
