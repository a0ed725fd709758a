"""Command `vidaudio gap`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet
from vidaudio.cli.models import EncoderWeights


def gap(
    data: Annotated[str, typer.Argument(metavar="PACK", help="A packed corpus, CORPUS/training/NAME.")],
    fit: Annotated[
        list[str] | None,
        typer.Option(help="A method to fit, or all: see docs/gap.md. Repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the page, gap.html, and the fitted methods.")
    ] = None,
    vectors: Annotated[str | None, typer.Option(help="Of which encoder of the pack; its first by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fits.")] = 0,
    encoder_weights: EncoderWeights = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure the gap between pictures and words, and fit methods that close it."""
    from vidaudio.report.modality_gap import PAGE_NAME
    from vidaudio.report.modality_gap import gap as run_gap

    report = run_gap(
        data,
        fit=fit or (),
        output=output,
        vectors=vectors,
        encoder_weights=encoder_weights,
        seed=seed,
        progress=not quiet,
    )
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))
    if output is not None and not as_json:
        typer.echo(str(output / PAGE_NAME))
