"""The part of `vidaudio evaluate` that belongs to generators."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vidaudio.cli.listening import parse_folders
from vidaudio.output_folder import output_folder

if TYPE_CHECKING:
    from vidaudio.tasks.generation.evaluation.report import GenerationReport

# Title of the options in the help.
GENERATORS = "Generators"
LISTENING_PAGE = "listening.html"


def evaluate_generation(
    runs: Sequence[Path],
    settings: Mapping[str, Any],
    out: Path | None,
    guidance: str | None,
    folders: Sequence[str],
    listening: int,
    *,
    published: bool,
    as_json: bool,
) -> None:
    """Evaluate generators, write the report, and print it.

    Args:
        runs: Runs' folders or weights files.
        settings: Further settings of the request, by name.
        out: Folder for sounds and tables.
        guidance: Scales, with commas between them.
        folders: `NAME=FOLDER` each.
        listening: Clips of a listening test; 0 for none.
        published: Whether to add the paper's rows.
        as_json: Whether to print JSON.
    """
    if out is None:
        raise typer.BadParameter("generated sounds need a folder", param_hint="--output")
    from vidaudio.tasks.generation.evaluate import GenerationRequest, evaluate_generators, write_generation_report

    page_path = out / LISTENING_PAGE
    if listening and page_path.exists():
        raise typer.BadParameter(
            f"{page_path} is there already, and answers may be on their way that only it fits: move it away, or leave "
            "--listening out",
            param_hint="--listening",
        )
    with output_folder(out):
        request = GenerationRequest(
            checkpoints=runs, out=out, guidance=_numbers(guidance), folders=parse_folders(folders), **settings
        )
        report = evaluate_generators(request)
        write_generation_report(report, out, published=published)
        page = _listening_page(report, out, listening) if listening else None
    if as_json:
        typer.echo(json.dumps(report.as_dict() | ({} if page is None else {"listening": str(page)}), indent=2))
    else:
        typer.echo(report.as_markdown(published=published))
        if page is not None:
            typer.echo(f"listening test: {page}")


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return () if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        said = f"{text!r}: numbers with commas between them are wanted"
        raise typer.BadParameter(said, param_hint="--guidance") from None


def _listening_page(report: GenerationReport, out: Path, count: int) -> Path:
    """Write a listening test of the sets that have sounds for the same clips, and return its path."""
    from vidaudio.report.listening import Kind, make_page, read_items

    systems = {row.name: Path(row.sounds) for row in report.rows if row.sounds is not None and row.kind != "folder"}
    items = out / "items.csv"
    with items.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["item", "text"], *report.asked_for.items()])
    return make_page(systems, out / LISTENING_PAGE, kind=Kind.MOS, items=read_items(items), count=count).page
