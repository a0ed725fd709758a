"""`vidaudio train`, `evaluate` and `separate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet, Set

Data = Annotated[str, typer.Option("--data", "-d", help="A packed corpus, CORPUS/training/NAME.")]
CheckpointOption = Annotated[Path, typer.Option("--checkpoint", "-c", help="A run's folder, or its weights file.")]
EncoderWeights = Annotated[
    str | None, typer.Option(help="Local weights of the encoder, where its recorded place is not on this machine.")
]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe of train/ by name, or a path to one.")],
    data: Data,
    run: Annotated[Path, typer.Option("--run", "-o", help="Folder of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last state.")] = False,
    encoder_weights: EncoderWeights = None,
    settings: Set = None,
    quiet: Quiet = False,
) -> None:
    """Train a system on a packed corpus."""
    from vidaudio.training.recipe import load_train_recipe
    from vidaudio.training.train import train as run_training

    done = run_training(
        load_train_recipe(recipe, settings or []),
        data,
        run,
        resume=resume,
        encoder_weights=encoder_weights,
        progress=not quiet,
    )
    typer.echo(
        f"{done.step:,} steps, {done.mixtures:,} mixtures; best validation loss {done.best_loss:.4f}; {done.folder}"
    )


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A run's folder, or its weights file.")],
    data: Data,
    split: Annotated[str, typer.Option(help="Whose clips are targets and interference.")] = "test",
    methods: Annotated[
        str, typer.Option(help="Some of mixture,text,image,wrong_text,fixed_filter,ideal_binary_mask.")
    ] = "mixture,text,image",
    different_labels: Annotated[
        bool, typer.Option("--different-labels", help="Draw interference of another label than the target's.")
    ] = False,
    mixtures: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="For museval.")] = 1,
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for evaluation.json and .csv.")] = None,
    encoder_weights: EncoderWeights = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a system on seeded test mixtures with museval."""
    from vidaudio.training.evaluate import evaluate as run_evaluation
    from vidaudio.training.evaluate import write_report

    if out is not None:
        # A folder that cannot be made is found now, not after the work.
        out.mkdir(parents=True, exist_ok=True)
    report = run_evaluation(
        checkpoint,
        data,
        split=split,
        methods=[m.strip() for m in methods.split(",")],
        different_labels=different_labels,
        mixtures=mixtures,
        processes=processes,
        encoder_weights=encoder_weights,
        progress=not quiet,
    )
    if out is not None:
        write_report(report, out)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))


def separate(
    mixture: Annotated[Path, typer.Argument(help="A sound file: wav, flac, ogg, mp3 ...; any length and rate.")],
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option("--output", "-o", help="Where to write; the suffix says the format.")],
    query: Annotated[str | None, typer.Option("--query", "-q", help="What to pull out, in words.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="What to pull out, as a picture; repeatable.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Make the mask binary; soft by default.")
    ] = None,
    encoder_weights: EncoderWeights = None,
) -> None:
    """Pull the sound that words or a picture describe out of a sound file."""
    from vidaudio.training.separate import separate as run_separation

    done = run_separation(
        mixture,
        out,
        checkpoint,
        query=query,
        images=image or [],
        threshold=threshold,
        encoder_weights=encoder_weights,
    )
    typer.echo(f"{done.path}: {done.seconds:.2f} s, {done.channels} channels, {done.sample_rate} Hz")
