"""The blocks of a training recipe: what may be said in each, and what stands where nothing is said."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from vidaudio.config.recipes import RecipeModel
from vidaudio.encoders.prompts import CLIPSEP_TEMPLATES, TRAINING_TEMPLATE, check_templates

Modality = Literal["image", "text"]
# Far more than any sound needs, and little enough for memory: recipes also come with weights of other people's.
MAX_SAMPLE_RATE, MAX_N_FFT, MAX_LEVELS = 384_000, 1 << 16, 16
MAX_WINDOW_SECONDS, MAX_WINDOW_SAMPLES = 3600, 1 << 28


class FrontEndBlock(RecipeModel):
    """Spectrogram, see vidaudio.separation.FrontEndConfig.

    `window_samples` and `frames` follow from `data.window_seconds` where they are not stated, see
    `vidaudio.tasks.separation.window_length`; in a recipe that was read they are numbers.
    """

    sample_rate: int = Field(16_000, ge=1, le=MAX_SAMPLE_RATE)
    n_fft: int = Field(1024, ge=2, le=MAX_N_FFT)
    hop: int = Field(256, ge=1, le=MAX_N_FFT)
    window_samples: int | None = Field(None, ge=1, le=MAX_WINDOW_SAMPLES)
    log_rows: int = Field(256, ge=2, le=MAX_N_FFT)
    frames: int | None = Field(None, ge=1, le=MAX_WINDOW_SAMPLES)

    @model_validator(mode="after")
    def _rows_are_of_bins(self) -> FrontEndBlock:
        if self.log_rows > self.n_fft:
            raise ValueError(f"log_rows is {self.log_rows}: at most n_fft, {self.n_fft}, are made of a spectrum")
        return self


class UNetBlock(RecipeModel):
    """Audio U-Net, see vidaudio.separation.UNetConfig."""

    levels: int = Field(7, ge=2, le=MAX_LEVELS)
    width: int = 64
    max_multiplier: int = 8


class FusionBlock(RecipeModel):
    """From features and query to mask logits, see vidaudio.separation.FusionConfig."""

    sigmoid: Literal["outside", "inside"] = "outside"
    query_activation: Literal["sigmoid", "none"] = "sigmoid"


class NoiseBlock(RecipeModel):
    """Noise invariant training, see vidaudio.separation.NoiseConfig."""

    input: Literal["mean", "sum"] = "mean"
    gamma: float = Field(0.25, ge=0, description="total noise activation that costs nothing")
    activation_weight: float = Field(0.1, ge=0, description="the paper's lambda")
    query_weight: float = Field(0.0, ge=0, description="the second regulariser's coefficient")
    query_margin: float = Field(0.1, ge=0, description="the second regulariser's margin, epsilon in the code")
    start_step: int = Field(0, ge=0, description="steps without noise heads first")


class LossBlock(RecipeModel):
    """See vidaudio.separation.LossConfig."""

    pixel_weight: Literal["clamped_log", "magnitude"] = "clamped_log"
    sources: Literal["mean", "sum"] = "mean"


class ModelBlock(RecipeModel):
    channels: int = Field(32, description="feature pictures of the U-Net and numbers of a query, k")
    noise: NoiseBlock | None = Field(None, description="noise heads, as many as sources")
    fusion: FusionBlock = FusionBlock()
    front_end: FrontEndBlock = FrontEndBlock()
    unet: UNetBlock = UNetBlock()


class DataBlock(RecipeModel):
    """What one batch is made of; paths are arguments, not settings."""

    sources: int = Field(2, ge=2, description="different sources a mixture")
    window_seconds: float | None = Field(
        None, gt=0, le=MAX_WINDOW_SECONDS, description="of sound, to the nearest length that fits; 4.096 unless stated"
    )
    window_frames: int = Field(3, ge=1)
    frame_spacing_seconds: float = Field(1.0, gt=0)
    max_padding_seconds: float = Field(0.55, ge=0)
    gain_range: tuple[float, float] | None = (0.5, 1.5)
    batch_size: int = Field(32, ge=1, description="mixtures a step of the optimiser, over all ranks")
    accumulate: int = Field(1, ge=1, description="parts in which a step's batch is worked through, one after another")
    workers: int = Field(8, ge=0, description="loader processes")
    vectors: str | None = Field(None, description="of which encoder of the pack, for queries of kind corpus; its first")
    partners: Literal["neighbours", "uniform", "distant"] = Field(
        "neighbours", description="with whom a sample is mixed, see vidaudio.stream.StreamConfig; papers: uniform"
    )
    same_source: bool = Field(False, description="with uniform partners, let sources meet themselves, as in the papers")
    distant_candidates: int = Field(8, ge=1, description="with distant partners, out of how many the least alike comes")
    across_corpora: bool = Field(False, description="of several corpora, mix samples of different ones")
    block_shards: int = Field(16, ge=1, description="shards mixed with one another in an epoch")
    cache_folder: str | None = Field(None, description="for copies of a remote corpus's shards")
    cache_bytes: int = Field(50 * 10**9, ge=0, description="what those copies may take")
    allow_other: bool = Field(False, description="resume although the corpus is not the one the run began with")

    @model_validator(mode="after")
    def _parts_are_equal(self) -> DataBlock:
        if self.batch_size % self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} has no {self.accumulate} equal parts to accumulate")
        return self

    @property
    def part_size(self) -> int:
        """Mixtures that are worked through at a time, over all ranks."""
        return self.batch_size // self.accumulate

    @field_validator("gain_range")
    @classmethod
    def _low_then_high(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError("the lower gain comes first, and neither is below 0")
        return value


class BertBlock(RecipeModel):
    """Which BERT gives labels their vectors, see vidaudio.encoders.bert.BertSpec."""

    model: str = "google/bert_uncased_L-4_H-256_A-4"
    pooling: Literal["cls", "mean"] = "cls"


class PicturesBlock(RecipeModel):
    """The ResNet-18 that looks at the pictures themselves."""

    weights: str | None = Field(None, description="a file of torchvision's ResNet-18, or IMAGENET1K_V1")
    trained: bool = Field(True, description="as in Zhao et al.; False: frozen, as CLIPSep re-implemented it")
    augment: bool = Field(True, description="random crop and flip in training")


class QueryBlock(RecipeModel):
    """What the system is asked with."""

    kind: Literal["corpus", "label", "bert", "vectors", "pictures", "none"] = Field(
        "corpus",
        description="the corpus's vectors; a learned vector a label; BERT's; a table's; a ResNet's; it is not asked",
    )
    encoder: Literal["clip", "resnet18-dilated"] = Field("clip", description="what the corpus's vectors must be of")
    train: Literal["image", "text", "alternate"] = "image"
    validation: Modality = "image"
    train_templates: tuple[str, ...] = Field((TRAINING_TEMPLATE,), description="sentences for a label in training")
    templates: tuple[str, ...] = Field(CLIPSEP_TEMPLATES, description="sentences whose mean stands for a label")
    unlabelled: Literal["skip", "refuse"] = Field("skip", description="clips without a label, where labels are asked")
    label_dimensions: int = Field(512, ge=1, description="of a learned label vector")
    bert: BertBlock = BertBlock()
    vectors: str | None = Field(None, description="a table of a vector a label, .npz, for queries of kind vectors")
    pictures: PicturesBlock = PicturesBlock()

    @field_validator("templates", "train_templates")
    @classmethod
    def _have_a_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_templates(value)


class OptimiserBlock(RecipeModel):
    """Adam, or stochastic gradient descent with momentum."""

    kind: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = 0.0
    pretrained_factor: float = Field(1.0, gt=0, description="of the learning rate, for a pretrained part")
    gradient_clip_norm: float | None = 1.0


class ScheduleBlock(RecipeModel):
    """Learning rate: (step + 1) / warm-up, then linear down to `final_factor`, then constant.

    Or, with `kind: milestones`, constant but for a fall by `milestone_factor` at each milestone.
    """

    kind: Literal["linear", "milestones"] = "linear"
    steps: int = Field(200_000, ge=1)
    warmup_steps: int = Field(5_000, ge=1)
    decay_until_step: int = Field(100_000, ge=1)
    final_factor: float = Field(0.1, gt=0, le=1)
    milestones: tuple[int, ...] = ()
    milestone_factor: float = Field(0.1, gt=0, le=1)


class ValidationBlock(RecipeModel):
    """What the best weights are chosen by."""

    split: str = "val"
    every_steps: int = Field(10_000, ge=1)
    shown: int = Field(4, ge=0, description="mixtures whose pictures and sounds are logged")
    allow_test: bool = Field(False, description="choose weights on a test split, which spoils it as a test")

    @model_validator(mode="after")
    def _not_by_test(self) -> ValidationBlock:
        if self.split.lower().startswith("test") and not self.allow_test:
            raise ValueError(
                f"split {self.split!r} is a test split: weights chosen on it look better on it than they are; validate "
                "on another split, or say validation.allow_test=true"
            )
        return self


class AverageBlock(RecipeModel):
    """A moving average of the weights, which is then what is validated and saved as best."""

    decay: float = Field(0.999, gt=0, lt=1, description="what the average keeps of itself a step")


class StateBlock(RecipeModel):
    """States to go on from, beside `last.ckpt`, which every validation writes."""

    every_steps: int | None = Field(None, ge=1, description="also write states/step-N.ckpt so often")
    keep_last: int = Field(3, ge=1, description="how many of those stay")


class LogBlock(RecipeModel):
    every_steps: int = Field(50, ge=1)
    to: Literal["tensorboard", "wandb", "none"] = Field("tensorboard", description="beside logs/metrics.csv")
    wandb_project: str = "vidaudio"
