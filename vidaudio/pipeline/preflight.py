"""Preflight checks: find what would stop a run later, before anything is written, submitted or fetched.

A build and its dry run share these checks, so a dry run refuses what the build would refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vidaudio.config.corpus import CorpusRecipe, required_paths
from vidaudio.corpus.columns import DOWNLOAD, with_needs
from vidaudio.corpus.corpus import CORPUS_FILE, Corpus, check_corpus_name, check_settings, open_corpus
from vidaudio.errors import CorpusError, UsageError
from vidaudio.media.outcomes import Reason
from vidaudio.packs.plan import check_selection, check_standing_pack
from vidaudio.packs.selection import pack_columns
from vidaudio.pipeline.dask.cluster import check_cluster
from vidaudio.pipeline.retry import parse_reasons
from vidaudio.pipeline.stages import PACK, wanted_stages
from vidaudio.pipeline.stages.fused import check_keep
from vidaudio.shards.open import open_store


@dataclass(frozen=True)
class Request:
    """The arguments of a build, parsed.

    Attributes:
        recipe: Settings. If the recipe leaves the encoder's dtype open and the corpus exists, the dtype is the
            corpus's.
        where: Folder or URL of the corpus.
        list_path: Path of the manifest.
        stages: Requested stages, in order.
        reasons: Failure reasons whose clips are planned once more; None without `--retry-failed`.
        standing: The existing corpus; None where the build begins one.
    """

    recipe: CorpusRecipe
    where: str
    list_path: str
    stages: list[str]
    reasons: frozenset[Reason] | None
    standing: Corpus | None


def read_request(
    recipe: CorpusRecipe,
    manifest: str | None,
    corpus: str | None,
    *,
    only: str | Sequence[str] | None,
    retry_failed: str | Collection[str] | None,
) -> Request:
    """Parse the arguments of a build; they are those of `vidaudio.pipeline.build.build`.

    Raises:
        UsageError, CorpusError: When a stage or reason does not exist, corpus or manifest are not given, or the corpus
            cannot be opened.
    """
    stages = wanted_stages(only)
    where, list_path = required_paths(recipe, manifest, corpus)
    reasons = parse_reasons(retry_failed) if retry_failed is not None else None
    store = open_store(where)
    standing = open_corpus(where) if store.exists(CORPUS_FILE) else None
    if standing is None:
        store.list("")  # raises its own error where not even the bucket exists
    if standing is not None and recipe.embed.encoder.precision == "auto":
        # Keep the corpus's dtype: its vectors must not change because a later run uses another processor.
        recipe = with_precision(recipe, standing.settings.embed.encoder.precision)
    return Request(recipe, where, list_path, stages, reasons, standing)


def with_precision(recipe: CorpusRecipe, precision: str) -> CorpusRecipe:
    """Return the recipe with the encoder's dtype set."""
    encoder = recipe.embed.encoder.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"embed": recipe.embed.model_copy(update={"encoder": encoder})})


def check_request(request: Request) -> None:
    """Check whether a build could do what is requested, as far as this can be decided without manifest and encoder.

    Raises:
        RecipeError, UsageError, CorpusError: When it could not; the message says what is wrong, where, and what to do.
    """
    recipe, stages = request.recipe, request.stages
    check_run(recipe, stages)
    if PACK in stages:
        check_selection(recipe.pack)
    check_keep(recipe.download.keep, stages)
    if request.standing is None:
        check_corpus_name(request.where)
        _check_beginning(request)
        return
    if request.reasons is not None and DOWNLOAD.stage not in stages:
        raise UsageError("--retry-failed fetches clips once more, so --only must name download, too")
    check_settings(request.where, recipe.corpus_settings())
    if PACK in stages:
        check_standing_pack(request.standing, recipe.pack)


def _check_beginning(request: Request) -> None:
    """Check that the stages can begin a corpus; a path without a corpus may be a typing error."""
    if request.reasons is not None:
        raise CorpusError(
            f"there is no corpus at {request.where}, so nothing of it has failed; name one with --corpus, or leave "
            "--retry-failed out to begin it"
        )
    for place, stage in enumerate(request.stages):
        read = [c.stage for c in pack_columns(request.recipe.pack)] if stage == PACK else [stage]
        before = request.stages[:place]
        lacking = [c.stage for c in with_needs(read) if c.stage != stage and c.stage not in before]
        if lacking:
            raise CorpusError(
                f"there is no corpus at {request.where}, and {stage} needs what {' and '.join(lacking)} would leave "
                f"there; name another place with --corpus, or {' and '.join(lacking)} with --only, too"
            )


def check_run(recipe: CorpusRecipe, stages: Sequence[str]) -> None:
    """Check whether a run by this recipe could begin, as far as this can be decided without starting it.

    Raises:
        RecipeError, UsageError, CorpusError: When it could not; the message says what is wrong, where, and what to do.
    """
    check_cluster(recipe.dask)
    if DOWNLOAD.stage in stages:
        # Imported here: only a run that fetches needs yt-dlp.
        from vidaudio.media.fetch.ytdlp_options import check_site_names, check_ytdlp
        from vidaudio.pipeline.stages.download import fetch_options

        check_ytdlp(fetch_options(recipe.download, recipe.download), files_are_here=not recipe.dask.spans_machines)
        check_site_names(recipe.download.rate.sites, recipe.download.extractors)
