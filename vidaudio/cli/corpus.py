"""Commands `vidaudio build`, `status` and `pack`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the recipe; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:port; a local cluster by default.")]


def _known_reasons(text: str | None) -> str | None:
    """Refuse invalid reasons early: a bare option may have taken the recipe, which would then seem to be missing."""
    if text is not None:
        from vidaudio.pipeline.retry import parse_reasons

        parse_reasons(text)
    return text


def build(
    recipe: Annotated[str, typer.Argument(help="A recipe of pipelines/ by name, or a path to one.")],
    manifest: Annotated[
        Path | None, typer.Option("--manifest", "-m", help="The list, as `vidaudio manifest` wrote it.")
    ] = None,
    corpus: Annotated[str | None, typer.Option("--corpus", "-o", help="Folder or URL of the corpus.")] = None,
    only: Annotated[str | None, typer.Option(help="Some of download,extract,facts,embed,pack.")] = None,
    scheduler: Scheduler = None,
    retry_failed: Annotated[
        str | None,
        typer.Option(
            metavar="[REASONS]",
            callback=_known_reasons,
            help="Plan failed clips once more, into new shards: transient (the default), all, or reasons with commas.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done: shards, requests, bytes.")
    ] = False,
    settings: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build a corpus from a manifest, or continue one: download, extract, measure, embed, pack."""
    from vidaudio.config.corpus import load_corpus_recipe, with_scheduler
    from vidaudio.pipeline.build import build as run_build

    values = load_corpus_recipe(recipe, settings or [])
    if scheduler is not None:
        values = values.model_copy(update={"dask": with_scheduler(values.dask, scheduler)})
    listed = None if manifest is None else str(manifest)
    if dry_run:
        from vidaudio.pipeline.dry_run import dry_run as count

        plan = count(values, listed, corpus, only=only, retry_failed=retry_failed)
        typer.echo(json.dumps(plan.as_dict(), indent=2) if as_json else str(plan))
        return
    built = run_build(
        values,
        listed,
        corpus,
        only=only,
        retry_failed=retry_failed,
        progress=not quiet,
    )
    typer.echo(json.dumps(built.as_dict(), indent=2) if as_json else str(built))


def status(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of the corpus.")],
    quiet: Annotated[
        bool, typer.Option("--quiet", help="As of other commands: the counts, which are all that is told here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how many clips passed each stage, and why the others did not."""
    from vidaudio.maintenance.status import corpus_status

    found = corpus_status(corpus)
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else str(found))


def pack(
    corpus: Annotated[str, typer.Argument(help="Folder or URL of a finished corpus.")],
    name: Annotated[str | None, typer.Option(help="Name of the pack, training/NAME.")] = None,
    where: Annotated[
        str | None, typer.Option(help="Which clips, e.g. 'not silent and motion > 1 and seconds >= 4'.")
    ] = None,
    keep_top: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of these clips, the share whose sound and picture correspond best."),
    ] = None,
    keep_per_label: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of every label's clips, the share that is kept in any case.")
    ] = None,
    dedup: Annotated[
        bool, typer.Option("--dedup", help="Keep one clip of near-duplicates, in pictures and, with scores, in sound.")
    ] = False,
    weight: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Draw samples in training by this column, e.g. p_corresponds."),
    ] = None,
    fix_offset: Annotated[
        float | None,
        typer.Option(metavar="CONFIDENCE", help="Move the sound of clips whose offset is this sure, e.g. 0.8."),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="Whose scores are read; the only ones of the corpus by default.")
    ] = None,
    scheduler: Scheduler = None,
    settings: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Pack a finished corpus into training shards; also again under another name or with another selection."""
    from vidaudio.config.corpus import PackBlock
    from vidaudio.config.recipes import check, override
    from vidaudio.corpus.corpus import open_corpus
    from vidaudio.packs.selection import SelectionError
    from vidaudio.pipeline.build import pack as run_pack

    # In a recipe the settings are named `pack.window`; here, where all settings are a pack's, `window` works too.
    bare = [setting.removeprefix("pack.") for setting in settings or []]
    stored = open_corpus(corpus).pack.model_dump(mode="json")
    if any(setting.partition("=")[0] in ("window", "windows_per_clip") for setting in bare):
        # The two settings belong together: a new value for one replaces both.
        del stored["window"], stored["windows_per_clip"]
    values = override(stored, bare)
    options = {
        "name": name,
        "where": where,
        "keep_top": keep_top,
        "keep_per_label": keep_per_label,
        "dedup": (values.get("dedup") or {}) if dedup else None,
        "weight": weight,
        "fix_offset": fix_offset,
        "scorer": scorer,
    }
    values |= {key: value for key, value in options.items() if value is not None}
    try:
        packed = run_pack(corpus, check(PackBlock, values, "pack"), scheduler=scheduler, progress=not quiet)
    except SelectionError as error:
        if where is None:  # the selection is from the recipe or from --set
            raise
        raise error.called("--where") from error
    typer.echo(json.dumps(packed.as_dict(), indent=2) if as_json else str(packed))
