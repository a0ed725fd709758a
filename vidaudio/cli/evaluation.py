"""Command `vidaudio evaluate`: one run, several runs side by side, a sweep over a setting, or sounds in files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet
from vidaudio.cli.generation_evaluation import GENERATORS, evaluate_generation
from vidaudio.cli.models import EncoderWeights, GapOption
from vidaudio.output_folder import output_folder

if TYPE_CHECKING:
    from vidaudio.tasks.separation.evaluation.report import EvaluationReport


class NoiseHeads(StrEnum):
    """Values of `--noise-heads`."""

    drop = "drop"
    keep = "keep"
    both = "both"


class Scorer(StrEnum):
    """Values of `--scorer`."""

    museval = "museval"
    batched = "batched"


class SoundsChoice(StrEnum):
    """Values of `--sounds-choice`."""

    drawn = "drawn"
    best = "best"
    worst = "worst"


PROTOCOL_HELP = (
    "Which mixtures: split (clips of --split), manifest (--targets, --interference), music, music-plus, "
    "vggsound-clean-plus, esc ..., or a YAML file; see docs/evaluation.md."
)


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Runs' folders or weights files; with --files: MIXTURE TARGET INTERFERENCE ESTIMATE..."),
    ],
    data: Annotated[str | None, typer.Option("--data", "-d", help="A packed corpus, CORPUS/training/NAME.")] = None,
    interference_data: Annotated[
        str | None, typer.Option(help="A packed corpus that holds the interference, if --data does not.")
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", "-p", help=PROTOCOL_HELP)] = "split",
    list_dir: Annotated[Path | None, typer.Option(help="The folder of the authors' lists (MUSIC/, vggsound/).")] = None,
    targets: Annotated[Path | None, typer.Option(help="A manifest of targets, for --protocol manifest.")] = None,
    interference: Annotated[Path | None, typer.Option(help="A manifest of what is mixed with them.")] = None,
    split: Annotated[str, typer.Option(help="Whose clips are targets and interference.")] = "test",
    methods: Annotated[
        str | None,
        typer.Option(
            help="Some of mixture, text, image, wrong_text, wrong_image, fixed_filter, ideal_binary_mask; for PIT of "
            "mixture, mask_or_complement, best_head, first_head; with commas between them. By default what the system "
            "can be asked by."
        ),
    ] = None,
    phrasings: Annotated[
        str | None, typer.Option(help="Ask in other words, too: `default`, or a YAML file of sentences.")
    ] = None,
    noise_heads: Annotated[
        NoiseHeads, typer.Option(help="Of CLIPSep-NIT: drop them, as the papers do; keep; both, in a sweep.")
    ] = NoiseHeads.drop,
    sweep: Annotated[
        str | None, typer.Option(help="Of several runs one a value of a setting, such as gamma=0,0.1,0.25.")
    ] = None,
    different_labels: Annotated[
        bool, typer.Option("--different-labels", help="Draw sounds of different labels for each mixture.")
    ] = False,
    mixtures: Annotated[
        int | None, typer.Option(min=1, help="At most so many mixtures, drawn by a fixed seed.")
    ] = None,
    sources: Annotated[
        int | None, typer.Option(min=2, help="Sounds in a mixture of a split; 2 by default.", show_default=False)
    ] = None,
    every_source: Annotated[
        bool, typer.Option("--every-source", help="Ask for each sound of a mixture in turn, and average over them.")
    ] = False,
    offscreen_db: Annotated[
        float | None,
        typer.Option(help="Mix one more sound into every mixture, so many dB louder than the target (0: as loud)."),
    ] = None,
    scorer: Annotated[Scorer, typer.Option(help="museval, or batches on the device, equal to it.")] = Scorer.museval,
    processes: Annotated[int, typer.Option(min=1, help="For museval.")] = 1,
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for tables, scores and sounds.")] = None,
    sounds: Annotated[int, typer.Option(min=0, help="Write sounds and spectrograms of so many mixtures.")] = 0,
    sounds_choice: Annotated[SoundsChoice, typer.Option(help="Which mixtures.")] = SoundsChoice.drawn,
    with_published: Annotated[
        bool, typer.Option("--with-published", help="The papers' rows below ours, marked.")
    ] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Go on where the system was trained on test sources.")
    ] = False,
    files: Annotated[bool, typer.Option("--files", help="Score sounds in files.")] = False,
    embedding: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PLACE",
            help="A model that judges: a file (YAMNet as TFLite, weights of VGGish, PANNs or PaSST, TorchScript), a "
            "folder, or a hub's name; repeatable.",
            rich_help_panel=GENERATORS,
        ),
    ] = None,
    folder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="Anyone's sounds, named as the clips; repeatable.", rich_help_panel=GENERATORS
        ),
    ] = None,
    guidance: Annotated[
        str | None, typer.Option(help="Scales, with commas between them: a set each.", rich_help_panel=GENERATORS)
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Part of the time in which guidance acts: 0 is clean, 1 is noise.",
            rich_help_panel=GENERATORS,
        ),
    ] = None,
    guidance_rescale: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Bring back so much of the spread that guidance adds.", rich_help_panel=GENERATORS
        ),
    ] = None,
    weaker: Annotated[
        Path | None,
        typer.Option(help="A copy to move away from, instead of from no query.", rich_help_panel=GENERATORS),
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler.", rich_help_panel=GENERATORS)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the sampler.", rich_help_panel=GENERATORS)] = None,
    vocoder: Annotated[
        Path | None,
        typer.Option(help="A vocoder's run or weights; Griffin-Lim by default.", rich_help_panel=GENERATORS),
    ] = None,
    clips: Annotated[
        int | None, typer.Option(min=1, help="At most so many clips asked for.", rich_help_panel=GENERATORS)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of halves and sounds.", rich_help_panel=GENERATORS)] = 0,
    training_split: Annotated[
        str, typer.Option(help="Where copies are looked for.", rich_help_panel=GENERATORS)
    ] = "train",
    listening: Annotated[
        int, typer.Option(min=0, help="Also a listening test (MOS) of so many clips.", rich_help_panel=GENERATORS)
    ] = 0,
    encoder_weights: EncoderWeights = None,
    gap: GapOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score systems on a test: separators on seeded mixtures, generators by distances to real sounds."""
    if files:
        _score_files(runs, scorer, as_json)
        return
    if data is None:
        raise typer.BadParameter("name the packed corpus that holds the test sounds", param_hint="--data")
    from vidaudio.tasks.registry import family_of

    for_generators = {
        "--embedding": embedding,
        "--folder": folder,
        "--guidance": guidance,
        "--guidance-interval": guidance_interval,
        "--guidance-rescale": guidance_rescale,
        "--weaker": weaker,
        "--sampler": sampler,
        "--steps": steps,
        "--vocoder": vocoder,
        "--clips": clips,
        "--listening": listening,
        "--seed": seed,
        "--training-split": None if training_split == "train" else training_split,
    }
    # With --sweep, a folder of runs may stand for them, and only separators have sweeps.
    family = "separation" if sweep is not None else family_of(runs[0])
    if family == "vocoder":
        raise typer.BadParameter("a vocoder is judged by its validation, and with a generator: --vocoder RUN")
    if family == "generation":
        others = {
            "--interference-data": interference_data,
            "--targets": targets,
            "--interference": interference,
            "--phrasings": phrasings,
            "--sweep": sweep,
            "--mixtures": mixtures,
            "--sources": sources,
            "--every-source": every_source,
            "--offscreen-db": offscreen_db,
            "--sounds": sounds,
            "--gap": gap,
            "--protocol": None if protocol == "split" else protocol,
            "--list-dir": list_dir,
            "--different-labels": different_labels or None,
            "--noise-heads": None if noise_heads is NoiseHeads.drop else noise_heads,
            "--scorer": None if scorer is Scorer.museval else scorer,
            "--processes": None if processes == 1 else processes,
            "--sounds-choice": None if sounds_choice is SoundsChoice.drawn else sounds_choice,
        }
        _refuse_given(others, "separators; a generator has --methods, --guidance, --clips and --listening")
        request = {
            "data": data,
            "embeddings": embedding or [],
            "split": split,
            "methods": None if methods is None else methods.split(","),
            "guidance_interval": guidance_interval,
            "guidance_rescale": guidance_rescale,
            "weaker": weaker,
            "sampler": sampler,
            "steps": steps,
            "vocoder": vocoder,
            "clips": clips,
            "seed": seed,
            "training_split": training_split,
            "encoder_weights": encoder_weights,
            "allow_leaks": allow_leaks,
            "progress": not quiet,
        }
        evaluate_generation(
            runs, request, out, guidance, folder or [], listening, published=with_published, as_json=as_json
        )
        return
    _refuse_given(for_generators, "generators, and this run is a separator's")
    if sounds and out is None:
        raise typer.BadParameter("sounds need a folder", param_hint="--output")
    if noise_heads is NoiseHeads.both and sweep is None:
        raise typer.BadParameter("both is for --sweep; here drop or keep", param_hint="--noise-heads")
    from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial
    from vidaudio.tasks.separation.evaluate import evaluate as run_evaluation

    material = TestMaterial(
        data=data,
        interference_data=interference_data,
        protocol=protocol,
        list_dir=list_dir,
        targets=targets,
        interference=interference,
        split=split,
        different_labels=different_labels,
        mixtures=mixtures,
        offscreen_db=offscreen_db,
        sources=2 if sources is None else sources,
        every_source=every_source,
    )

    def evaluated(run: Path, heads: str, folder: Path | None = None) -> EvaluationReport:
        request = EvaluateRequest(
            run,
            material,
            methods=None if methods is None else [method.strip() for method in methods.split(",")],
            phrasings=phrasings,
            noise_heads=heads,
            scorer=scorer.value,
            processes=processes,
            allow_leaks=allow_leaks,
            sounds=None if folder is None or not sounds else folder / "sounds",
            sounds_count=sounds,
            sounds_choice=sounds_choice.value,
            encoder_weights=encoder_weights,
            gap=gap,
            progress=not quiet,
        )
        return run_evaluation(request)

    with contextlib.nullcontext() if out is None else output_folder(out):
        if sweep is not None:
            heads = ("drop", "keep") if noise_heads is NoiseHeads.both else (noise_heads.value,)
            _sweep(runs, sweep, evaluated, heads, out, as_json)
            return
        folders = [out] if len(runs) == 1 else [None if out is None else out / _name(run, runs) for run in runs]
        reports = [evaluated(run, noise_heads.value, folder) for run, folder in zip(runs, folders, strict=True)]
        _show(reports, folders, out, with_published, as_json)


