"""Sounds for words, pictures or a video, written as files with all that is needed to make them again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

from vidaudio import __version__
from vidaudio.errors import EncoderError, MediaError, QueryError, UsageError
from vidaudio.files import atomic_write, name_for_c
from vidaudio.generation import Guidance, SamplerConfig
from vidaudio.generation.samplers import SamplerName, sampler_name
from vidaudio.media.audio_files import Sound, check_output, write_result
from vidaudio.modality_gap import GapMethod
from vidaudio.output_folder import output_folder
from vidaudio.tasks.generation.checkpoint import GeneratorCheckpoint, load_generator, load_weaker
from vidaudio.tasks.generation.conditions import condition_encoder
from vidaudio.tasks.generation.lengths import MOST_SECONDS, nearest_frames
from vidaudio.tasks.generation.sounds import GPU_BLOCK, SoundGenerator
from vidaudio.tasks.generation.source import EditOptions, open_source
from vidaudio.tasks.generation.whole_video import VideoWindows, open_video
from vidaudio.tasks.queries.encoders import QueryEncoder, open_images
from vidaudio.tasks.queries.gap import trained_gap
from vidaudio.tasks.vocoder.checkpoint import load_vocoder
from vidaudio.training.checkpoint import best_device
from vidaudio.training.spectrograms import draw_mels, pixels

# Bytes of a name for files, without what is added to it; file systems allow 255.
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class GenerationQuery:
    """Description of the wanted sound: words, images or a video.

    Attributes:
        words: Text that describes the sound.
        images: Image files that together show what sounds, instead of words.
        video: Video to make the sound of, instead of words: each part sounds like the picture in its middle.
        without: Text that describes a sound to stay away from (a negative prompt).
    """

    words: str | None = None
    images: Sequence[str | Path] = ()
    video: str | Path | None = None
    without: str | None = None

    def check(self) -> None:
        """Refuse a query in several ways at once, or in none.

        Raises:
            QueryError: When it is not just one.
        """
        ways = [self.words is not None, bool(self.images), self.video is not None]
        if sum(ways) != 1:
            raise QueryError("ask in one way: in words, by pictures (--image), or by a video (--video)")

    @property
    def name(self) -> str:
        """Return a name for files: the words or the file's name, in letters and digits.

        Where it does not tell the words exactly (spaces apart), it ends with a hash, so that other words have another
        name.
        """
        given = self.words if self.words is not None else Path(self.video or self.images[0]).stem
        name = re.sub(r"\W+", "_", given).strip("_")
        if name and len(name.encode()) <= LONGEST_NAME and name == given.replace(" ", "_"):
            return name
        short = name.encode()[:LONGEST_NAME].decode(errors="ignore").rstrip("_") or "sound"
        return f"{short}_{sha256(given.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"

    def as_dict(self) -> dict[str, Any]:
        """Return what was asked for, by name; plain JSON values."""
        values = {"words": self.words, "images": [*map(str, self.images)], "video": self.video, "without": self.without}
        return {name: str(value) if name == "video" else value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """Settings of generated sounds; None for those of the recipe.

    Attributes:
        count: Number of sounds.
        seed: Seed of the first sound; the next have the next numbers.
        seconds: Length of a sound, to the nearest that fits the generator.
        sampler: Sampler, see vidaudio.generation.SamplerConfig.
        steps: Steps of the sampler.
        guidance: Scale of guidance; 1 is none.
        guidance_interval: Part of the time in which guidance acts, from 0 (clean) to 1 (noise).
        guidance_rescale: Share by which the guided prediction's spread is brought back, between 0 and 1.
        weaker: Checkpoint of an earlier or smaller copy of the generator to move away from (autoguidance).
        gap: Method against the modality gap that words go through: its name or file, the folder or `hf-hub:` name of
            a published prior, or `none`.
        encoder_weights: Local weights of the encoder, used instead of the recorded place.
        vocoder: Vocoder that makes sound of the mels, see `load_vocoder`; None for Griffin-Lim.
        edit: Existing sound to change; None to begin with noise alone. `seconds` then cuts or pads it.
    """

    count: int = 1
    seed: int = 0
    seconds: float | None = None
    sampler: SamplerName | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float | None = None
    weaker: str | Path | None = None
    gap: str | None = None
    encoder_weights: str | None = None
    vocoder: str | Path | None = None
    edit: EditOptions | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 10_000:
            raise UsageError(f"{self.count} sounds: a number between 1 and 10,000 is wanted (-n)")
        if not 0 <= self.seed < 2**62:
            raise UsageError(f"seed {self.seed}: a number from 0 on is wanted")
        if self.seconds is not None and not 0 < self.seconds <= MOST_SECONDS:
            raise UsageError(f"{self.seconds:g} s: a length above 0 and up to {MOST_SECONDS:g} s is wanted")


@dataclass(frozen=True, slots=True)
class GeneratedSound:
    """A generated sound.

    Attributes:
        path: Sound file.
        picture: Picture of its mel.
        video: The asked video with this sound; None where no video was asked.
        seed: Seed of the sound.
    """

    path: Path
    picture: Path
    video: Path | None
    seed: int


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """Result of `generate`.

    Attributes:
        sounds: The sounds.
        seconds: Length of each.
        sample_rate: Sample rate, Hz.
        vocoder: What made sound of the mels.
    """

    sounds: tuple[GeneratedSound, ...]
    seconds: float
    sample_rate: int
    vocoder: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        sounds = [
            {"path": str(sound.path), "picture": str(sound.picture), "seed": sound.seed}
            | ({} if sound.video is None else {"video": str(sound.video)})
            for sound in self.sounds
        ]
        facts = {"seconds": round(self.seconds, 4), "sample_rate": self.sample_rate, "vocoder": self.vocoder}
        return {"sounds": sounds, **facts}

    def __str__(self) -> str:
        lines = [
            f"{sound.video or sound.path}: {self.seconds:.2f} s, {self.sample_rate} Hz, seed {sound.seed}"
            for sound in self.sounds
        ]
        return "\n".join([*lines, f"sound by {self.vocoder}"])


def generate(
    query: str | GenerationQuery,
    out: str | Path,
    checkpoint: str | Path,
    *,
    options: GenerateOptions | None = None,
    progress: bool = False,
) -> GenerationResult:
    """Generate sounds for words, pictures or a video, and write them into a folder.

    Each sound is a wav file with a picture of its mel; both name query, seed, settings and the generator's SHA-256 in
    their metadata. A sound depends on those alone: it is the same, bit for bit, however many are generated with it.

    Args:
        query: Description of the sounds; a text, or a `GenerationQuery`.
        out: Folder of the results; made if it does not exist.
        checkpoint: A run's folder or its weights file.
        options: Settings; None for the defaults.
        progress: Whether to show a progress bar.

    Raises:
        QueryError, UsageError: When query or settings do not fit.
        MediaError: When a file cannot be read or written.
        CheckpointError: When the checkpoint or the vocoder cannot be read, or the weaker copy does not fit.
        EncoderError: When the encoder cannot be loaded.
        GapError: When the method is not there, or belongs to another encoder.
    """
    query = GenerationQuery(words=query) if isinstance(query, str) else query
    options = options or GenerateOptions()
    query.check()
    if query.video is not None:
        check_output(Path(out) / "video.mp4", query.video)
        _check_video_options(options)
    if options.weaker is not None and query.without is not None:
        raise UsageError("--without and --weaker: guidance moves away from words or from a weaker copy, not from both")
    loaded = load_generator(checkpoint)
    vocoder = None if options.vocoder is None else load_vocoder(options.vocoder)
    weaker = None if options.weaker is None else load_weaker(options.weaker, loaded)
    queries = condition_encoder(loaded.recipe, loaded.encoder, options.encoder_weights, trained=True)
    queries.gap = trained_gap(loaded, options.gap)
    windows = None if query.video is None else _video_windows(query.video, loaded, queries)
    conditions, negative = _vectors(query, queries, windows)
    if conditions.shape[-1] != loaded.model.config.condition_dimensions:
        raise EncoderError(f"the encoder's vectors do not fit the generator {loaded.path}")
    device = best_device()
    generator = SoundGenerator(
        loaded.model.to(device), loaded.recipe, vocoder, weaker=None if weaker is None else weaker.model.to(device)
    )
    sampler, guidance = _settings(loaded, options)
    _check_effects(query, options, guidance)
    seeds = range(options.seed, options.seed + options.count)
    source = None
    if options.edit is not None:
        source = open_source(options.edit, generator.front_end, loaded.model.config.divisor, options.seconds)
    edit = None if source is None else source.edit
    with output_folder(out) as folder:
        steps = generator.steps(len(seeds), sampler, edit, windows)
        rate = generator.front_end.config.sample_rate
        facts = _facts(loaded, query, queries, sampler, guidance)
        facts |= {} if source is None else source.as_dict()
        facts |= {} if windows is None else {"windows": len(windows.starts)}
        facts |= {"vocoder": "griffin-lim"} if vocoder is None else {"vocoder_sha256": vocoder.sha256}
        facts |= {} if weaker is None else {"weaker_sha256": weaker.sha256}
        sounds = []
        with tqdm(desc="generating", total=steps, unit="step", disable=not progress, dynamic_ncols=True) as bar:
            settings: dict[str, Any] = {"sampler": sampler, "guidance": guidance, "negative": negative}
            settings["on_step"] = bar.update
            # Block by block, so that what was generated is written before the next is begun.
            for first in range(0, len(seeds), GPU_BLOCK):
                block = seeds[first : first + GPU_BLOCK]
                if windows is not None:
                    mels = generator.joint_mels(conditions, windows, block, **settings)
                else:
                    frames = nearest_frames(loaded.recipe, options.seconds)
                    mels = generator.mels(
                        conditions.expand(len(block), -1), block, frames=frames, edit=edit, **settings
                    )
                for seed, mel in zip(block, mels, strict=True):
                    made = generator.sound(mel[None])[0].cpu().numpy()
                    if source is not None:
                        sound = source.finish(made, rate)
                    else:
                        sound = Sound(made[None, : None if windows is None else windows.samples], rate, "PCM_16")
                    stem = folder / f"{query.name}-{seed}"
                    picture = pixels(
                        draw_mels({stem.name: mel.cpu().numpy()}, generator.front_end.config.seconds(mel.shape[-1]))
                    )
                    sounds.append(_written(stem, sound, picture, {**facts, "seed": seed}, query.video))
    return GenerationResult(tuple(sounds), sound.seconds, sound.sample_rate, generator.vocoder_name)


def _facts(
    loaded: GeneratorCheckpoint,
    query: GenerationQuery,
    queries: QueryEncoder,
    sampler: SamplerConfig,
    guidance: Guidance,
) -> dict[str, Any]:
    """Return what makes the sounds, but for their seeds; plain JSON values."""
    return {
        "vidaudio": __version__,
        "system": loaded.recipe.system,
        "checkpoint_sha256": loaded.sha256,
        "steps_trained": loaded.step,
        **query.as_dict(),
        "sampler": sampler_name(loaded.recipe.model.process.process(), sampler),
        "steps": sampler.steps,
        "guidance": guidance.scale,
        "guidance_interval": list(guidance.interval),
        "guidance_rescale": guidance.rescale,
        **_gap_facts(queries, has_words=query.words is not None or query.without is not None),
    }


def _gap_facts(queries: QueryEncoder, *, has_words: bool) -> dict[str, Any]:
    """Return what words went through: the method's name and, where it is fitted here, its hash."""
    method = queries.gap.ask
    if method is None or not has_words:
        return {"gap": "none"}
    return {"gap": method.name, **({"gap_sha256": method.hash} if isinstance(method, GapMethod) else {})}


