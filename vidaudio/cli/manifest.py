"""Commands `vidaudio manifest`: convert a published list of videos to a manifest.

There is one command per format. Each calls the reader of that format in `vidaudio.manifest`, and all end in the same
steps: join with media, write, report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidaudio.text import storable_text

if TYPE_CHECKING:
    from vidaudio.manifest import Clip, Listing

app = typer.Typer(no_args_is_help=True, help="Turn a list of videos into a manifest, and look into one.")

Lists = Annotated[list[Path], typer.Argument(metavar="LIST...", help="One list or several of the same format.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The manifest to write (Parquet).")]
Media = Annotated[
    str | None,
    typer.Option(
        help="Media that exist already: a folder with files named {id}_{start:06d}.*, {id}_{start_ms}_{end_ms}.* or "
        "{id}.*, or a template such as https://host/{id}_{start:06d}.mp4."
    ),
]
KeepMissing = Annotated[
    bool, typer.Option("--keep-missing", help="Keep clips that have no file in the folder, with the URL of the list.")
]
Report = Annotated[
    Path | None, typer.Option(help="Write the names of matched, missing, copied and unlisted files here (csv).")
]
Split = Annotated[str | None, typer.Option(help="The split of every row, instead of the list's own.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave malformed rows out and say which.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say only what was written.")]
Json = Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")]


@app.command()
def vggsound(
    lists: Lists,
    output: Output,
    media: Media = None,
    keep_missing: KeepMissing = False,
    report: Report = None,
    split: Split = None,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read VGGSound's csv (id, start, label, split) or its two-column test list."""
    from vidaudio.manifest import read_vggsound

    listing = read_vggsound(*lists, split=split, skip_bad_rows=skip_bad_rows)
    _finish(listing, lists, output, media, keep_missing, report, quiet, as_json)