def _refuse_given(options: Mapping[str, object], whose: str) -> None:
    """Refuse options of another family.

    Raises:
        typer.BadParameter: When one of them has a value.
    """
    for name, value in options.items():
        if value not in (None, 0):
            raise typer.BadParameter(f"it belongs to {whose}", param_hint=name)


def _score_files(paths: Sequence[Path], scorer: Scorer, as_json: bool) -> None:
    from vidaudio.tasks.separation.evaluation.score_files import score_files

    if len(paths) < 4:
        raise typer.BadParameter("--files wants MIXTURE TARGET INTERFERENCE ESTIMATE [ESTIMATE ...]")
    mixture, target, interference, *estimates = paths
    scores = score_files(mixture, target, interference, estimates, scorer=scorer.value)
    typer.echo(json.dumps(scores.as_dict(), indent=2) if as_json else str(scores))


def _sweep(
    runs: Sequence[Path],
    text: str,
    evaluated: Callable[[Path, str], EvaluationReport],
    heads: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> None:
    from vidaudio.tasks.separation.evaluation.sweep import Sweep, run_sweep, write_sweep

    report = run_sweep(runs, Sweep.parse(text), evaluated, heads)
    if out is not None:
        write_sweep(report, out)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))


def _show(
    reports: Sequence[EvaluationReport],
    folders: Sequence[Path | None],
    out: Path | None,
    published: bool,
    as_json: bool,
) -> None:
    from vidaudio.tasks.separation.evaluate import write_report
    from vidaudio.tasks.separation.evaluation.sweep import comparison, write_comparison
    from vidaudio.tasks.separation.evaluation.tables import published_lines

    for report, folder in zip(reports, folders, strict=True):
        if folder is not None:
            write_report(report, folder, published=published)
    if len(reports) == 1:
        described: object = reports[0].as_dict()
        text = str(reports[0])
        if published:
            text = "\n".join([text, "", *published_lines(reports[0].about.protocol)])
    else:
        if out is not None:
            write_comparison(reports, out, published=published)
        described, text = [report.as_dict() for report in reports], comparison(reports, published=published)
    typer.echo(json.dumps(described, indent=2) if as_json else text)


def _name(run: Path, runs: Sequence[Path]) -> str:
    """Return a run's folder name: its own name, with its number in front if another run has the same name."""
    same = sum(other.name == run.name for other in runs) > 1
    return f"{runs.index(run) + 1}-{run.name}" if same else run.name
