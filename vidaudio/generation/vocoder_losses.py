"""Losses of a vocoder's training: least squares against discriminators, likeness of their layers, and of mels.

The parts are the bigvgan library's; here they are weighed and named, and run in float32 whatever the autocast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidaudio.generation.discriminators import Judgement
from vidaudio.generation.libraries import require
from vidaudio.generation.mel import MelConfig, MelFrontEnd

# Published weights of the mel's loss: BigVGAN v2's and v1's.
MEL_WEIGHTS = {"multi_scale": 15.0, "single": 45.0}


@dataclass(frozen=True)
class VocoderLossConfig:
    """Weights of the losses.

    Attributes:
        mel: `multi_scale`: decimal logarithms of seven mels, as in BigVGAN v2; `single`: the vocoder's own mel, v1.
        mel_weight: Weight of the mel's loss; None for the published one, 15 or 45.
        adversarial_weight: Weight of the discriminators' judgement.
        feature_weight: Weight of the differences between the discriminators' layers.
    """

    mel: Literal["multi_scale", "single"] = "multi_scale"
    mel_weight: float | None = None
    adversarial_weight: float = 1.0
    feature_weight: float = 2.0


class VocoderLosses(nn.Module):
    """Losses of a vocoder's generator and of its discriminators.

    Args:
        mel: Mel of the vocoder.
        config: Weights; None for the defaults.

    Raises:
        UsageError: When bigvgan is not installed.
    """

    def __init__(self, mel: MelConfig, config: VocoderLossConfig | None = None) -> None:
        super().__init__()
        self.config = config or VocoderLossConfig()
        self.front_end = MelFrontEnd(mel)
        self._library = require("bigvgan.loss", extra="vocoder")
        self._scales = self._library.MultiScaleMelSpectrogramLoss(sampling_rate=mel.sample_rate)
        weight = self.config.mel_weight
        self.mel_weight = MEL_WEIGHTS[self.config.mel] if weight is None else weight

    def discriminator(self, real: Sequence[Judgement], made: Sequence[Judgement]) -> Tensor:
        """Return the loss of the discriminators: squares of 1 - scores of real sounds, and of scores of generated ones.

        The loss is LSGAN's (Mao et al., ICCV 2017), summed over the discriminators.
        """
        return torch.stack(
            [
                (1 - real_scores.float()).square().mean() + made_scores.float().square().mean()
                for (real_scores, _), (made_scores, _) in zip(real, made, strict=True)
            ]
        ).sum()

    def generator(
        self, real_audio: Tensor, made_audio: Tensor, real: Sequence[Judgement], made: Sequence[Judgement]
    ) -> dict[str, Tensor]:
        """Return the generator's losses by name: `loss`, their weighted sum, and `adversarial`, `features` and `mel`.

        Args:
            real_audio: Recorded sounds, `[B, samples]`.
            made_audio: Generated sounds, `[B, samples]`.
            real: Judgements on the recorded sounds.
            made: Judgements on the generated sounds.
        """
        with torch.autocast(made_audio.device.type, enabled=False):
            adversarial, _ = self._library.generator_loss([scores.float() for scores, _ in made])
            # The library's sum is twice the sum of the layers' mean differences.
            features = 0.5 * self._library.feature_loss(_layers(real), _layers(made))
            mel = self.mel(real_audio.float(), made_audio.float())
        weights = self.config
        loss = weights.adversarial_weight * adversarial + weights.feature_weight * features + self.mel_weight * mel
        return {"loss": loss, "adversarial": adversarial, "features": features, "mel": mel}

    def mel(self, real: Tensor, made: Tensor) -> Tensor:
        """Return the mean absolute difference of logarithms of mels, of one mel or summed over seven."""
        if self.config.mel == "single":
            return functional.l1_loss(self.front_end.log_mel(made), self.front_end.log_mel(real))
        return self._scales(made[:, None], real[:, None])


def _layers(judgements: Sequence[Judgement]) -> list[list[Tensor]]:
    return [[layer.float() for layer in layers] for _, layers in judgements]
