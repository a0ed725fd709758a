"""Commands `vidaudio fit-scorer`, `score` and `offscreen`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet, Scheduler


def fit_scorer(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of a corpus that is extracted and embedded.")],
    name: Annotated[str, typer.Option(help="Name of the scorer, scorers/NAME.")] = "default",
    max_clips: Annotated[int, typer.Option(min=1, help="Clips to learn from, at most; drawn where there are more.")] = (
        200_000
    ),
    seed: Annotated[int, typer.Option(help="Seed of the draws and of the training.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Learn from a corpus which sounds and pictures belong together, and what share of its clips do not correspond."""
    from vidaudio.tasks.correspondence.fit import fit_scorer as run_fit

    report = run_fit(corpus, name, max_clips=max_clips, seed=seed, progress=not quiet)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))


def score(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of the corpus.")],
    scorer: Annotated[str | None, typer.Option(help="Which scorer; the corpus's only one by default.")] = None,
    scorer_from: Annotated[
        str | None, typer.Option(help="Take the scorer over from another corpus, or from a scorer.safetensors.")
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option("--from", help="Scores of another tool: Parquet or CSV with id, sound_id, value, name."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Only write the pairs of clips that another tool is to score, Parquet or CSV.")
    ] = None,
    scheduler: Scheduler = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score how well sound and pictures of every clip belong together, by a fitted scorer or another tool."""
    from vidaudio.errors import UsageError
    from vidaudio.pipeline.imported_scores import import_scores, write_pairs
    from vidaudio.pipeline.score import score as run_score

    ways = {"--from": from_file, "--pairs": pairs, "--scorer or --scorer-from": scorer or scorer_from}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} do not go together")
    if pairs is not None:
        written = write_pairs(corpus, pairs)
        answer = {"pairs": str(pairs), "rows": written}
        typer.echo(json.dumps(answer, indent=2) if as_json else f"{pairs}: {written:,} pairs of clips to score")
    elif from_file is not None:
        reports = import_scores(corpus, from_file)
        told = [report.as_dict() for report in reports]
        typer.echo(json.dumps({"scores": told}, indent=2) if as_json else "\n".join(map(str, reports)))
    else:
        report = run_score(corpus, scorer, scorer_from=scorer_from, scheduler=scheduler, progress=not quiet)
        typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))


def offscreen(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of a corpus that is extracted and embedded.")],
    separator: Annotated[
        Path | None, typer.Option(help="Trained system; how much of the sound it leaves behind, asked by the pictures.")
    ] = None,
    tagger: Annotated[Path | None, typer.Option(help="TorchScript tagger that hears music at 16 kHz.")] = None,
    tagger_classes: Annotated[Path | None, typer.Option(help="Names of its classes, one a line.")] = None,
    encoder_weights: Annotated[
        str | None, typer.Option(help="Local weights of the encoder; the recorded place by default.")
    ] = None,
    scheduler: Scheduler = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure what is heard from off screen: speech, music, and what a separator does not find in the pictures."""
    from vidaudio.tasks.correspondence.offscreen import offscreen as run_offscreen

    report = run_offscreen(
        corpus,
        separator=separator,
        tagger=tagger,
        tagger_classes=tagger_classes,
        encoder_weights=encoder_weights,
        scheduler=scheduler,
        progress=not quiet,
    )
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))
