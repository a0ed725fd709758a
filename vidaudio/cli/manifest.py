"""Commands `vidaudio manifest`: convert a published list of videos to a manifest.

There is one command per format. Each calls the reader of that format in `vidaudio.manifest`, and all end in the same
steps: join with media, write, report.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from vidaudio.text import storable_text

if TYPE_CHECKING:
    from vidaudio.manifest import Clip, Listing

app = typer.Typer(no_args_is_help=True, help="Turn a list of videos into a manifest, and look into one.")

Lists = Annotated[list[Path], typer.Argument(metavar="LIST...", help="One list or several of the same format.")]
Split = Annotated[str | None, typer.Option(help="The split of every row, instead of the list's own.")]
Json = Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of every command that writes a manifest."""

    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to write (Parquet).")]
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Leave malformed rows out and say which.")] = (
        False
    )
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what was written.")] = False
    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class ListOptions(OutputOptions):
    """Further options of lists whose videos may be at hand already."""

    media: Annotated[
        str | None,
        typer.Option(
            help="Media that exist already: a folder with files named {id}_{start:06d}.*, {id}_{start_ms}_{end_ms}.* "
            "or {id}.*, or a template such as https://host/{id}_{start:06d}.mp4."
        ),
    ] = None
    keep_missing: Annotated[
        bool,
        typer.Option("--keep-missing", help="Keep clips that have no file in the folder, with the URL of the list."),
    ] = False
    report: Annotated[
        Path | None, typer.Option(help="Write the names of matched, missing, copied and unlisted files here (csv).")
    ] = None
    split: Split = None

    @property
    def of_rows(self) -> dict[str, Any]:
        """Arguments of the readers of published lists."""
        return {"split": self.split, "skip_bad_rows": self.skip_bad_rows}


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command whose parameter `options` stands for an option per field of its dataclass."""
    hints = get_type_hints(function, include_extras=True)
    options_type = hints["options"]
    names = {option.name for option in fields(options_type)}
    own = inspect.signature(function).parameters.values()
    parameters = [parameter for parameter in own if parameter.name != "options"]
    parameters += inspect.signature(options_type).parameters.values()
    hints |= get_type_hints(options_type, include_extras=True)

    @functools.wraps(function)
    def command(**values: Any) -> None:
        options = options_type(**{name: values.pop(name) for name in names})
        function(**values, options=options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=keyword, annotation=hints[parameter.name]) for parameter in parameters]
    )
    command.__annotations__ = {parameter.name: hints[parameter.name] for parameter in parameters}
    return app.command()(command)


@_command
def vggsound(lists: Lists, options: ListOptions) -> None:
    """Read VGGSound's csv (id, start, label, split) or its two-column test list."""
    from vidaudio.manifest import read_vggsound

    listing = read_vggsound(*lists, **options.of_rows)
    _finish(listing, lists, options)


@_command
def music(lists: Lists, options: ListOptions) -> None:
    """Read MUSIC's json: solos, duets, MUSIC-21 (whole videos)."""
    from vidaudio.manifest import read_music

    listing = read_music(*lists, **options.of_rows)
    _finish(listing, lists, options)


@_command
def audiocaps(lists: Lists, options: ListOptions) -> None:
    """Read AudioCaps' csv; all captions of a clip are collected."""
    from vidaudio.manifest import read_audiocaps

    listing = read_audiocaps(*lists, **options.of_rows)
    _finish(listing, lists, options)


@_command
def audioset(
    lists: Lists,
    options: ListOptions,
    class_labels: Annotated[
        Path | None, typer.Option(help="AudioSet's class list; by default class_labels_indices.csv beside the list.")
    ] = None,
) -> None:
    """Read AudioSet's segment csv; label ids become names."""
    from vidaudio.manifest import read_audioset

    listing = read_audioset(*lists, class_labels=class_labels, **options.of_rows)
    _finish(listing, lists, options)


@_command
def clipsep(
    lists: Lists,
    options: ListOptions,
    starts_from: Annotated[
        Path | None,
        typer.Option(help="VGGSound's csv, or a manifest (.parquet), that says where the listed videos are cut."),
    ] = None,
) -> None:
    """Read CLIPSep's index lists, for evaluation: videos and labels; the cuts come from another list."""
    from vidaudio.manifest import read_clipsep

    listing = read_clipsep(*lists, starts_from=starts_from, **options.of_rows)
    inputs = [*lists, *([starts_from] if starts_from else [])]
    _finish(listing, inputs, options)


