"""Command `vidaudio verify`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet


def verify(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of the corpus.")],
    sample: Annotated[
        float, typer.Option(metavar="FRACTION", help="Hash only this share of the tars and local files, 0 to 1.")
    ] = 1.0,
    trust_encoder: Annotated[
        bool,
        typer.Option("--trust-encoder", help="Load the encoder that the corpus names, and fetch it where need be."),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check that a corpus contains everything that was committed to it; if not, list the faults, exit code 1."""
    from vidaudio.maintenance.verify import verify_corpus

    report = verify_corpus(corpus, sample=sample, trust_encoder=trust_encoder, progress=not quiet)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))
    if not report.ok:
        raise typer.Exit(1)
