"""Command `vidaudio search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet
from vidaudio.cli.models import EncoderWeights


def search(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of a corpus that is embedded.")],
    text: Annotated[str | None, typer.Argument(help="What to find, in words.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of clips to find.")] = 10,
    image: Annotated[Path | None, typer.Option(help="Find what looks like this picture.")] = None,
    sound: Annotated[
        Path | None, typer.Option(help="Find what looks like this sound, through a fitted scorer.")
    ] = None,
    sounds_like: Annotated[
        bool, typer.Option("--sounds-like", help="With --sound: find what sounds like it instead.")
    ] = False,
    scorer: Annotated[str | None, typer.Option(help="Which scorer; the corpus's only one by default.")] = None,
    where: Annotated[str | None, typer.Option(help="Search only the clips of a selection, as of a pack.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML file to write, with pictures and sound of what was found.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder of the vectors, embeddings/NAME; the corpus's own by default.")
    ] = None,
    encoder_weights: EncoderWeights = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the clips of a corpus that are nearest to words, a picture or a sound."""
    from vidaudio.clip_search.query import SearchQuery
    from vidaudio.clip_search.search import search as run_search

    report = run_search(
        corpus,
        SearchQuery(text, image, sound, sounds_like, scorer),
        count=count,
        where=where,
        encoder=encoder,
        encoder_weights=encoder_weights,
        page=page,
        progress=not quiet,
    )
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))
    if page is not None and not as_json:
        typer.echo(str(page))
