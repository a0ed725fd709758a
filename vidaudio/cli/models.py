"""Commands `vidaudio train`, `separate` and `generate`."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet, Set

CheckpointOption = Annotated[Path, typer.Option("--checkpoint", "-c", help="A run's folder, or its weights file.")]
EncoderWeights = Annotated[
    str | None, typer.Option(help="Local weights of the encoder, taken instead of its recorded place.")
]

GapOption = Annotated[
    str | None,
    typer.Option(
        help="What a query in words goes through: a method of docs/gap.md, a file of one, a published prior, or none."
    ),
]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe of train/ by name, or a path to one.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            "-d",
            help="A packed corpus, CORPUS/training/NAME; repeatable, =NUMBER at the end: how often to draw from it.",
        ),
    ],
    run: Annotated[Path, typer.Option("--run", "-o", help="Folder of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest state.")] = False,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="Go on if there is a state, else begin: for jobs that are requeued.")
    ] = False,
    devices: Annotated[int, typer.Option(min=1, help="Processes on this machine, one a GPU.")] = 1,
    init: Annotated[
        str | None, typer.Option(help="Begin with the weights of another run: its folder, or its weights file.")
    ] = None,
    encoder_weights: EncoderWeights = None,
    settings: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a system on one or more packed corpora."""
    from vidaudio.tasks.registry import load_train_recipe
    from vidaudio.training.signals import LAUNCHED, alias_sigusr1

    alias_sigusr1()
    chosen = load_train_recipe(recipe, settings or [])
    if devices > 1 and "RANK" not in os.environ:
        from vidaudio.training.launch import launch

        raise SystemExit(launch(devices, sys.argv[1:]))
    if LAUNCHED in os.environ:
        from vidaudio.training.launch import end_with_launcher

        end_with_launcher()
    from vidaudio.tasks.data import parse_data
    from vidaudio.tasks.registry import train as run_training

    if init is not None:
        chosen = chosen.model_copy(update={"init_from": init})
    done = run_training(
        chosen,
        parse_data(data),
        run,
        resume="auto" if auto_resume else resume,
        encoder_weights=encoder_weights,
        progress=not quiet,
    )
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        typer.echo(json.dumps(done.as_dict(), indent=2))
    else:
        judged = f"best validation loss {done.best_loss:.4f}"
        if math.isnan(done.best_loss):
            judged = "not validated, the last weights were kept"
        parts = [done.progress(), judged, done.gains(), done.exits()]
        typer.echo("; ".join([*filter(None, parts), str(done.folder)]))