@app.command()
def music(
    lists: Lists,
    output: Output,
    media: Media = None,
    keep_missing: KeepMissing = False,
    report: Report = None,
    split: Split = None,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read MUSIC's json: solos, duets, MUSIC-21 (whole videos)."""
    from vidaudio.manifest import read_music

    listing = read_music(*lists, split=split, skip_bad_rows=skip_bad_rows)
    _finish(listing, lists, output, media, keep_missing, report, quiet, as_json)


@app.command()
def audiocaps(
    lists: Lists,
    output: Output,
    media: Media = None,
    keep_missing: KeepMissing = False,
    report: Report = None,
    split: Split = None,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read AudioCaps' csv; all captions of a clip are collected."""
    from vidaudio.manifest import read_audiocaps

    listing = read_audiocaps(*lists, split=split, skip_bad_rows=skip_bad_rows)
    _finish(listing, lists, output, media, keep_missing, report, quiet, as_json)


@app.command()
def audioset(
    lists: Lists,
    output: Output,
    class_labels: Annotated[
        Path | None, typer.Option(help="AudioSet's class list; by default class_labels_indices.csv beside the list.")
    ] = None,
    media: Media = None,
    keep_missing: KeepMissing = False,
    report: Report = None,
    split: Split = None,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read AudioSet's segment csv; label ids become names."""
    from vidaudio.manifest import read_audioset

    listing = read_audioset(*lists, class_labels=class_labels, split=split, skip_bad_rows=skip_bad_rows)
    _finish(listing, lists, output, media, keep_missing, report, quiet, as_json)


@app.command()
def clipsep(
    lists: Lists,
    output: Output,
    starts_from: Annotated[
        Path | None,
        typer.Option(help="VGGSound's csv, or a manifest (.parquet), that says where the listed videos are cut."),
    ] = None,
    media: Media = None,
    keep_missing: KeepMissing = False,
    report: Report = None,
    split: Split = None,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read CLIPSep's index lists, for evaluation: videos and labels; the cuts come from another list."""
    from vidaudio.manifest import read_clipsep

    listing = read_clipsep(*lists, starts_from=starts_from, split=split, skip_bad_rows=skip_bad_rows)
    inputs = [*lists, *([starts_from] if starts_from else [])]
    _finish(listing, inputs, output, media, keep_missing, report, quiet, as_json)


@app.command()
def table(
    list_: Annotated[Path, typer.Argument(metavar="TABLE", help="A csv, tsv, jsonl or Parquet table.")],
    output: Output,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=COLUMN",
            help="Which column holds a field: url, youtube_id, start, end, duration, id, source, label, caption, "
            "split. May be given often; label and caption may have several columns.",
        ),
    ] = None,
    table_format: Annotated[
        str | None, typer.Option("--format", help="csv, tsv, jsonl or parquet; by default what the ending says.")
    ] = None,
    label_separator: Annotated[str | None, typer.Option(help="What stands between several labels in a field.")] = None,
    caption_separator: Annotated[
        str | None, typer.Option(help="What stands between several captions in a field.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Where relative paths begin; by default the table's folder.")
    ] = None,
    cut_files: Annotated[
        bool, typer.Option("--cut-files", help="Each file is a cut that begins at its row's start.")
    ] = False,
    check_files: Annotated[bool, typer.Option(help="Whether paths without a file are malformed rows.")] = True,
    dataset: Annotated[str | None, typer.Option(help="The data set's name; by default the table's.")] = None,
    media: Media = None,
    keep_missing: KeepMissing = False,
    report: Report = None,
    split: Split = None,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read a table of URLs, YouTube ids or paths; its columns are mapped to fields."""
    from vidaudio.manifest import TableOptions, read_table

    options = TableOptions(
        columns=_mapping(column or []),
        label_separator=label_separator,
        caption_separator=caption_separator,
        root=root,
        dataset=dataset,
        split=split,
        cut_files=cut_files,
        check_files=check_files,
    )
    listing = read_table(list_, options=options, table_format=table_format, skip_bad_rows=skip_bad_rows)
    _finish(listing, [list_], output, media, keep_missing, report, quiet, as_json)


@app.command()
def folder(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Searched for video files through all levels.")],
    output: Output,
    label_from: Annotated[
        str | None, typer.Option(metavar="parent", help="parent: the name of a file's folder is its label.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The data set's name; by default the folder's.")] = None,
    split: Split = None,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read a folder of videos; every file is one clip."""
    from vidaudio.manifest import read_folder

    listing = read_folder(path, label_from=label_from, dataset=dataset, split=split, skip_bad_rows=skip_bad_rows)
    _finish(listing, [path], output, None, False, None, quiet, as_json)


@app.command()
def esc(
    list_: Annotated[Path, typer.Argument(metavar="LIST", help="esc50.csv, or a list with its columns.")],
    output: Output,
    sounds: Annotated[
        Path | None, typer.Option(help="The folder with the sound files; by default the list's own.")
    ] = None,
    test_fold: Annotated[list[int] | None, typer.Option(help="A fold for testing, 5 by default; repeatable.")] = None,
    val_fold: Annotated[list[int] | None, typer.Option(help="A fold for validation; repeatable.")] = None,
    only_esc10: Annotated[bool, typer.Option("--esc10", help="Only the ten classes of ESC-10.")] = False,
    skip_bad_rows: SkipBadRows = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read ESC-50's csv of sound files; folds become splits. For `vidaudio pack-sounds`."""
    from vidaudio.manifest import read_esc

    listing = read_esc(
        list_,
        sounds,
        test_folds=test_fold or (5,),
        val_folds=val_fold or (),
        only_esc10=only_esc10,
        skip_bad_rows=skip_bad_rows,
    )
    _finish(listing, [list_], output, None, False, None, quiet, as_json)


@app.command()
def show(
    manifest: Annotated[Path, typer.Argument(help="A manifest.")],
    rows: Annotated[int, typer.Option(min=0, help="How many of its first rows to print.")] = 5,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the counts, no rows.")] = False,
    as_json: Json = False,
) -> None:
    """Show the contents of a manifest: clips, sources, splits, labels, the first rows."""
    from dataclasses import asdict

    from vidaudio.manifest import describe_manifest
    from vidaudio.manifest.public_url import public_url
    from vidaudio.manifest.source import first_rows, open_manifest

    content = open_manifest(manifest)
    summary = asdict(describe_manifest(content))
    first = first_rows(content, rows).to_pylist()
    if as_json:
        typer.echo(json.dumps(summary | {"rows": first}, indent=2))
        return
    typer.echo(f"clips     {summary['clips']:,} of {summary['sources']:,} sources, {summary['local']:,} in local files")
    typer.echo(f"length    {summary['hours']:,.1f} h in cuts, {summary['open_cuts']:,} clips to the end of their video")
    typer.echo(f"datasets  {_counts(summary['datasets'])}")
    typer.echo(f"splits    {_counts(summary['splits'])}")
    labels = summary["labels"]
    typer.echo(f"labels    {len(labels):,}: {_counts(labels)}" if labels else "labels    none")
    typer.echo(f"captions  {summary['captions']:,}")
    for row in [] if quiet else first:
        end = "end" if row["end_seconds"] is None else f"{row['end_seconds']:g}"
        words = "; ".join([*(row["labels"] or ()), *(row["captions"] or ())])
        span, url = f"{row['start_seconds']:g}-{end} s", public_url(row["url"])
        typer.echo(storable_text(f"  {row['id']}  {span}  {row['split'] or '-'}  {url}  {words}"))


def _finish(
    listing: Listing,
    inputs: Sequence[Path],
    output: Path,
    media: str | None,
    keep_missing: bool,
    report: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Join with media if requested, write the manifest, and report what was read, joined and written."""
    from vidaudio.errors import ManifestError
    from vidaudio.manifest import write_manifest

    if output.resolve() in {path.resolve() for path in inputs}:
        raise ManifestError(f"--output {output} is the list itself, which would be overwritten; name another file")
    clips, joined = _with_media(listing.clips, media, keep_missing, report)
    write_manifest(clips, output)
    done = {
        "rows": listing.rows,
        "clips": len(listing.clips),
        "sources": listing.sources,
        "merged": listing.merged,
        "skipped": [str(row) for row in listing.bad_rows],
        "notes": list(listing.notes),
        "media": joined,
        "written": len(clips),
        "output": str(output),
    }
    if as_json:
        typer.echo(json.dumps(done, indent=2))
    else:
        typer.echo(_written(done) if quiet else _summary(listing, done))


def _with_media(
    clips: tuple[Clip, ...], media: str | None, keep_missing: bool, report: Path | None
) -> tuple[tuple[Clip, ...], dict[str, int | str] | None]:
    """Return the clips with the paths of their media, and the counts of the join (None if nothing was joined)."""
    from vidaudio.errors import ManifestError
    from vidaudio.manifest import fill_template, is_template, join_media, write_join_report

    in_folder = media is not None and not is_template(media)
    if not in_folder and (report or keep_missing):
        raise ManifestError("--report and --keep-missing are about the files of a folder: give one with --media DIR")
    if media is None:
        return clips, None
    if not in_folder:
        return fill_template(clips, media), {"template": media}
    join = join_media(clips, media, keep_missing=keep_missing)
    if report:
        write_join_report(join, report)
    counts: dict[str, int | str] = {
        "matched": len(join.matched),
        "cuts": join.cuts,
        "whole": len(join.matched) - join.cuts,
        "missing": len(join.missing),
        "copies": len(join.copies),
        "unlisted": len(join.unlisted),
    }
    if join.unreadable:
        counts["unreadable"] = len(join.unreadable)
    return join.clips, counts | ({"report": str(report)} if report else {})


def _summary(listing: Listing, done: dict) -> str:
    from vidaudio.manifest import shown_rows
    from vidaudio.text import number_of

    lines = [
        f"read     {number_of(done['rows'], 'row')}: {number_of(done['clips'], 'clip')} of "
        f"{number_of(done['sources'], 'source')}, {number_of(done['merged'], 'row')} merged into others"
    ]
    if listing.bad_rows:
        lines += [f"skipped  {number_of(len(listing.bad_rows), 'malformed row')}:", shown_rows(listing.bad_rows)]
    lines += [f"note     {note}" for note in listing.notes]
    media = done["media"]
    if media and "template" in media:
        lines.append(f"media    {media['template']} (not looked up)")
    elif media:
        lines.append(
            f"media    {media['matched']:,} matched ({media['cuts']:,} cuts, {media['whole']:,} whole videos), "
            f"{media['missing']:,} missing, {media['unlisted']:,} files unlisted, {media['copies']:,} further copies"
        )
        if "unreadable" in media:
            lines.append(f"note     {media['unreadable']:,} files have names that are not UTF-8 and were left out")
        if "report" in media:
            lines.append(f"report   {media['report']}")
    lines.append(_written(done))
    return "\n".join(lines)


def _written(done: dict) -> str:
    from vidaudio.text import number_of

    return f"wrote    {done['output']}: {number_of(done['written'], 'clip')}"


def _counts(counts: dict[str, int], shown: int = 10) -> str:
    """Return the largest counts in one line."""
    texts = [f"{name or '(none)'} {number:,}" for name, number in list(counts.items())[:shown]]
    return ", ".join(texts) + (f", and {len(counts) - shown:,} more" if len(counts) > shown else "")


def _mapping(pairs: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each field from `label=category` pairs, in the given order."""
    from vidaudio.errors import ManifestError

    columns: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals:
            raise ManifestError(f"--column {pair} is not of the form FIELD=COLUMN, such as --column url=link")
        columns.setdefault(name.strip(), []).append(column)
    return columns
