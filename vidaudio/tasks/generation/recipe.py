"""Recipe of a generator: the blocks that all families share, and the blocks of a diffusion model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vidaudio.config.recipes import RecipeModel
from vidaudio.errors import RecipeError, UsageError
from vidaudio.generation.denoiser import DenoiserConfig
from vidaudio.generation.diffusion import Diffusion, DiffusionConfig
from vidaudio.generation.flow import Flow, FlowConfig
from vidaudio.generation.guidance import Guidance
from vidaudio.generation.samplers import SamplerConfig, SamplerName, Spacing, sampler_levels
from vidaudio.tasks.mel_block import MAX_WINDOW_SECONDS, MelBlock
from vidaudio.tasks.queries.blocks import QueryBlock, modalities
from vidaudio.tasks.queries.checks import check_gap
from vidaudio.training.recipe import BatchBlock, CommonRecipe

# Far more than any sound needs, but little enough for memory: recipes also come with other people's weights.
MAX_CHANNELS, MAX_STEPS = 4096, 100_000


class DenoiserBlock(RecipeModel):
    """U-Net, see vidaudio.generation.DenoiserConfig; the defaults have 142.6 million numbers."""

    channels: int = Field(160, ge=1, le=MAX_CHANNELS)
    multipliers: tuple[int, ...] = (1, 1, 2, 3, 4)
    blocks: int = Field(2, ge=1, le=16)
    attention: tuple[int, ...] = (4, 8)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class ProcessBlock(RecipeModel):
    """Diffusion (vidaudio.generation.DiffusionConfig), or flow matching (vidaudio.generation.FlowConfig)."""

    kind: Literal["diffusion", "flow"] = "diffusion"
    steps: int = Field(4000, ge=2, le=MAX_STEPS, description="steps of noise in training")
    prediction: Literal["noise", "velocity"] = "noise"
    learned_variance: bool = True
    zero_terminal_snr: bool = False
    times: Literal["uniform", "logit_normal"] = Field("uniform", description="draws of times, for flow matching")
    offset_noise: float = Field(0.0, ge=0, le=1, description="deviation of what is added to all noise of an example")

    def process(self) -> Diffusion | Flow:
        """Return the process."""
        if self.kind == "flow":
            return Flow(FlowConfig(self.times))
        return Diffusion(DiffusionConfig(self.steps, self.prediction, self.learned_variance, self.zero_terminal_snr))

    @property
    def outputs(self) -> int:
        """Return the pictures that the network predicts."""
        return 2 if self.kind == "diffusion" and self.learned_variance else 1


class ModelBlock(RecipeModel):
    """Parts and sizes of the generator."""

    mel: MelBlock = MelBlock()
    unet: DenoiserBlock = DenoiserBlock()
    process: ProcessBlock = ProcessBlock()


class DataBlock(BatchBlock):
    """Contents of a batch; paths are arguments, not settings."""

    window_seconds: float = Field(
        10.24, gt=0, le=MAX_WINDOW_SECONDS, description="of sound, to the nearest length that fits"
    )
    window_frames: int = Field(1, ge=1, description="pictures around the middle, whose mean vector is the condition")
    frame_spacing_seconds: float = Field(1.0, gt=0)
    max_padding_seconds: float = Field(0.55, ge=0)
    vectors: str | None = Field(None, description="of which encoder of the pack; its first")
    use_weights: bool = Field(True, description="draw the samples of a pack with weights (pack.weight) by them")


class SamplingBlock(RecipeModel):
    """How sounds are generated unless asked otherwise: validation samples, `vidaudio generate`, evaluation."""

    sampler: SamplerName | None = Field(
        None, description="none: sde-dpm-solver++ for diffusion, euler for flow matching"
    )
    steps: int = Field(25, ge=1)
    spacing: Spacing | None = None
    eta: float = Field(0.0, ge=0, le=1)
    guidance: float = Field(1.5, ge=0, description="w of classifier-free guidance; 1 is none")
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = Field(0.0, ge=0, le=1)

    def sampler_config(self) -> SamplerConfig:
        """Return the sampler's settings."""
        return SamplerConfig(self.sampler, self.steps, self.spacing, self.eta)

    def guidance_config(self) -> Guidance:
        """Return the guidance's settings."""
        return Guidance(self.guidance, self.guidance_interval, self.guidance_rescale)


