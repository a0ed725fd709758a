"""`vidaudio demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that it makes.")] = Path(
        "vidaudio-demo"
    ),
    size: Annotated[str, typer.Option(help="full (minutes), or small: every step once, too short to learn.")] = "full",
    seed: Annotated[int, typer.Option(help="Of the world.")] = 0,
    noisy: Annotated[
        bool, typer.Option("--noisy", help="Add sounds from off screen to half of the training videos.")
    ] = False,
) -> None:
    """The whole path on one machine, small: render, serve, download, build, train, evaluate, separate."""
    from vidaudio.demo.run import run_demo

    run_demo(folder, size=size, seed=seed, noisy=noisy)
