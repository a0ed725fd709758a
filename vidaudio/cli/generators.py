"""Command `vidaudio export-generator`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json


def export_generator(
    checkpoint: Annotated[Path, typer.Argument(help="A generator's run, or its weights file.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Accepted as by every command; this one prints a single line.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a generator as a folder that diffusers opens without vidaudio."""
    from vidaudio.tasks.generation.diffusers_export import export_generator as run_export

    exported = run_export(checkpoint, folder)
    typer.echo(json.dumps(exported.as_dict(), indent=2) if as_json else str(exported))
