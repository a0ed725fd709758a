"""Command `vidaudio listening-test`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json


class KindOption(StrEnum):
    """Values of `--kind`."""

    WHICH = "which"
    MOS = "mos"


class LevelOption(StrEnum):
    """Values of `--level`."""

    AS_IS = "as-is"
    PEAK = "peak"
    RMS = "rms"


def listening_test(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM=FOLDER... | ANSWERS...",
            help="Folders of sounds, matched by file name, or paths with * for the item; with --tally, answers.",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="The page; its key goes beside it.")] = None,
    kind: Annotated[
        KindOption, typer.Option(help="Which of two sounds is heard, or ratings 1 to 5.")
    ] = KindOption.WHICH,
    items: Annotated[
        Path | None,
        typer.Option(help="CSV: item, and target, other (which) or text, image (mos); group for the table's columns."),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="So many items, drawn by seed.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of names, sides and items; by chance, kept in the key.")] = None,
    level: Annotated[
        LevelOption, typer.Option(help="Loudness: untouched, equal peaks, equal power.")
    ] = LevelOption.AS_IS,
    title: Annotated[str | None, typer.Option(help="The page's heading.")] = None,
    introduction: Annotated[str, typer.Option(help="A paragraph for listeners.")] = "",
    tally: Annotated[bool, typer.Option("--tally", help="Sum up answers instead of making a page.")] = False,
    key: Annotated[Path | None, typer.Option(help="With --tally: the page's key, NAME.key.json.")] = None,
    csv: Annotated[Path | None, typer.Option(help="With --tally: write every score there.")] = None,
    complete_only: Annotated[
        bool, typer.Option("--complete-only", help="With --tally: leave out listeners who did not finish.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Name the page and its key, without notes.")] = False,
    as_json: Json = False,
) -> None:
    """Make a blind listening test from folders of sounds, or sum up the listeners' answers."""
    if tally:
        if key is None:
            raise typer.BadParameter("--tally needs --key, the file that was written beside the page.")
        if out is not None:
            raise typer.BadParameter("--output belongs to making a page; --tally prints, and writes with --csv.")
        _tally([Path(path) for path in inputs], key, csv, complete_only, as_json)
        return
    if out is None:
        raise typer.BadParameter("name the page with --output, or sum up answers with --tally.")
    if key is not None or csv is not None or complete_only:
        raise typer.BadParameter("--key, --csv and --complete-only belong to --tally.")

    from vidaudio.report.listening import Kind, PageText, make_page, read_items
    from vidaudio.report.listening.sounds import Level

    made = make_page(
        parse_folders(inputs),
        out,
        kind=Kind(kind),
        items=None if items is None else read_items(items),
        count=count,
        seed=seed,
        level=Level(level),
        text=PageText(title, introduction),
    )
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=2))
    else:
        typer.echo(str(replace(made, notes=[]) if quiet else made))


def parse_folders(inputs: Sequence[str]) -> dict[str, Path]:
    """Parse `NAME=FOLDER` each.

    Raises:
        typer.BadParameter: When a text has another form, or a name is given twice.
    """
    systems: dict[str, Path] = {}
    for given in inputs:
        name, equals, folder = given.partition("=")
        if not (name.strip() and equals and folder):
            raise typer.BadParameter(f"{given!r} is no SYSTEM=FOLDER.")
        if name.strip() in systems:
            raise typer.BadParameter(f"the system {name.strip()} is given twice.")
        systems[name.strip()] = Path(folder)
    return systems


def _tally(paths: list[Path], key: Path, csv: Path | None, complete_only: bool, as_json: bool) -> None:
    from vidaudio.report.listening import tally
    from vidaudio.report.listening.scores import write_csv

    result = tally(paths, key, complete_only=complete_only)
    if csv is not None:
        write_csv(result, csv)
    typer.echo(json.dumps(result.as_dict(), indent=2) if as_json else str(result))
