"""Recipe of a vocoder: the blocks that all families share, and those of BigVGAN."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vidaudio.config.recipes import RecipeModel
from vidaudio.errors import RecipeError
from vidaudio.generation.discriminators import DiscriminatorConfig
from vidaudio.generation.vocoder import VocoderConfig
from vidaudio.generation.vocoder_losses import VocoderLossConfig
from vidaudio.tasks.mel_block import MAX_WINDOW_SECONDS, MelBlock
from vidaudio.training.blocks import OptimiserBlock, ScheduleBlock
from vidaudio.training.recipe import BatchBlock, CommonRecipe


class GeneratorBlock(RecipeModel):
    """Generator, see vidaudio.generation.VocoderConfig; the defaults have 14 million numbers."""

    channels: int = 512
    rates: tuple[int, ...] = (8, 4, 4, 2, 2)
    kernels: tuple[int, ...] | None = Field(None, description="none: twice the rates")
    block_kernels: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    block_type: Literal["1", "2"] = "1"
    activation: Literal["snakebeta", "snake"] = "snakebeta"
    log_scale: bool = True
    final_tanh: bool = True
    final_bias: bool = True


class DiscriminatorBlock(RecipeModel):
    """Discriminators, see vidaudio.generation.DiscriminatorConfig."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_scale: float = 1.0
    resolutions: tuple[tuple[int, int, int], ...] = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
    resolution_scale: float = 1.0

    def config(self) -> DiscriminatorConfig:
        """Return the sizes.

        Raises:
            RecipeError: When they do not fit together.
        """
        return DiscriminatorConfig(**self.model_dump())


class ModelBlock(RecipeModel):
    """Parts and sizes of the vocoder and of its discriminators."""

    mel: MelBlock = MelBlock()
    generator: GeneratorBlock = GeneratorBlock()
    discriminator: DiscriminatorBlock = DiscriminatorBlock()

    def vocoder(self) -> VocoderConfig:
        """Return the sizes of the generator.

        Raises:
            RecipeError: When they do not fit together.
        """
        return VocoderConfig(self.mel.config(), **self.generator.model_dump())


class LossBlock(RecipeModel):
    """Weights of the losses, see vidaudio.generation.VocoderLossConfig."""

    mel: Literal["multi_scale", "single"] = "multi_scale"
    mel_weight: float | None = Field(None, ge=0, description="none: 15 for multi_scale, 45 for single")
    adversarial_weight: float = Field(1.0, ge=0)
    feature_weight: float = Field(2.0, ge=0)

    def config(self) -> VocoderLossConfig:
        """Return the weights."""
        return VocoderLossConfig(**self.model_dump())


class DataBlock(BatchBlock):
    """Contents of a batch; paths are arguments, not settings."""

    window_seconds: float = Field(2.048, gt=0, le=MAX_WINDOW_SECONDS, description="that are read of a clip")
    segment_samples: int = Field(8192, ge=1, description="that are trained on, cut from the window at random")
    frame_spacing_seconds: float = Field(1.0, gt=0)
    max_padding_seconds: float = Field(0.55, ge=0)
    gain_range: tuple[float, float] | None = Field(
        None, description="factors of the sound, drawn evenly; none: no gain"
    )
    use_weights: bool = Field(True, description="draw the samples of a pack with weights (pack.weight) by them")


class VocoderRecipe(CommonRecipe):
    """Recipe of one training run of a vocoder."""

    system: Literal["bigvgan"] = Field("bigvgan", description="which paper's composition it is")
    model: ModelBlock = ModelBlock()
    data: DataBlock = DataBlock()
    loss: LossBlock = LossBlock()
    optimiser: OptimiserBlock = OptimiserBlock(
        learning_rate=1e-4, betas=(0.8, 0.99), weight_decay=0.01, gradient_clip_norm=500.0
    )
    schedule: ScheduleBlock = ScheduleBlock(kind="exponential", steps=1_000_000, warmup_steps=1)

    @property
    def window_frames(self) -> int:
        """Return the frames of the mel of a window."""
        mel = self.model.mel
        return max(1, round(self.data.window_seconds * mel.sample_rate / mel.hop))

    @property
    def window_samples(self) -> int:
        """Return the samples of a window."""
        return self.window_frames * self.model.mel.hop

    @property
    def segment_frames(self) -> int:
        """Return the frames of the mel of a segment."""
        return self.data.segment_samples // self.model.mel.hop


def check_vocoder(recipe: VocoderRecipe, where: str) -> None:
    """Check that the parts of a recipe fit together.

    Raises:
        RecipeError: When a part does not fit; the message names the part.
    """
    data, mel = recipe.data, recipe.model.mel
    recipe.model.vocoder()
    segment = data.segment_samples
    if segment % mel.hop or segment > recipe.window_samples:
        raise RecipeError(
            f"{where}: data.segment_samples is {segment}: it must be a multiple of model.mel.hop, {mel.hop}, and at "
            f"most the {recipe.window_samples} samples of data.window_seconds"
        )
    least = max(recipe.model.discriminator.config().least_samples, (mel.n_fft - mel.hop) // 2 + 1)
    if segment < least:
        raise RecipeError(
            f"{where}: data.segment_samples is {segment}: mel and discriminators need {least} samples at least"
        )
    if data.gain_range is not None and not 0 <= data.gain_range[0] <= data.gain_range[1] <= 1:
        raise RecipeError(
            f"{where}: data.gain_range is {list(data.gain_range)}: two rising factors between 0 and 1 are wanted, "
            "since a vocoder's sound stays between -1 and 1"
        )
