"""Command `vidaudio average`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json


def average(
    run: Annotated[Path, typer.Argument(help="Folder of a run with average.kind=power.")],
    sigma_rel: Annotated[
        float, typer.Option(help="Width of the average: the spread of the averaged steps, as a share of all steps.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Weights file to write, NAME.safetensors; best in the run's folder.")
    ],
    step: Annotated[int | None, typer.Option(help="Step of a snapshot that it ends with; the last by default.")] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Accepted as by every command; this one prints a single line.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an average of a run's weights of another width than those that were tracked."""
    from vidaudio.training.power_average import average as make_average

    made = make_average(run, output, sigma_rel, step=step)
    typer.echo(json.dumps(made.as_dict(), indent=2) if as_json else str(made))
