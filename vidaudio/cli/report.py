"""Command `vidaudio report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet


def report(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of the corpus.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file; an existing one is replaced.")] = Path(
        "report.html"
    ),
    scorer: Annotated[str | None, typer.Option(help="Whose scores; the corpus's only ones by default.")] = None,
    clips: Annotated[int, typer.Option(min=0, help="Clips to show with pictures and sound.")] = 200,
    croissant: Annotated[
        Path | None, typer.Option(help="Also write Croissant metadata (MLCommons) to this file.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write an HTML page that shows what is in a corpus: causes, hours, measures, clips, near-duplicates, a map."""
    from vidaudio.report.corpus import report as run_report

    made = run_report(corpus, output, scorer=scorer, clips=clips, croissant=croissant, progress=not quiet)
    typer.echo(json.dumps(made.as_dict(), indent=2) if as_json else str(made))