def separate(
    mixture: Annotated[
        Path, typer.Argument(help="A sound file (wav, flac, ogg, mp3 ...) or a video; any length and rate.")
    ],
    checkpoint: CheckpointOption,
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Where to write; the suffix says the format. For a video, .mp4 keeps the picture."
        ),
    ],
    query: Annotated[
        list[str] | None,
        typer.Option("--query", "-q", help="What to pull out, in words; several ask for all of them together."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="What to leave out, in words; alone: everything but that. Repeatable."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", "--query-image", "-i", help="What to pull out, as a picture; repeatable."),
    ] = None,
    query_video: Annotated[Path | None, typer.Option(help="What to pull out, as a video of it.")] = None,
    whole_video: Annotated[
        bool, typer.Option("--whole-video", help="Look at all of the query video, not only at its middle.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Make the mask binary; soft by default.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="separator or generator; what the checkpoint is of by default.")
    ] = None,
    mixture_words: Annotated[
        str | None, typer.Option("--mixture", help="With a generator: what the mixture is, in words.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="With a generator: steps there and back.")] = None,
    guidance: Annotated[float | None, typer.Option(help="With a generator: how much the query counts, 1.")] = None,
    render: Annotated[
        bool, typer.Option("--render", help="With a generator: write its own sound, not the masked mixture.")
    ] = False,
    encoder_weights: EncoderWeights = None,
    gap: GapOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Extract the sound that words, a picture or a video describe from a sound file or a video."""
    from vidaudio.errors import UsageError
    from vidaudio.tasks.registry import METHODS, separation_method
    from vidaudio.tasks.separation.separate import SoundQuery
    from vidaudio.tasks.separation.separate import separate as run_separation

    asked = SoundQuery(
        words=query or (),
        without=without or (),
        images=image or (),
        video=query_video,
        video_span="whole" if whole_video else "middle",
    )
    named = next((name for name in METHODS if name == method), None)
    if method is not None and named is None:
        raise UsageError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    # A checkpoint that does not exist is reported where it is read, after the sound.
    if (separation_method(checkpoint, named) if checkpoint.exists() else named) == "generator":
        from vidaudio.tasks.generation.separate import GeneratorSeparationOptions, separate_with_generator

        done = separate_with_generator(
            mixture,
            out,
            checkpoint,
            query=asked,
            options=GeneratorSeparationOptions(
                steps=steps,
                guidance=1.0 if guidance is None else guidance,
                mixture=mixture_words,
                threshold=threshold,
                render=render,
                gap=gap,
                encoder_weights=encoder_weights,
            ),
            progress=not quiet,
        )
    else:
        given = {"--mixture": mixture_words, "--steps": steps, "--guidance": guidance, "--render": render or None}
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise UsageError(f"{wrong[0]} is for generators, and {checkpoint} is a separator; leave it out")
        done = run_separation(
            mixture,
            out,
            checkpoint,
            query=asked,
            threshold=threshold,
            encoder_weights=encoder_weights,
            gap=gap,
            progress=not quiet,
        )
    typer.echo(json.dumps(done.as_dict(), indent=2) if as_json else str(done))


def generate(
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the sounds.")],
    checkpoint: CheckpointOption,
    words: Annotated[str | None, typer.Argument(help="What it should sound like, in words.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="What it should sound like, as a picture; repeatable.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="A video to make the sound of; it is written, too, with the new sound.")
    ] = None,
    without: Annotated[str | None, typer.Option(help="What it should not sound like, in words.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many sounds.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the first sound; the next have the next numbers.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="Length; as in training by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the sampler; the recipe's by default.")] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="ancestral, ddim, dpm-solver++, sde-dpm-solver++ or euler; the recipe's by default."),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="How much the query counts: 1 is as in training.")] = None,
    vocoder: Annotated[
        Path | None,
        typer.Option(help="A vocoder's run or weights, or a published BigVGAN's folder; Griffin-Lim by default."),
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Part of the time in which guidance acts: 0 is clean, 1 is noise."),
    ] = None,
    guidance_rescale: Annotated[
        float | None, typer.Option(help="Bring back so much of the spread that guidance adds, 0 to 1.")
    ] = None,
    weaker: Annotated[
        Path | None,
        typer.Option(help="An earlier or smaller copy to move away from, instead of from no query (autoguidance)."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A sound file or a video whose sound is to be changed."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of the sound is changed, up to 1: all; by default 0.6.")
    ] = None,
    inpaint: Annotated[
        list[str] | None,
        typer.Option(metavar="BEGIN:END", help="Seconds of the sound that are made anew, the rest stays; repeatable."),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--inpaint-repeats", help="Makes each step so often, for parts that agree better.")
    ] = 1,
    encoder_weights: EncoderWeights = None,
    gap: GapOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Generate the sound that words, pictures or a video describe."""
    from vidaudio.errors import UsageError
    from vidaudio.generation.samplers import parse_sampler
    from vidaudio.tasks.generation.generate import GenerateOptions, GenerationQuery
    from vidaudio.tasks.generation.generate import generate as run_generation
    from vidaudio.tasks.generation.source import EditOptions, parse_span

    edit = None
    if source is not None:
        edit = EditOptions(source, strength, tuple(map(parse_span, inpaint or ())), repeats)
    elif strength is not None or inpaint or repeats != 1:
        raise UsageError("--strength and --inpaint say how a sound is changed, and none is named: --from sound.wav")
    done = run_generation(
        GenerationQuery(words=words, images=image or (), video=video, without=without),
        out,
        checkpoint,
        options=GenerateOptions(
            count=count,
            seed=seed,
            seconds=seconds,
            sampler=None if sampler is None else parse_sampler(sampler),
            steps=steps,
            guidance=guidance,
            guidance_interval=guidance_interval,
            guidance_rescale=guidance_rescale,
            weaker=weaker,
            gap=gap,
            encoder_weights=encoder_weights,
            vocoder=vocoder,
            edit=edit,
        ),
        progress=not quiet,
    )
    typer.echo(json.dumps(done.as_dict(), indent=2) if as_json else str(done))
