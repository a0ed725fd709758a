"""Evaluation of a separation system on seeded test mixtures, as in CLIPSep: `vidaudio evaluate`.

A protocol decides which clips are mixed and where they are cut (`vidaudio.tasks.separation.evaluation.protocols`). Each
of N sounds keeps its own level, divided by N (two by default). Only the target is scored; the second estimate is the
rest of the mask.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from vidaudio.errors import PackError
from vidaudio.separation import FixedFilters, mix_sources
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.tasks.leaks import find_leaks, refuse_leaks
from vidaudio.tasks.queries.gap import trained_gap
from vidaudio.tasks.separation.checkpoint import Checkpoint, load_checkpoint
from vidaudio.tasks.separation.evaluation.eval_data import TestMaterial, plan, window_shape
from vidaudio.tasks.separation.evaluation.eval_mixtures import TestSet
from vidaudio.tasks.separation.evaluation.listening_folder import write_sounds
from vidaudio.tasks.separation.evaluation.methods import (
    ASKED_BY,
    HEAD_METHODS,
    METHODS,
    NEEDS_LABEL,
    ORACLES,
    PHRASING_PREFIX,
    Estimates,
    Estimator,
    methods_of,
)
from vidaudio.tasks.separation.evaluation.pairs import TestPair, draw_pairs
from vidaudio.tasks.separation.evaluation.phrasings import load_phrasings
from vidaudio.tasks.separation.evaluation.protocols import Protocol
from vidaudio.tasks.separation.evaluation.report import EvaluationReport, ReportHeader, counted
from vidaudio.tasks.separation.evaluation.scorers import score_estimates
from vidaudio.tasks.separation.evaluation.suppression import of_counted_candidates, suppression_of
from vidaudio.tasks.separation.evaluation.tables import as_csv, as_markdown
from vidaudio.training.checkpoint import best_device

__all__ = [
    "HEAD_METHODS",
    "METHODS",
    "EvaluateRequest",
    "EvaluationReport",
    "TestMaterial",
    "TestPair",
    "draw_pairs",
    "evaluate",
    "plan",
    "write_report",
]

FILTER_MIXTURES = 512


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """Evaluation of one system: what is tested on what, and how it is scored.

    Attributes:
        checkpoint: A run's folder or its weights file.
        data: The test sounds; or a packed corpus, whose split `test` is drawn from.
        methods: Some of `METHODS` and, for a system without queries, of `HEAD_METHODS`. None for the mixture and all
            right and wrong queries that the system supports, or all of `HEAD_METHODS`. `wrong_text` and `wrong_image`
            query a kind of sound that is not in the mixture; `fixed_filter` is the best mask per label that is constant
            in time, learned on the split that the system was trained on.
        phrasings: Name or path of a list of phrasings; each becomes an additional method, see
            `vidaudio.tasks.separation.evaluation.phrasings`.
        noise_heads: `drop` or `keep`, see `vidaudio.tasks.separation.evaluation.methods.Estimator`.
        scorer: `museval`, on `processes` processes, or `batched`, on the device.
        processes: Number of processes for `museval`.
        allow_leaks: Whether to continue if the system was trained on test sources; the report lists them.
        sounds: Folder for sounds and spectrograms of some mixtures; None to write none.
        sounds_count: Number of mixtures to write.
        sounds_choice: Mixtures to write: some `drawn` by seed, the `best` or the `worst`.
        encoder_weights: Local weights of the encoder; None for the recorded ones.
        gap: Method against the modality gap that texts go through: its name or file, the folder or `hf-hub:` name of
            a published prior, or `none`; None for the recipe's.
        progress: Whether to show a progress bar.
    """

    checkpoint: str | Path
    data: str | Path | TestMaterial
    methods: Sequence[str] | None = None
    phrasings: str | None = None
    noise_heads: str = "drop"
    scorer: str = "museval"
    processes: int = 1
    allow_leaks: bool = False
    sounds: str | Path | None = None
    sounds_count: int = 10
    sounds_choice: str = "drawn"
    encoder_weights: str | None = None
    gap: str | None = None
    progress: bool = True

    @property
    def material(self) -> TestMaterial:
        """Return the test sounds."""
        return self.data if isinstance(self.data, TestMaterial) else TestMaterial(str(self.data))


def evaluate(request: EvaluateRequest) -> EvaluationReport:
    """Score a system on test mixtures.

    Raises:
        VidaudioError: When the corpora, methods or mixtures do not fit, or test sources leaked.
        CheckpointError: When the checkpoint cannot be read.
        RecipeError: When a protocol or list of phrasings is missing or invalid.
        EncoderError: When the encoder cannot be loaded.
        ManifestError: When a list or manifest of the protocol is missing or differs.
    """
    material = request.material
    loaded = load_checkpoint(request.checkpoint)
    chosen = methods_of(loaded, request.methods)
    asked = load_phrasings(request.phrasings) if request.phrasings is not None else ()
    protocol, tests = plan(loaded, material)
    leaks = find_leaks(loaded.training_sources, (sound.source for item in tests.items for sound in item.sounds))
    if not request.allow_leaks:
        refuse_leaks(leaks, str(request.checkpoint))
    filters = None
    if "fixed_filter" in chosen:
        filters = fit_filters(loaded, material.data, best_device(), sources=material.sources)
    unlabelled = sum(not item.target.label for item in tests.items)
    if unlabelled == len(tests.items) and NEEDS_LABEL & set(request.methods or ()):
        raise PackError(
            f"none of the {unlabelled} targets has a label, and text queries are made of labels; ask by pictures alone "
            "(--methods image)"
        )
    estimator = Estimator(
        loaded,
        tests,
        chosen,
        phrasings=asked,
        filters=filters,
        noise_heads=request.noise_heads,
        encoder_weights=request.encoder_weights,
        skippable=chosen if request.methods is None else (),
    )
    estimator.ask_through(trained_gap(loaded, request.gap))
    suppressed: dict[int, dict[tuple[str, int], float]] = {}
    with tqdm(
        total=len(tests.items), desc="evaluating", unit="mixture", disable=not request.progress, dynamic_ncols=True
    ) as bar:

        def estimates() -> Iterator[Estimates]:
            for item in tests.items:
                made = estimator.estimate(item)
                suppressed[item.number] = suppression_of(made)
                yield made
                bar.update()

        scores = score_estimates(estimates(), scorer=request.scorer, processes=request.processes)
    about = ReportHeader(
        checkpoint=str(request.checkpoint),
        system=loaded.recipe.system,
        step=loaded.step,
        train_query=train_query(loaded),
        data=material.data,
        protocol=protocol.name if protocol is not None else f"split {material.split}",
        split=material.split,
        planned=tests.planned,
        scorer=request.scorer,
        noise_heads=request.noise_heads,
        phrasings={phrasing.name: phrasing.sentences for phrasing in asked},
        gap=estimator.gap_names,
        offscreen_db=material.offscreen_db,
        sources=material.sources,
        every_source=tests.every_source,
        different_labels=_differ(material, protocol),
        notes=_notes(
            material, tests, protocol, estimator, unlabelled, str(leaks) if leaks.sources or not leaks.known else ""
        ),
        incomplete=not tests.complete,
    )
    keeps_heads = request.noise_heads == "keep"
    kept = {m for m in estimator.methods if keeps_heads and (m in ASKED_BY or m.startswith(PHRASING_PREFIX))}
    report = EvaluationReport(
        about=about,
        methods=tuple(estimator.methods),
        mixtures=len(tests.items),
        scores=scores,
        labels={item.number: item.target.label for item in tests.items},
        names={item.number: tuple(sound.key for sound in (item.target, *item.partners)) for item in tests.items},
        oracles=(ORACLES | kept) & set(estimator.methods),
        suppression=of_counted_candidates(suppressed, scores),
    )
    if request.sounds is not None:
        write_sounds(request.sounds, report, tests, estimator, count=request.sounds_count, choice=request.sounds_choice)
    return report


def train_query(loaded: Checkpoint) -> str:
    """Return the kind of query that a system was trained with: image, text, hybrid, label, or none."""
    query = loaded.recipe.query
    if query.kind in ("label", "none"):
        return query.kind
    if loaded.recipe.objective.kind == "mixit":
        return "none"
    return "hybrid" if query.train == "alternate" else query.train


def _differ(material: TestMaterial, protocol: Protocol | None) -> bool:
    """Return whether all sounds of a mixture have different labels."""
    return material.different_labels or (protocol is not None and protocol.different_labels)


def _notes(
    material: TestMaterial, tests: TestSet, protocol: Protocol | None, estimator: Estimator, unlabelled: int, leaks: str
) -> tuple[str, ...]:
    asked_by_label = any(m in NEEDS_LABEL or m.startswith(PHRASING_PREFIX) for m in estimator.methods)
    unknown = sorted(estimator.unknown_labels)
    different = _differ(material, protocol)
    lacking, cuts = "not in the corpus, or too short", "several cuts that the label does not tell apart"
    alone = f"left out: too few partners of other sources{' and labels' if different else ''}"
    unheard = "not known to the system: " + ", ".join(unknown[:5])
    incomplete = "" if tests.complete else f"INCOMPLETE: {len(tests.items)} of {tests.planned} mixtures"
    notes = (
        *(() if not incomplete else (incomplete,)),
        *counted(
            [
                (tests.missing_targets, f"target is {lacking}", f"targets are {lacking}"),
                (tests.missing_interference, f"partner is {lacking}", f"partners are {lacking}"),
                (tests.few_partners, f"target is {alone}", f"targets are {alone}"),
                (tests.ambiguous, f"listed video has {cuts}", f"listed videos have {cuts}"),
                (
                    unlabelled if asked_by_label else 0,
                    "target has no label and was not asked for in words",
                    "targets have no label and were not asked for in words",
                ),
                (
                    len(estimator.without_wrong_query),
                    "mixture has no wrong query: no other kind of sound is at hand",
                    "mixtures have no wrong query: no other kind of sound is at hand",
                ),
                (len(unknown), f"label is {unheard}", f"labels are {unheard}"),
            ]
        ),
    )
    found_leaks = (f"LEAKS: {leaks}",) if leaks else ()
    corpora = {id(sound.corpus): sound.corpus for item in tests.items for sound in item.sounds}.values()
    if any(corpus.has_captions_alone for corpus in corpora):
        notes = (*notes, "clips without labels are told apart by their captions: what counts as absent may be there")
    return (*notes, *_mixing_notes(material, tests), *found_leaks, *(protocol.notes if protocol is not None else ()))


def _mixing_notes(material: TestMaterial, tests: TestSet) -> list[str]:
    """Return notes of which targets are tested, what a mixture holds, and who is asked for, where it is not usual."""
    count, level = material.sources, material.offscreen_db
    notes = []
    if tests.tested_targets < tests.targets:
        notes.append(f"{tests.tested_targets} of {tests.targets} targets are chosen, drawn by a fixed seed")
    notes += [f"mixtures of {count} sources, each divided by {count}"] if count != 2 else []
    if material.every_source:
        notes.append("every source is asked for, a test item each, so means are averages over sources")
    if level is not None:
        which = "third" if count == 2 else "further"
        notes.append(f"every mixture also holds a {which} sound, {level:+g} dB against the target")
    return notes


def fit_filters(
    loaded: Checkpoint, data: str, device: torch.device, mixtures: int = FILTER_MIXTURES, *, sources: int = 2
) -> FixedFilters:
    """Fit the mean ideal mask of each label on seeded training mixtures of some sources: the limit of an equaliser."""
    front_end = loaded.model.front_end.to(device)
    config = StreamConfig(
        split=loaded.recipe.split,
        shape=window_shape(loaded),
        sources=sources,
        batch_size=16,
        seed=1,
        gain_range=None,
    )
    stream = MixtureStream(data, config)
    labels = [row[0] if row else "" for row in stream.index.table["labels"].to_pylist()]

    def batches() -> Iterator[tuple[Tensor, list[list[str]]]]:
        for step in range(max(1, mixtures // config.batch_size)):
            batch = stream.batch(step)
            mixed, _ = mix_sources(batch["audio"].to(device))
            yield mixed, [[labels[row] for row in rows] for rows in batch["rows"].tolist()]

    return FixedFilters(front_end).fit(batches())


def write_report(report: EvaluationReport, folder: str | Path, *, published: bool = False) -> Path:
    """Write `evaluation.json`, `.csv` and `.md` into a folder, and return the path of the JSON file.

    Args:
        report: The report to write.
        folder: Output folder; created if it is missing.
        published: Whether to add the papers' rows below ours, if the protocol has some.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(report.as_dict(), indent=2, sort_keys=True) + "\n")
    (folder / "evaluation.csv").write_text(as_csv(report))
    (folder / "evaluation.md").write_text(as_markdown([report], published=published))
    return folder / "evaluation.json"
