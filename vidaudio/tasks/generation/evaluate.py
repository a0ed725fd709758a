"""Evaluation of generators and of anyone's sounds, side by side: `vidaudio evaluate` of a generator's run.

Half of the test's clips are asked for, by their pictures or labels; the other half's real sounds are the reference of
every distance. Beside the generated sets are the floor, real sounds of the clips that were asked for, and what mel and
vocoder cost, the same sounds through both. All sounds stay in the output folder, and a stopped
evaluation goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vidaudio.encoders.embedding_models import EmbeddingModel, open_embedding
from vidaudio.errors import QueryError, UsageError
from vidaudio.files import atomic_write
from vidaudio.generation.samplers import SamplerName, sampler_levels, sampler_name
from vidaudio.tasks.generation.checkpoint import GeneratorCheckpoint, load_generator, load_weaker
from vidaudio.tasks.generation.conditions import condition_encoder
from vidaudio.tasks.generation.evaluation.embeddings import EmbeddedSet, embed_set
from vidaudio.tasks.generation.evaluation.material import BLOCK, EvalMaterial, hash_of
from vidaudio.tasks.generation.evaluation.methods import IMAGE, Method, chosen_methods, paper_name
from vidaudio.tasks.generation.evaluation.plan import EvalClip
from vidaudio.tasks.generation.evaluation.report import GenerationReport, ReportRow
from vidaudio.tasks.generation.evaluation.scores import Yardstick, relative_level, score_set, sound_level
from vidaudio.tasks.generation.evaluation.sound_sets import (
    ArraySet,
    FileSet,
    SetWriter,
    SoundSet,
    folder_name,
    open_folder,
)
from vidaudio.tasks.generation.recipe import SamplingBlock
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.leaks import find_leaks, refuse_leaks
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.gap import trained_gap
from vidaudio.tasks.queries.query_gap import QueryGap
from vidaudio.training.checkpoint import best_device

REAL, VOCODED = "real", "vocoded"
# How sounds are made here: another number where a sampler or Griffin-Lim computes something else, so that older sounds
# are made anew.
MAKING = 2


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Evaluation of generators: what is asked for, how, and by which models it is judged.

    Attributes:
        checkpoints: Runs' folders or weights files; at least one, of one mel and one length.
        data: A packed corpus, `CORPUS/training/NAME`.
        embeddings: Embedding models, `NAME=PLACE` each, see vidaudio.encoders.embedding_models.open_embedding.
        out: Folder for sounds, embeddings and tables.
        split: Split that is asked for.
        methods: `image`, `text`, `text+METHOD` each; None for those that a generator supports.
        guidance: Scales of guidance; each makes a set of its own. Empty for the recipes' own.
        guidance_interval: Part of the time in which guidance acts, from 0 (clean) to 1 (noise); None for the recipes'.
        guidance_rescale: Share by which the guided prediction's spread is brought back; None for the recipes' own.
        weaker: Checkpoint of an earlier or smaller copy to move away from (autoguidance); None for no condition.
        sampler: Sampler; None for the recipes' own.
        steps: Steps of the sampler; None for the recipes' own.
        vocoder: Vocoder that makes sound of the mels, see `load_vocoder`; None for Griffin-Lim.
        folders: Folders of anyone's sounds by name; a sound belongs to the clip whose key is its file's name.
        clips: Clips of each half of the split, at most.
        seed: Seed of the halves and the sounds.
        training_split: Split that copies are looked for in.
        encoder_weights: Local weights of the conditions' encoder.
        allow_leaks: Whether to go on if a generator was trained on test sources; the report lists them.
        progress: Whether to show progress bars.
    """

    checkpoints: Sequence[str | Path]
    data: str
    embeddings: Sequence[str]
    out: str | Path
    split: str = "test"
    methods: Sequence[str] | None = None
    guidance: Sequence[float] = ()
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float | None = None
    weaker: str | Path | None = None
    sampler: SamplerName | None = None
    steps: int | None = None
    vocoder: str | Path | None = None
    folders: Mapping[str, str | Path] = field(default_factory=dict)
    clips: int | None = None
    seed: int = 0
    training_split: str = "train"
    encoder_weights: str | None = None
    allow_leaks: bool = False
    progress: bool = True