def _check_effects(query: GenerationQuery, options: GenerateOptions, guidance: Guidance) -> None:
    """Refuse what would change nothing."""
    if options.gap not in (None, "none") and query.words is None and query.without is None:
        raise UsageError("--gap is what words go through, and nothing is asked in words; leave it out")
    away = "--weaker" if options.weaker is not None else "--without" if query.without is not None else None
    if away and guidance.scale == 1:
        raise UsageError(f"{away} changes nothing where guidance is 1, which is none: give --guidance 2 or so")


def _check_video_options(options: GenerateOptions) -> None:
    if options.edit is not None:
        raise UsageError("a video gets a new sound as a whole; to change a sound, ask in words or by pictures")
    if options.seconds is not None:
        raise UsageError("--seconds and --video: the sound of a video is as long as the video; leave --seconds out")


def _video_windows(video: str | Path, loaded: GeneratorCheckpoint, queries: QueryEncoder) -> VideoWindows:
    recipe = loaded.recipe
    config, divisor = recipe.model.mel.config(), loaded.model.config.divisor
    return open_video(video, queries.image_size, config, recipe.frames, divisor)


def _vectors(
    query: GenerationQuery, queries: QueryEncoder, windows: VideoWindows | None
) -> tuple[Tensor, Tensor | None]:
    """Return the condition of each window of a video or the one of all sounds, `[W, D]`, and the unwanted or None."""
    if query.words is not None:
        conditions = queries.encode_text(query.words)[None]
    elif query.images:
        conditions = queries.encode_images(open_images(query.images))[None]
    else:
        assert windows is not None, "see `GenerationQuery.check`"
        # Windows may share a picture, which then has the same vector.
        of_picture = {id(picture): queries.encode_images([picture]) for picture in windows.pictures}
        conditions = torch.stack([of_picture[id(picture)] for picture in windows.pictures])
    return conditions, None if query.without is None else queries.encode_text(query.without)


