"""The Typer app with all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from vidaudio import __version__
from vidaudio.cli import (
    averages,
    corpus,
    correspondence,
    demo,
    evaluation,
    gap,
    generators,
    life,
    listening,
    manifest,
    models,
    report,
    search,
    sounds,
    verify,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="From a list of videos to training data for models of sight and sound, and the models trained on it.",
)
app.add_typer(manifest.app, name="manifest")
app.command()(corpus.build)
app.command()(corpus.status)
app.command()(verify.verify)
app.command()(corpus.pack)
app.command(name="pack-sounds")(sounds.pack_sounds)
app.command()(report.report)
app.command()(life.export)
app.command(name="keep-list")(life.keep_list)
app.command()(life.remove)
app.command()(models.train)
app.command()(averages.average)
app.command()(evaluation.evaluate)
app.command()(models.separate)
app.command()(models.generate)
app.command(name="export-generator")(generators.export_generator)
app.command()(gap.gap)
app.command(name="fit-scorer")(correspondence.fit_scorer)
app.command()(correspondence.score)
app.command()(correspondence.offscreen)
app.command()(search.search)
app.command(name="listening-test")(listening.listening_test)
app.command()(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass
