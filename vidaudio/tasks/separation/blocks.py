"""Settings blocks of a separation recipe, with their defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from vidaudio.config.recipes import RecipeModel
from vidaudio.training.recipe import BatchBlock

Modality = Literal["image", "text"]
# Far more than any sound needs, but little enough for memory: recipes also come with other people's weights.
MAX_SAMPLE_RATE, MAX_N_FFT, MAX_LEVELS = 384_000, 1 << 16, 16
MAX_WINDOW_SECONDS, MAX_WINDOW_SAMPLES = 3600, 1 << 28

# Runs of at most so many steps begin without noise heads unless the recipe says otherwise.
SHORT_RUN = 10_000
SHORT_RUN_WITHOUT_HEADS = 1 / 5


class FrontEndBlock(RecipeModel):
    """Spectrogram, see vidaudio.separation.FrontEndConfig.

    If `window_samples` and `frames` are not given, they follow from `data.window_seconds`, see
    `vidaudio.tasks.separation.window_length`; in a recipe that was read they are numbers.
    """

    sample_rate: int = Field(16_000, ge=1, le=MAX_SAMPLE_RATE)
    n_fft: int = Field(1024, ge=2, le=MAX_N_FFT)
    hop: int = Field(256, ge=1, le=MAX_N_FFT)
    window_samples: int | None = Field(None, ge=1, le=MAX_WINDOW_SAMPLES)
    log_rows: int = Field(256, ge=2, le=MAX_N_FFT)
    frames: int | None = Field(None, ge=1, le=MAX_WINDOW_SAMPLES)
    frequencies: Literal["log", "linear"] = Field(
        "log", description="rows of the spectrogram; linear: the bins as they are"
    )

    @model_validator(mode="after")
    def _rows_are_of_bins(self) -> FrontEndBlock:
        bins = self.n_fft // 2 + 1
        if self.frequencies == "linear" and self.log_rows != bins:
            if "log_rows" in self.model_fields_set:
                raise ValueError(f"log_rows is {self.log_rows}: linear frequencies are the {bins} bins of the spectrum")
            object.__setattr__(self, "log_rows", bins)
        if self.log_rows > self.n_fft:
            raise ValueError(f"log_rows is {self.log_rows}: at most n_fft, {self.n_fft}, are made of a spectrum")
        return self


class UNetBlock(RecipeModel):
    """Audio U-Net, see vidaudio.separation.UNetConfig."""

    levels: int = Field(7, ge=2, le=MAX_LEVELS)
    width: int = 64
    max_multiplier: int = 8


class FusionBlock(RecipeModel):
    """Fusion of features and query into mask logits, see vidaudio.separation.FusionConfig."""

    sigmoid: Literal["outside", "inside"] = "outside"
    query_activation: Literal["sigmoid", "none"] = "sigmoid"


class NoiseBlock(RecipeModel):
    """Noise invariant training, see vidaudio.separation.NoiseConfig.

    With noise heads a training begins at a kink of the loss: two masks of 0.5 add up to the 1 at which the sum is cut
    off. The paper's 200,000 steps recover from that; short runs are better with first steps without the heads.
    """

    input: Literal["mean", "sum"] = "mean"
    gamma: float = Field(0.25, ge=0, description="total noise activation that costs nothing")
    activation_weight: float = Field(0.1, ge=0, description="the paper's lambda")
    query_weight: float = Field(0.0, ge=0, description="the second regulariser's coefficient")
    query_margin: float = Field(0.1, ge=0, description="the second regulariser's margin, epsilon in the code")
    start_step: int | None = Field(
        None,
        ge=0,
        description=f"steps without noise heads first; none: a fifth in runs of at most {SHORT_RUN:,} steps, else 0",
    )
    initial_bias: float | None = Field(
        None,
        ge=-20,
        le=20,
        description="where a bias of the noise masks' own begins; none: they share that of the masks",
    )


class ConditionBlock(RecipeModel):
    """Attention of the U-Net's inner levels to the text (BiModal), see vidaudio.separation.ConditionConfig."""

    levels: int = Field(3, ge=1, le=MAX_LEVELS)
    heads: int = Field(8, ge=1)
    mlp_ratio: int = Field(2, ge=1)


class LossBlock(RecipeModel):
    """Training loss, see vidaudio.separation.LossConfig."""

    kind: Literal["masks", "magnitudes"] = "masks"
    pixel_weight: Literal["clamped_log", "magnitude"] = "clamped_log"
    sources: Literal["mean", "sum"] = "mean"