def _settings(loaded: GeneratorCheckpoint, options: GenerateOptions) -> tuple[SamplerConfig, Guidance]:
    block = loaded.recipe.sampling
    names = ("sampler", "steps", "guidance", "guidance_interval", "guidance_rescale")
    given = {name: getattr(options, name) for name in names}
    chosen = block.model_copy(update={name: value for name, value in given.items() if value is not None})
    return chosen.sampler_config(), chosen.guidance_config()


def _written(
    stem: Path, sound: Sound, picture: np.ndarray, facts: dict[str, Any], video: str | Path | None
) -> GeneratedSound:
    """Write one sound, the picture of its mel and, for a video, the video with this sound."""
    # A file's name may have bytes that are not text.
    described = json.dumps(facts, ensure_ascii=False).encode(errors="backslashreplace").decode()
    wav, png = (stem.with_name(stem.name + suffix) for suffix in (".wav", ".png"))
    try:
        with (
            atomic_write(wav) as temporary,
            soundfile.SoundFile(
                name_for_c(temporary),
                "w",
                sound.sample_rate,
                len(sound.samples),
                subtype=sound.subtype,
                format="WAV",
            ) as file,
        ):
            file.comment = described
            file.software = f"vidaudio {facts['vidaudio']}"
            file.write(sound.samples.T)
        information = PngInfo()
        information.add_text("vidaudio", described)
        with atomic_write(png) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG", pnginfo=information)
    except (soundfile.LibsndfileError, OSError) as error:
        raise MediaError(f"{wav} cannot be written ({error})") from error
    written = None
    if video is not None:
        written = stem.with_name(stem.name + ".mp4")
        write_result(written, sound, video)
    return GeneratedSound(wav, png, written, facts["seed"])