def evaluate_generators(request: GenerationRequest) -> GenerationReport:
    """Generate the sounds of a test, score them beside anyone's, and return the report.

    Raises:
        UsageError: When settings do not fit, or a generator was trained on test sources.
        CheckpointError: When a checkpoint cannot be read, or the weaker copy does not fit.
        PackError: When the corpus does not fit.
        EncoderError: When an encoder or an embedding model cannot be loaded.
        GapError: When a method against the modality gap is not there.
    """
    models = [open_embedding(text) for text in request.embeddings]
    _refuse_repeats("embedding model", [model.name for model in models])
    if not models:
        raise UsageError("name an embedding model to judge by: --embedding NAME=PLACE, such as yamnet=yamnet.tflite")
    loaded = [load_generator(path) for path in request.checkpoints]
    _refuse_other_sounds(loaded)
    methods = [chosen_methods(one, request.methods) for one in loaded]
    asked_by_images = [
        one for one, ways in zip(loaded, methods, strict=True) if any(way.asked_by == IMAGE for way in ways)
    ]
    test = EvalMaterial(request, (*asked_by_images, *loaded)[0])
    for one in asked_by_images:
        test.require_vectors_of(one)
    leaks = [find_leaks(one.training_sources, test.sources) for one in loaded]
    if not request.allow_leaks:
        for one, found in zip(loaded, leaks, strict=True):
            refuse_leaks(found, str(one.path))
    asked = [_asked(request, test, one, ways) for one, ways in zip(loaded, methods, strict=True)]
    prefixes = ["" if len(asked) == 1 else f"{_run_name(one, number, loaded)} " for number, one in enumerate(loaded)]
    # What cannot be read or named is refused before anything is generated.
    folders = [
        (ReportRow(name, "folder", {}, sounds=str(path)), open_folder(name, path))
        for name, path in request.folders.items()
    ]
    generated = [
        name for prefix, each in zip(prefixes, asked, strict=True) for *_, name in _set_names(request, each, prefix)
    ]
    _refuse_repeats("set", [REAL, VOCODED, *generated, *request.folders])
    sets = [*_real_sets(request, test, loaded[0])]
    for prefix, each in zip(prefixes, asked, strict=True):
        sets += _generated_sets(request, test, each, prefix)
    sets += folders
    rows = _scored(request, test, models, sets)
    about = {
        "data": request.data,
        "split": request.split,
        "clips": len(test.plan.queries),
        "reference": len(test.plan.reference),
        "seconds": round(loaded[0].recipe.samples / test.sample_rate, 3),
        "sample_rate": test.sample_rate,
        "vocoder": test.vocoder_name,
        "seed": request.seed,
        "checkpoints": [{"path": str(one.path), "sha256": one.sha256, "step": one.step} for one in loaded],
    }
    described = {
        model.name: {"sha256": model.sha256, "sample_rate": model.sample_rate, "classes": len(model.classes)}
        for model in models
    }
    notes = [f"{one.path}: {found}" for one, found in zip(loaded, leaks, strict=True)]
    asked_for = {clip.key: clip.label for clip in test.plan.queries}
    return GenerationReport(about, described, rows, asked_for, (*notes, *test.notes))


