"""What a build would pack: the pack's plan where its clips are there already, else that they come first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.pack_plan import PackStands, check_standing_plan, missing_tasks, plan_pack
from vidaudio.pipeline.pack_select import check_embedded
from vidaudio.pipeline.recipe import CorpusRecipe
from vidaudio.shards.commit import committed_shards
from vidaudio.wording import number_of


@dataclass(frozen=True, slots=True)
class Packing:
    """What a build would pack.

    Attributes:
        folder: `training/NAME`.
        when: `now`; `after_shards`, where what goes in is known only once the shards before it are done; `never`, where
            the pack was made before the corpus grew or lost clips, and stays as it is.
        shards, samples: Training shards that are not packed yet, and what goes into them; None where not known yet.
    """

    folder: str
    when: Literal["now", "after_shards", "never"]
    shards: int | None = None
    samples: int | None = None

    def __str__(self) -> str:
        if self.when == "after_shards":
            return f"{self.folder} after the shards: what goes in is known then"
        if self.when == "never":
            return f"{self.folder} was packed before the corpus grew or lost clips, and stays as it is"
        return f"{self.shards:>9,} shards to do in {self.folder}, with {number_of(self.samples or 0, 'sample')}"


def plan_packing(
    recipe: CorpusRecipe, standing: Corpus | None, missing: Mapping[str, np.ndarray], embedded: np.ndarray
) -> Packing:
    """What the pack of a build would be.

    Args:
        recipe: Of the build.
        standing: The corpus, where it has been begun.
        missing: By wanted stage, which shards are not committed, bool `[shards]`.
        embedded: Which shards are embedded, bool `[shards]`.

    Raises:
        CorpusError: As the build would: shards are not embedded and would not be, or nothing is left to pack.
    """
    folder = f"training/{recipe.pack.name}"
    if not embedded.all() and "embed" in missing:
        return Packing(folder, "after_shards")
    assert standing is not None, "a build that embeds nothing was refused where no corpus is"
    check_embedded(standing.url, int(np.count_nonzero(embedded)), len(embedded))
    encoder = fullest_encoder(standing)
    assert encoder is not None, "shards are embedded"
    plan = plan_pack(standing, recipe.pack, encoder)
    try:
        check_standing_plan(standing, plan)
    except PackStands:
        # Other settings were refused at the door: it is the clips that are others.
        return Packing(folder, "never")
    tasks = missing_tasks(standing.store, plan)
    return Packing(folder, "now", len(tasks), tasks.samples)


def fullest_encoder(corpus: Corpus) -> str | None:
    """The encoder whose vectors a corpus has, by the name of their folder; of several the one that is furthest."""
    names = sorted(corpus.store.folders("embeddings"))
    return max(names, key=lambda name: len(committed_shards(corpus.store, f"embeddings/{name}")), default=None)