class GenerationRecipe(CommonRecipe):
    """Recipe of one training run of a generator."""

    system: Literal["clipsonic_iq", "clipsonic_iq_modern", "clip_tta", "clap_tta"] = Field(
        "clipsonic_iq", description="which paper's composition it is"
    )
    model: ModelBlock = ModelBlock()
    data: DataBlock = DataBlock()
    query: QueryBlock = QueryBlock()
    condition_dropout: float = Field(0.1, ge=0, lt=1, description="share of examples that train without a condition")
    sampling: SamplingBlock = SamplingBlock()

    @property
    def frames(self) -> int:
        """Return the frames of a mel: the multiple of the U-Net's divisor that is nearest to the window."""
        mel, divisor = self.model.mel, 2 ** (len(self.model.unet.multipliers) - 1)
        wanted = self.data.window_seconds * mel.sample_rate / mel.hop
        return divisor * max(1, round(wanted / divisor))

    @property
    def samples(self) -> int:
        """Return the samples of a window."""
        return self.frames * self.model.mel.hop

    def denoiser(self, condition_dimensions: int) -> DenoiserConfig:
        """Return the sizes of the network.

        Raises:
            RecipeError: When they do not fit together.
        """
        return DenoiserConfig(condition_dimensions, self.model.process.outputs, **self.model.unet.model_dump())


# Settings that define a system: query.kind (`|` between several), query.train, process.kind, process.prediction; none:
# any of them.
_COMPOSITIONS: dict[str, tuple[str | None, ...]] = {
    "clipsonic_iq": ("corpus", "image", "diffusion", "noise"),
    "clipsonic_iq_modern": ("corpus", "image", None, None),
    "clip_tta": ("corpus|vectors", "text", "diffusion", "noise"),
    "clap_tta": ("clap", None, "diffusion", "noise"),
}
_COMPOSED_OF = ("query.kind", "query.train", "model.process.kind", "model.process.prediction")


def _without_effect(recipe: GenerationRecipe) -> list[str]:
    """Return settings that would change nothing, in words."""
    process, sampling = recipe.model.process, recipe.sampling
    found = []
    if sampling.eta and sampling.sampler != "ddim":
        found.append("sampling.eta is for sampling.sampler ddim, and changes no other sampler")
    if sampling.spacing is not None and process.kind == "flow":
        found.append("sampling.spacing is for diffusion; flow matching spaces its steps evenly")
    if process.times != "uniform" and process.kind == "diffusion":
        found.append("model.process.times is for flow matching (model.process.kind flow)")
    return found


def check_generator(recipe: GenerationRecipe, where: str) -> None:
    """Check that the parts of a recipe fit together, and that they match the system that it names.

    Raises:
        RecipeError: When a part does not fit; the message names the part.
    """
    query, process = recipe.query, recipe.model.process
    has_vectors = query.kind in ("clap", "vectors") or (query.kind, query.encoder) == ("corpus", "clip")
    able = modalities(query) if has_vectors else set()
    if query.train not in able:
        raise RecipeError(
            f"{where}: a generator's conditions are the corpus's CLIP vectors, of pictures or of labels (query.kind "
            "'corpus', query.encoder 'clip', query.train 'image' or 'text'), CLAP vectors, of labels or of the sound "
            "(query.kind 'clap', query.train 'text' or 'sound'), or a table's, of labels (query.kind 'vectors', "
            "query.train 'text')"
        )
    if query.kind == "vectors" and query.vectors is None:
        raise RecipeError(f"{where}: queries of kind vectors come from a table: --set query.vectors=FILE.npz")
    found = (query.kind, query.train, process.kind, process.prediction)
    wrong = [
        f"{name} must be {' or '.join(map(repr, wanted.split('|')))}, not {value!r}"
        for name, wanted, value in zip(_COMPOSED_OF, _COMPOSITIONS[recipe.system], found, strict=True)
        if wanted is not None and value not in wanted.split("|")
    ]
    if wrong:
        raise RecipeError(f"{where}: for {recipe.system}, {'; '.join(wrong)}")
    if query.validation != query.train:
        raise RecipeError(
            f"{where}: a generator is validated as it is trained: query.validation must be {query.train!r}, not "
            f"{query.validation!r}"
        )
    check_gap(query, where)
    if query.gap.train == "mixup":
        raise RecipeError(
            f"{where}: query.gap.train is mixup, which generators do not have; they have dropout and noise"
        )
    for sentence in _without_effect(recipe):
        raise RecipeError(f"{where}: {sentence}")
    divisor = recipe.denoiser(1).divisor
    if recipe.model.mel.bands % divisor:
        raise RecipeError(
            f"{where}: model.mel.bands is {recipe.model.mel.bands}: it must be a multiple of {divisor}, since "
            f"model.unet has {len(recipe.model.unet.multipliers)} levels"
        )
    try:
        recipe.sampling.guidance_config()
        sampler_levels(recipe.model.process.process(), recipe.sampling.sampler_config())
    except UsageError as error:
        raise RecipeError(f"{where}: sampling: {error}") from None
