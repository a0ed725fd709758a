"""What would stop a run later, found at the door: before anything is written, submitted or fetched."""

from __future__ import annotations

from collections.abc import Sequence

from vidaudio.pipeline.cluster import check_cluster
from vidaudio.pipeline.recipe import CorpusRecipe


def check_run(recipe: CorpusRecipe, stages: Sequence[str]) -> None:
    """Whether a run by this recipe could begin, as far as can be told without beginning it.

    Raises:
        RecipeError, CorpusError: What is wrong, where, and what to do.
    """
    check_cluster(recipe.dask)
    if "download" in stages:
        # Here and not at the top: only a run that fetches needs yt-dlp.
        from vidaudio.media.ytdlp_options import check_site_names, check_ytdlp
        from vidaudio.pipeline.stages.download import fetch_options

        check_ytdlp(fetch_options(recipe.download), files_are_here=not recipe.dask.spans_machines)
        check_site_names(recipe.download.rate.sites, recipe.download.extractors)
