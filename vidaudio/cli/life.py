"""Commands `vidaudio remove`, `export` and `keep-list`, for the clips of a finished corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidaudio.cli.corpus import Json, Quiet


def remove(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of the corpus.")],
    ids: Annotated[
        Path,
        typer.Argument(metavar="IDS.TXT", help="A clip id or a source (site:video, all its clips) a line; # comments."),
    ],
    note: Annotated[str | None, typer.Option(help="Why; kept with the tombstones.")] = None,
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Entries that name nothing in this corpus are no failure.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Remove clips from a corpus for good: from every column and pack, and they are never fetched again.

    Exit code 1 if an entry matches nothing in the corpus; the clips of the other entries are removed all the same.
    """
    from vidaudio.maintenance.remove import read_ids
    from vidaudio.maintenance.remove import remove as run_remove

    removal = run_remove(corpus, read_ids(ids), note=note, ignore_unknown=ignore_unknown, progress=not quiet)
    typer.echo(json.dumps(removal.as_dict(), indent=2) if as_json else str(removal))
    if removal.unknown and not ignore_unknown:
        raise typer.Exit(1)


def export(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of the corpus.")],
    out: Annotated[str, typer.Argument(help="A new folder here, or one of the same export to go on with.")],
    pack: Annotated[str | None, typer.Option(help="Only clips of this pack, with their splits there.")] = None,
    ids: Annotated[
        Path | None, typer.Option(metavar="IDS.TXT", help="Only these clips: ids or sources, one a line.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only clips for which this holds, e.g. 'not silent and seconds >= 4'.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write clips as loose files: wav, jpg, and a csv that describes them.

    Exit code 1 if a clip is incomplete in the corpus; the others are written all the same.
    """
    from vidaudio.maintenance.export import export as run_export
    from vidaudio.maintenance.remove import read_ids

    chosen = None if ids is None else read_ids(ids)
    exported = run_export(corpus, out, pack=pack, ids=chosen, where=where, progress=not quiet)
    typer.echo(json.dumps(exported.as_dict(), indent=2) if as_json else str(exported))
    if exported.damaged:
        raise typer.Exit(1)


def keep_list(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of the corpus.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The csv to write.")],
    pack: Annotated[str, typer.Option(help="Whose clips, with their splits there.")] = "default",
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Accepted as by every command; this one prints a single line."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the clips of a pack as a list in VGGSound's form: YouTube id, start, label, split."""
    from vidaudio.maintenance.keep_list import keep_list as run_keep_list

    written = run_keep_list(corpus, out, pack=pack)
    typer.echo(json.dumps(written.as_dict(), indent=2) if as_json else str(written))
