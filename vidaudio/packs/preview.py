"""Preview of what a build would pack: the pack's plan if its clips exist already, or that their shards come first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidaudio.config.corpus import CorpusRecipe
from vidaudio.corpus.columns import EMBED, SCORE, columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.encoders import is_own_encoder
from vidaudio.corpus.listing import Listings
from vidaudio.packs.description import PACK_FILE, read_pack_file
from vidaudio.packs.plan import PackExistsError, check_standing_plan, missing_tasks, plan_pack
from vidaudio.packs.selection import check_complete, pack_columns, reads_scores
from vidaudio.shards.commit import committed_shards_in
from vidaudio.text import number_of


@dataclass(frozen=True, slots=True)
class PackPreview:
    """Preview of what a build would pack.

    Attributes:
        folder: Folder of the pack, `training/NAME`.
        when: `now`; `after_shards` if the contents are known only after shards are built; `stands` if shards will be
            built but the pack exists already; `never` if the pack was made before the corpus grew or lost clips, and
            stays as it is.
        shards, samples: Number of training shards that are not packed yet, and of their samples; None if not known yet.
    """

    folder: str
    when: Literal["now", "after_shards", "stands", "never"]
    shards: int | None = None
    samples: int | None = None

    def __str__(self) -> str:
        if self.when == "after_shards":
            return f"{self.folder} after the shards: what goes in is known then"
        if self.when == "stands":
            return f"{self.folder} stands, and nothing that the shards to do add goes into it"
        if self.when == "never":
            return f"{self.folder} was packed before the corpus grew or lost clips, and stays as it is"
        return f"{self.shards:>9,} shards to do in {self.folder}, with {number_of(self.samples or 0, 'sample')}"


def plan_packing(
    recipe: CorpusRecipe,
    standing: Corpus | None,
    listings: Listings,
    missing: Mapping[str, np.ndarray],
    done: Mapping[str, np.ndarray],
    *,
    finished: bool,
) -> PackPreview:
    """Plan the pack of a build without writing anything.

    Args:
        recipe: Recipe of the build.
        standing: The corpus; None if it has not been begun.
        listings: Listings of the corpus's folders.
        missing: By wanted stage, which shards are not committed, bool `[shards]`.
        done: By stage of a column, which shards are committed, bool `[shards]`.
        finished: Whether the same build has finished and nothing has changed since, so that no clip needs to be read.

    Raises:
        PackError, CorpusError: As for the build: when shards lack a column that is packed and would not get it, or
            nothing is left to pack.
    """
    folder = f"training/{recipe.pack.name}"
    read = pack_columns(recipe.pack)
    if any(not done[column.stage].all() and column.stage in missing for column in read):
        return PackPreview(folder, "stands" if PACK_FILE in listings.get(folder, ()) else "after_shards")
    assert standing is not None, "a build that embeds nothing was refused where no corpus is"
    for column in read:
        check_complete(standing.url, column, int(np.count_nonzero(done[column.stage])), len(done[column.stage]))
    if finished:
        return PackPreview(folder, "now", 0, 0)
    models, settings = fullest_models(standing, listings), recipe.pack
    scorer = settings.scorer
    if reads_scores(settings):
        scorer = scorer or models[SCORE.stage]
    elif settings.dedup is not None:
        packed = PACK_FILE in listings.get(folder, ())
        scorer = read_pack_file(standing.store, folder).settings.scorer if packed else models.get(SCORE.stage)
    if scorer is not None:
        models[SCORE.stage] = scorer
        settings = settings.model_copy(update={"scorer": scorer})
    plan = plan_pack(standing, settings, models)
    try:
        check_standing_plan(standing, plan)
    except PackExistsError:
        # The preflight check has refused other settings, so only the clips can differ.
        return PackPreview(folder, "never")
    tasks = missing_tasks(standing.store, plan)
    return PackPreview(folder, "now", len(tasks), tasks.samples)


def fullest_models(corpus: Corpus, listings: Listings) -> dict[str, str]:
    """Return the model with the most committed shards by stage, for the columns that have a folder of any model.

    Of the encoders, others than the one that the corpus's recipe names count only if there is none of that one.
    """
    found = {}
    for column in columns_in_order():
        names = sorted(f.partition("/")[2] for f in listings if column.per_model and column.owns(f))
        if column.stage == EMBED.stage:
            names = [name for name in names if is_own_encoder(corpus, name)] or names
        if names:
            committed = {name: len(committed_shards_in(listings[column.model_folder(name)])) for name in names}
            found[column.stage] = max(names, key=committed.__getitem__)
    return found
