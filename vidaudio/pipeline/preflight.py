"""What would stop a run later, found at the door: before anything is written, submitted or fetched.

A build and its dry run come through the same door, so that a dry run refuses what the build would refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vidaudio.config.corpus import STAGES, CorpusRecipe, required_paths, wanted_stages
from vidaudio.corpus.corpus import CORPUS_FILE, Corpus, check_corpus_name, check_settings, open_corpus
from vidaudio.errors import CorpusError
from vidaudio.media.outcomes import Reason
from vidaudio.packs.plan import check_selection, check_standing_pack
from vidaudio.pipeline.dask.cluster import check_cluster
from vidaudio.pipeline.retry import parse_reasons
from vidaudio.pipeline.stages.fused import check_keep
from vidaudio.shards.store import open_store


@dataclass(frozen=True)
class Request:
    """What is asked of a build.

    Attributes:
        recipe: Settings; the encoder's dtype is that of the corpus, where there is one and the recipe leaves it open.
        where: Folder or URL of the corpus.
        list_path: Of the manifest.
        stages: Those wanted, in order.
        reasons: Of the failures that are to be planned once more; None where that is not asked for.
        standing: The corpus, where it has been begun.
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
    """Understand what a build was asked for; arguments as for `vidaudio.pipeline.build.build`.

    Raises:
        CorpusError: A stage or reason that does not exist, no place or no list, a corpus that cannot be opened.
    """
    stages = wanted_stages(only)
    where, list_path = required_paths(recipe, manifest, corpus)
    reasons = parse_reasons(retry_failed) if retry_failed is not None else None
    store = open_store(where)
    standing = open_corpus(where) if store.exists(CORPUS_FILE) else None
    if standing is None:
        store.list("")  # which has its own words where not even the bucket is there
    if standing is not None and recipe.embed.encoder.precision == "auto":
        # Decided once: a corpus must not change its vectors because a later run has another processor.
        recipe = with_precision(recipe, standing.settings.embed.encoder.precision)
    return Request(recipe, where, list_path, stages, reasons, standing)


def with_precision(recipe: CorpusRecipe, precision: str) -> CorpusRecipe:
    """The recipe with its encoder's dtype decided."""
    encoder = recipe.embed.encoder.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"embed": recipe.embed.model_copy(update={"encoder": encoder})})


def check_request(request: Request) -> None:
    """Whether a build could do what it is asked for, as far as can be told without list and encoder.

    Raises:
        RecipeError, CorpusError: What is wrong, where, and what to do.
    """
    recipe, stages = request.recipe, request.stages
    check_run(recipe, stages)
    if "pack" in stages:
        check_selection(recipe.pack)
    check_keep(recipe.download.keep, stages)
    if request.standing is None:
        check_corpus_name(request.where)
        _check_beginning(request)
        return
    if request.reasons is not None and "download" not in stages:
        raise CorpusError("--retry-failed fetches clips once more, so --only must name download, too")
    check_settings(request.where, recipe.corpus_settings())
    if "pack" in stages:
        check_standing_pack(request.standing, recipe.pack)


def _check_beginning(request: Request) -> None:
    """A place where no corpus is may be a slip of the hand: only a run that can begin one does."""
    if request.reasons is not None:
        raise CorpusError(
            f"there is no corpus at {request.where}, so nothing of it has failed; name one with --corpus, or leave "
            "--retry-failed out to begin it"
        )
    for place, stage in enumerate(request.stages):
        lacking = [name for name in STAGES[: STAGES.index(stage)] if name not in request.stages[:place]]
        if lacking:
            raise CorpusError(
                f"there is no corpus at {request.where}, and {stage} needs what {' and '.join(lacking)} would leave "
                f"there; name another place with --corpus, or {' and '.join(lacking)} with --only, too"
            )


def check_run(recipe: CorpusRecipe, stages: Sequence[str]) -> None:
    """Whether a run by this recipe could begin, as far as can be told without beginning it.

    Raises:
        RecipeError, CorpusError: What is wrong, where, and what to do.
    """
    check_cluster(recipe.dask)
    if "download" in stages:
        # Here and not at the top: only a run that fetches needs yt-dlp.
        from vidaudio.media.fetch.ytdlp_options import check_site_names, check_ytdlp
        from vidaudio.pipeline.stages.download import fetch_options

        check_ytdlp(fetch_options(recipe.download, recipe.download), files_are_here=not recipe.dask.spans_machines)
        check_site_names(recipe.download.rate.sites, recipe.download.extractors)