@_command
def table(
    list_: Annotated[Path, typer.Argument(metavar="TABLE", help="A csv, tsv, jsonl or Parquet table.")],
    options: ListOptions,
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
) -> None:
    """Read a table of URLs, YouTube ids or paths; its columns are mapped to fields."""
    from vidaudio.manifest import TableOptions, read_table

    reading = TableOptions(
        columns=_mapping(column or []),
        label_separator=label_separator,
        caption_separator=caption_separator,
        root=root,
        dataset=dataset,
        split=options.split,
        cut_files=cut_files,
        check_files=check_files,
    )
    listing = read_table(list_, options=reading, table_format=table_format, skip_bad_rows=options.skip_bad_rows)
    _finish(listing, [list_], options)


@_command
def folder(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Searched for video files through all levels.")],
    options: OutputOptions,
    label_from: Annotated[
        str | None, typer.Option(metavar="parent", help="parent: the name of a file's folder is its label.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The data set's name; by default the folder's.")] = None,
    split: Split = None,
) -> None:
    """Read a folder of videos; every file is one clip."""
    from vidaudio.manifest import read_folder

    listing = read_folder(
        path, label_from=label_from, dataset=dataset, split=split, skip_bad_rows=options.skip_bad_rows
    )
    _finish(listing, [path], options)


@_command
def webdataset(
    tars: Annotated[list[Path], typer.Argument(metavar="TAR...", help="WebDataset shards, or folders of them.")],
    options: OutputOptions,
    dataset: Annotated[str | None, typer.Option(help="The data set's name; by default the shards' folder's.")] = None,
    split: Split = None,
) -> None:
    """Read WebDataset shards of videos; every video is one clip, with labels and captions from beside it."""
    from vidaudio.manifest import read_webdataset

    listing = read_webdataset(*tars, dataset=dataset, split=split, skip_bad_rows=options.skip_bad_rows)
    _finish(listing, tars, options)


@_command
def esc(
    list_: Annotated[Path, typer.Argument(metavar="LIST", help="esc50.csv, or a list with its columns.")],
    options: OutputOptions,
    sounds: Annotated[
        Path | None, typer.Option(help="The folder with the sound files; by default the list's own.")
    ] = None,
    test_fold: Annotated[list[int] | None, typer.Option(help="A fold for testing, 5 by default; repeatable.")] = None,
    val_fold: Annotated[list[int] | None, typer.Option(help="A fold for validation; repeatable.")] = None,
    only_esc10: Annotated[bool, typer.Option("--esc10", help="Only the ten classes of ESC-10.")] = False,
) -> None:
    """Read ESC-50's csv of sound files; folds become splits. For `vidaudio pack-sounds`."""
    from vidaudio.manifest import read_esc

    listing = read_esc(
        list_,
        sounds,
        test_folds=test_fold or (5,),
        val_folds=val_fold or (),
        only_esc10=only_esc10,
        skip_bad_rows=options.skip_bad_rows,
    )
    _finish(listing, [list_], options)


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


def _finish(listing: Listing, inputs: Sequence[Path], options: OutputOptions) -> None:
    """Join with media if requested, write the manifest, and report what was read, joined and written."""
    from vidaudio.errors import ManifestError
    from vidaudio.manifest import write_manifest

    output = options.output
    if output.resolve() in {path.resolve() for path in inputs}:
        raise ManifestError(f"--output {output} is the list itself, which would be overwritten; name another file")
    clips, joined = listing.clips, None
    if isinstance(options, ListOptions):
        clips, joined = _with_media(clips, options)
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
    if options.as_json:
        typer.echo(json.dumps(done, indent=2))
    else:
        typer.echo(_written(done) if options.quiet else _summary(listing, done))


def _with_media(clips: tuple[Clip, ...], options: ListOptions) -> tuple[tuple[Clip, ...], dict[str, int | str] | None]:
    """Return the clips with the paths of their media, and the counts of the join (None if nothing was joined)."""
    from vidaudio.errors import ManifestError
    from vidaudio.manifest import fill_template, is_template, join_media, write_join_report

    media, report = options.media, options.report
    in_folder = media is not None and not is_template(media)
    if not in_folder and (report or options.keep_missing):
        raise ManifestError("--report and --keep-missing are about the files of a folder: give one with --media DIR")
    if media is None:
        return clips, None
    if not in_folder:
        return fill_template(clips, media), {"template": media}
    join = join_media(clips, media, keep_missing=options.keep_missing)
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