def write_generation_report(report: GenerationReport, folder: str | Path, *, published: bool = False) -> None:
    """Write `report.json`, `report.md` and `scores.csv` into a folder."""
    texts = {
        "report.json": json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n",
        "report.md": report.as_markdown(published=published),
        "scores.csv": report.as_csv(),
    }
    for name, text in texts.items():
        with atomic_write(Path(folder) / name) as temporary:
            temporary.write_text(text, "utf-8", errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A generator, and all that decides how it is asked.

    Attributes:
        loaded: The generator.
        ways: Methods, each with what its queries go through.
        sampling: Settings of sampling, but for the scale of guidance.
        weaker: Copy to move away from; None for no condition.
    """

    loaded: GeneratorCheckpoint
    ways: Sequence[tuple[Method, QueryGap]]
    sampling: SamplingBlock
    weaker: GeneratorCheckpoint | None


def _asked(
    request: GenerationRequest, test: EvalMaterial, loaded: GeneratorCheckpoint, methods: Sequence[Method]
) -> _Asked:
    """Prepare a generator, so that what cannot work is refused before anything is generated."""
    given = {name: getattr(request, name) for name in ("sampler", "steps", "guidance_interval", "guidance_rescale")}
    block = loaded.recipe.sampling
    block = block.model_copy(update={name: value for name, value in given.items() if value is not None})
    sampler_levels(loaded.recipe.model.process.process(), block.sampler_config())
    scales = request.guidance or (block.guidance,)
    for scale in scales:
        block.model_copy(update={"guidance": scale}).guidance_config()
    if request.weaker is not None and all(scale == 1 for scale in scales):
        raise UsageError("--weaker changes nothing where guidance is 1, which is none: give --guidance 2 or so")
    if not any(clip.label for clip in test.plan.queries):
        if request.methods is not None and any(method.asked_by != IMAGE for method in methods):
            raise QueryError(f"the split {request.split} has no labels and no captions to ask in words")
        methods = [method for method in methods if method.asked_by == IMAGE]
        if not methods:
            raise QueryError(
                f"the split {request.split} has no labels and no captions, and {loaded.recipe.system} is asked in words"
            )
    return _Asked(
        loaded,
        [(method, trained_gap(loaded, method.gap or "none")) for method in methods],
        block,
        None if request.weaker is None else load_weaker(request.weaker, loaded),
    )


def _real_sets(
    request: GenerationRequest, test: EvalMaterial, loaded: GeneratorCheckpoint
) -> Iterator[tuple[ReportRow, SoundSet]]:
    """Yield real sounds, and the same through mel and vocoder, both of the clips that are asked for."""
    keys = [clip.key for clip in test.plan.queries]
    folder = Path(request.out) / "sounds"
    writer = SetWriter(folder / REAL, REAL, test.windows, test.sample_rate)
    for key in writer.missing(keys):
        writer.write(key, test.sounds[key].astype(np.float32) / 2**15)
    yield ReportRow(REAL, REAL, {}, "real sounds", sounds=str(folder / REAL)), writer.done(keys)
    generator = SoundGenerator(loaded.model.to(best_device()), loaded.recipe, test.vocoder)
    test.vocoder_name = generator.vocoder_name
    made_by = {**test.windows, "making": MAKING, "device": generator.device.type, "vocoder": test.made_by_vocoder}
    writer = SetWriter(folder / VOCODED, VOCODED, made_by, test.sample_rate)
    missing = writer.missing(keys)
    for key in tqdm(missing, desc=VOCODED, unit="sound", disable=not request.progress, dynamic_ncols=True):
        sound = torch.from_numpy(test.sounds[key].astype(np.float32) / 2**15).to(generator.device)
        writer.write(key, generator.sound(generator.front_end(sound[None]))[0].cpu().numpy())
    yield ReportRow(VOCODED, VOCODED, {}, "mel reconstruction", sounds=str(folder / VOCODED)), writer.done(keys)


def _set_names(request: GenerationRequest, asked: _Asked, prefix: str) -> Iterator[tuple[Method, float, str]]:
    """Yield method, scale of guidance and name of each set of a generator."""
    for method, _ in asked.ways:
        for scale in request.guidance or (asked.sampling.guidance,):
            yield method, scale, f"{prefix}{method.name}" + (f" w={scale:g}" if len(request.guidance) > 1 else "")


def _generated_sets(
    request: GenerationRequest, test: EvalMaterial, asked: _Asked, prefix: str
) -> Iterator[tuple[ReportRow, FileSet]]:
    """Yield the sets of a generator: one for each method and scale of guidance."""
    loaded, block, weaker = asked.loaded, asked.sampling, asked.weaker
    generator = SoundGenerator(
        loaded.model.to(best_device()),
        loaded.recipe,
        test.vocoder,
        weaker=None if weaker is None else weaker.model.to(best_device()),
        block=BLOCK,
    )
    system, query = loaded.recipe.system, loaded.recipe.query
    queries: QueryEncoder | None = None
    names = {(method.name, scale): name for method, scale, name in _set_names(request, asked, prefix)}
    for method, gap in asked.ways:
        if method.asked_by != IMAGE:
            # Loaded once for all methods, each of which has its own way from words to queries.
            queries = queries or condition_encoder(loaded.recipe, loaded.encoder, request.encoder_weights, trained=True)
            queries.gap = gap
        clips = [clip for clip in test.plan.queries if method.asked_by == IMAGE or clip.label]
        conditions = _conditions(test, method, gap, queries, clips)
        for scale in request.guidance or (block.guidance,):
            settings = block.model_copy(update={"guidance": scale})
            name = names[method.name, scale]
            folder = Path(request.out) / "sounds" / folder_name(name)
            made_by = {
                "checkpoint_sha256": loaded.sha256,
                **test.windows,
                "making": MAKING,
                "device": generator.device.type,
                "seed": request.seed,
                "method": method.name,
                "conditions_sha256": hash_of(conditions[clip.key].cpu().numpy() for clip in clips),
                "sampling": settings.model_dump(mode="json")
                | {"sampler": sampler_name(generator.process, settings.sampler_config())},
                **({} if weaker is None else {"weaker_sha256": weaker.sha256}),
                "vocoder": test.made_by_vocoder,
            }
            writer = SetWriter(folder, name, made_by, test.sample_rate)
            missing = set(writer.missing([clip.key for clip in clips]))
            blocks = [clips[first : first + BLOCK] for first in range(0, len(clips), BLOCK)]
            with tqdm(desc=name, total=len(clips), unit="sound", disable=not request.progress) as bar:
                for group in blocks:
                    if any(clip.key in missing for clip in group):
                        _write_block(generator, writer, group, conditions, settings, request.seed)
                    bar.update(len(group))
            paper = paper_name(system, method.name)
            row = ReportRow(name, "generated", {}, paper, query.train, method.name, scale, str(folder))
            yield row, writer.done([clip.key for clip in clips])


def _write_block(
    generator: SoundGenerator,
    writer: SetWriter,
    clips: Sequence[EvalClip],
    conditions: Mapping[str, Tensor],
    settings: Any,
    seed: int,
) -> None:
    """Generate the sounds of some clips; a clip's seed depends on its row alone."""
    mels = generator.mels(
        torch.stack([conditions[clip.key] for clip in clips]),
        [(seed * 1_000_003 + clip.row) % 2**63 for clip in clips],
        sampler=settings.sampler_config(),
        guidance=settings.guidance_config(),
    )
    for clip, mel in zip(clips, mels, strict=True):
        writer.write(clip.key, generator.sound(mel[None])[0].cpu().numpy())


def _conditions(
    test: EvalMaterial, method: Method, gap: QueryGap, queries: QueryEncoder | None, clips: Sequence[EvalClip]
) -> dict[str, Tensor]:
    """Return the vector that each clip is asked by, by its key."""
    if method.asked_by == IMAGE:
        return {clip.key: gap.of_images(test.vectors[clip.key]) for clip in clips}
    assert queries is not None, "methods of words have an encoder"
    of_label = {label: queries.encode_text(label) for label in sorted({clip.label for clip in clips})}
    return {clip.key: of_label[clip.label] for clip in clips}


def _scored(
    request: GenerationRequest,
    test: EvalMaterial,
    models: Sequence[EmbeddingModel],
    sets: Sequence[tuple[ReportRow, SoundSet]],
) -> list[ReportRow]:
    """Return the rows with their scores."""
    folder = Path(request.out) / "embeddings"
    reference = ArraySet(
        "reference", {clip.key: test.sounds[clip.key] for clip in test.plan.reference}, test.sample_rate
    )
    asked_for = sorted({clip.label for clip in test.plan.queries if clip.label})
    labels = {clip.key: clip.label for clip in (*test.plan.queries, *test.plan.reference)}
    found: list[dict[str, Any]] = [{} for _ in sets]
    for model in models:

        def embedded(sounds: SoundSet, model: EmbeddingModel = model) -> EmbeddedSet:
            with tqdm(
                desc=f"{model.name}, {sounds.name}",
                unit="sound",
                disable=not request.progress,
                dynamic_ncols=True,
                leave=False,
            ) as bar:
                return embed_set(sounds, model, folder, on_sound=bar.update)

        words = model.embed_words(asked_for)
        by_label = None if words is None else dict(zip(asked_for, words, strict=True))
        yardstick = Yardstick(
            reference=embedded(reference),
            asked=embedded(next(sounds for row, sounds in sets if row.kind == REAL)),
            training=None if test.training is None else embedded(test.training),
            labels=labels,
            classes=model.classes,
            words=by_label and {clip.key: by_label[clip.label] for clip in test.plan.queries if clip.label},
        )
        for scores, (_, sounds) in zip(found, sets, strict=True):
            scores[model.name] = score_set(embedded(sounds), yardstick)
    real = {clip.key: sound_level(test.sounds[clip.key].astype(np.float32) / 2**15) for clip in test.plan.queries}
    rows = []
    for scores, (row, sounds) in zip(found, sets, strict=True):
        levels = {key: sound_level(sounds.read(key, test.sample_rate)) for key in sounds.keys}
        rows.append(replace(row, scores=scores, level=relative_level(levels, real, labels)))
    return rows


def _refuse_other_sounds(loaded: Sequence[GeneratorCheckpoint]) -> None:
    """Refuse generators of different mels, lengths or windows: their sounds have no common reference.

    Raises:
        UsageError: When they differ; names both.
    """
    if not loaded:
        raise UsageError("name a generator's run to evaluate")
    first = loaded[0]
    for one in loaded[1:]:
        if (one.recipe.model.mel, one.recipe.samples) != (first.recipe.model.mel, first.recipe.samples):
            raise UsageError(
                f"{one.path} and {first.path} generate sounds of another mel or length; evaluate them apart"
            )
    asked_by_images = [one for one in loaded if one.recipe.query.train == IMAGE]
    for one in asked_by_images[1:]:
        first = asked_by_images[0]
        blocks = [(each.recipe.data.window_frames, each.recipe.data.frame_spacing_seconds) for each in (one, first)]
        if blocks[0] != blocks[1]:
            raise UsageError(
                f"{one.path} and {first.path} are asked by other pictures of a window (data.window_frames, "
                "data.frame_spacing_seconds); evaluate them apart"
            )


def _refuse_repeats(kind: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the {kind} {name} is named twice; give one of them another name")


def _run_name(loaded: GeneratorCheckpoint, number: int, among: Sequence[GeneratorCheckpoint]) -> str:
    names = [one.path.parent.name for one in among]
    return names[number] if names.count(names[number]) == 1 else f"{number + 1}-{names[number]}"