class ModelBlock(RecipeModel):
    """Parts and sizes of the model."""

    channels: int = Field(32, description="feature pictures of the U-Net and numbers of a query, k")
    noise: NoiseBlock | None = Field(None, description="noise heads, as many as sources")
    fusion: FusionBlock = FusionBlock()
    front_end: FrontEndBlock = FrontEndBlock()
    unet: UNetBlock = UNetBlock()
    condition: ConditionBlock | None = Field(None, description="attention to the text; none: CLIPSep's U-Net")
    input: Literal["log", "log1p"] = Field("log", description="what the network reads of the magnitude")
    initial_weights: Literal["clipsep", "kaiming"] = Field(
        "clipsep", description="kaiming: quick start of CLIPSep's U-Net"
    )


class JitterBlock(RecipeModel):
    """Changes to separated sounds before the joint encoder hears them, see vidaudio.separation.sound_jitter."""

    gain_db: float = Field(0.0, ge=0, le=60, description="largest random gain, up and down")
    crop_share: float = Field(0.0, ge=0, lt=1, description="largest share of a sound that is left out")
    band_noise_db: float | None = Field(
        None, ge=-120, le=20, description="noise in a random band, by the sound's level"
    )


class ObjectiveBlock(RecipeModel):
    """What a separation system learns from: single sounds, or mixtures of which only the labels are known."""

    kind: Literal["sources", "parts", "mixit"] = Field(
        "sources", description="the single sounds; parts that are mixtures, by prompts; or parts without any (MixIT)"
    )
    reconstruction: float = Field(5.0, ge=0, description="weight of the parts' reconstruction, L_URL")
    consistency: float = Field(5.0, ge=0, description="weight of the consistency of sources with their part, L_CRL")
    contrast: float = Field(0.5, ge=0, description="weight of the contrast in the space of sound and text, L_CNT")
    target_scale: Literal["right", "released"] = Field("right", description="released: K times as quiet, a known fault")
    sound_level: Literal["sources", "mixture"] = Field(
        "sources", description="of separated sounds before the encoder; mixture: as published, N K times as quiet"
    )
    both_directions: bool = Field(False, description="contrast also from text to sound")
    gather_negatives: bool = Field(False, description="contrast with the texts of all ranks")
    mask_same_labels: bool = Field(False, description="other sounds of an equal text are no negatives")
    cap: float | None = Field(None, gt=-1, le=1, description="cosine above which a sound gains nothing")
    joint: str | None = Field(
        None, description="encoder of sound and text: a CLAP or a scorer's file; none: the CLAP of the queries"
    )
    held_out_joint: str | None = Field(None, description="another such encoder: measured, but not trained with")
    jitter: JitterBlock = JitterBlock()


class DataBlock(BatchBlock):
    """Contents of a batch; paths are arguments, not settings."""

    sources: int = Field(2, ge=2, description="different sources a mixture, or different parts")
    mixed: int = Field(1, ge=1, le=8, description="sources of a part, of which only the labels are known (BiModal's K)")
    natural: bool = Field(False, description="parts are clips that are mixtures already, told by captions or labels")
    single_share: float = Field(0.0, ge=0, lt=1, description="share of the mixtures whose parts are single sounds")
    singles: str | None = Field(None, description="packed corpus of these; none: that share of the corpus's sources")
    different_labels: bool = Field(False, description="the first labels of a mixture differ; with uniform partners")
    window_seconds: float | None = Field(
        None, gt=0, le=MAX_WINDOW_SECONDS, description="of sound, to the nearest length that fits; 4.096 unless stated"
    )
    window_frames: int = Field(3, ge=1)
    frame_spacing_seconds: float = Field(1.0, gt=0)
    max_padding_seconds: float = Field(0.55, ge=0)
    gain_range: tuple[float, float] | None = (0.5, 1.5)
    vectors: str | None = Field(None, description="of which encoder of the pack, for queries of kind corpus; its first")
    partners: Literal["neighbours", "uniform", "distant"] = Field(
        "neighbours", description="with whom a sample is mixed, see vidaudio.stream.StreamConfig; papers: uniform"
    )
    same_source: bool = Field(False, description="with uniform partners, let sources meet themselves, as in the papers")
    distant_candidates: int = Field(8, ge=1, description="with distant partners, out of how many the least alike comes")
    across_corpora: bool = Field(False, description="of several corpora, mix samples of different ones")
    use_weights: bool = Field(True, description="draw the samples of a pack with weights (pack.weight) by them")

    @field_validator("gain_range")
    @classmethod
    def _low_then_high(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError("the lower gain comes first, and neither is below 0")
        return value
