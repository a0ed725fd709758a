"""Command `vidaudio demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json


def demo(
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that it makes.")] = Path(
        "vidaudio-demo"
    ),
    size: Annotated[str, typer.Option(help="full (minutes), or small: every step once, too short to learn.")] = "full",
    seed: Annotated[int, typer.Option(help="Of the world.")] = 0,
    noisy: Annotated[
        bool, typer.Option("--noisy", help="Add sounds from off screen to half of the training videos.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the table and the folder, not the steps.")] = False,
    as_json: Json = False,
) -> None:
    """Run the whole path in small on one machine: render, serve, download, build, train, evaluate, separate."""
    from vidaudio.demo.run import run_demo

    def tell(text: str) -> None:
        # With --json, standard output contains only the JSON.
        if not quiet:
            typer.echo(text, err=as_json)

    report = run_demo(folder, size=size, seed=seed, noisy=noisy, tell=tell)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), **report.as_dict()}, indent=2))
    elif quiet:
        typer.echo(f"{report}\neverything is in {folder}/")
