"""What selection by correspondence is worth: CLIPSep on a demo world of which a third sounds like something else.

    python -m benchmarks.selection --minutes 60

Five arms at equal steps: all clips; those with P(corresponds) above 0.5, by a scorer that was fitted to the same corpus
with the run's seed; as many drawn at random; all, drawn by P(corresponds); and those whose sound is truly their own.
CLIPSep-NIT, which is made for such data, trains on all of them. All are tested on the same clean mixtures of held-out
videos: in words, in words through the nearest pictures of the corpus, and by pictures.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trainings import TrainingJob, arguments, load_budget, run_jobs, summaries
from benchmarks.world import THROUGH, WORLD_SEED, scores_by_way, world_jobs
from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.corpus import open_corpus
from vidaudio.demo.corpus import WORLD_FOLDER, build_world
from vidaudio.demo.render import read_world
from vidaudio.packs.selection import usable_clips
from vidaudio.pipeline.build import pack
from vidaudio.pipeline.score import score
from vidaudio.pipeline.stages.embed import recorded_encoder
from vidaudio.pipeline.stages.scorer_files import open_scorer, scorer_names
from vidaudio.report.modality_gap import gap as measured_gap
from vidaudio.tasks.correspondence.fit import fit_scorer
from vidaudio.tasks.queries.gap import GAP_FOLDER
from vidaudio.tasks.separation.evaluate import TestMaterial
from vidaudio.tasks.separation.recipe import SeparationRecipe

TABLE = "selection"
MISMATCHED_SHARE = 1 / 3
LEAST_PROBABILITY = 0.5
WORLD = "world-mismatched"
ALL = ""


class Arms:
    """Packs of the world's corpus, each made when a run first wants it.

    Attributes:
        everything: Folder of the pack of all clips, whose test split is that of all arms.
    """

    def __init__(self, folder: Path) -> None:
        self._world = folder / WORLD_FOLDER
        self.everything = build_world(folder, seed=WORLD_SEED, flawed_per_flaw=0, mismatched_share=MISMATCHED_SHARE)
        self._corpus = open_corpus(str(self.everything.parent.parent))

    def data(self, arm: str, seed: int) -> Path:
        """Return the folder that an arm trains on."""
        if arm == ALL:
            return self.everything
        name = "oracle" if arm == "oracle" else f"{arm}-{seed}"
        # A finished pack of the same plan stays as it is, and one of another plan is refused.
        pack(self._corpus.url, self._settings(arm, name, seed), progress=False)
        return self.everything.parent / name

    def _settings(self, arm: str, name: str, seed: int) -> PackBlock:
        if arm == "oracle":
            return PackBlock(name=name, where=_without(self._wrong()))
        scorer = self._scorer(seed)
        if arm == "weighted":
            return PackBlock(name=name, weight="p_corresponds", scorer=scorer)
        if arm == "filtered":
            return PackBlock(name=name, where=f"p_corresponds > {LEAST_PROBABILITY}", scorer=scorer)
        if arm == "random":
            return PackBlock(name=name, where=_without(self._drawn(seed)))
        raise SystemExit(f"there is no arm {arm}")

    def _scorer(self, seed: int) -> str:
        """Return the name of the seed's scorer, fitted to the corpus without a look at what is wrong in it."""
        name = f"seed{seed}"
        if name not in scorer_names(self._corpus):
            fit_scorer(self._corpus.url, name, seed=seed)
        score(self._corpus.url, name, progress=False)
        return name

    def probabilities(self, seed: int) -> dict[str, float]:
        """Return P(corresponds) of the training and validation clips by the seed's scorer, by id."""
        models = {"embed": recorded_encoder(self._corpus), "score": self._scorer(seed)}
        found = {}
        for clips in usable_clips(self._corpus, models, {"split", "p_corresponds"}):
            clips = clips[clips["split"] != "test"]
            found |= dict(zip(clips["id"], clips["p_corresponds"], strict=True))
        return found

    def _drawn(self, seed: int) -> list[str]:
        """Draw as many clips of each split to leave out as the filter leaves out."""
        probabilities, rng = self.probabilities(seed), np.random.default_rng(seed)
        dropped: list[str] = []
        for split in ("train", "val"):
            ids = [clip for clip in probabilities if clip.startswith(split)]
            count = sum(probabilities[clip] <= LEAST_PROBABILITY for clip in ids)
            dropped += rng.choice(ids, count, replace=False).tolist()
        return dropped

    def _wrong(self) -> list[str]:
        videos = read_world(self._world)
        return [Path(video.file).stem for video in videos if video.sounding != video.label]

    def facts(self, seed: int) -> dict[str, Any]:
        """Return what the seed's scorer says of the corpus, and how right its filter is."""
        probabilities, wrong = self.probabilities(seed), set(self._wrong())
        kept = [clip for clip, probability in probabilities.items() if probability > LEAST_PROBABILITY]
        own = [clip for clip in probabilities if clip not in wrong]
        scorer = open_scorer(self._corpus, f"seed{seed}")
        return {
            "clips": len(probabilities),
            "mismatched": len(probabilities) - len(own),
            # Of the whole corpus, whose test clips all correspond.
            "share": round((len(probabilities) - len(own)) / scorer.facts["clips"], 4),
            "estimated_share": scorer.facts["mismatched_share"],
            "kept": len(kept),
            "kept_that_correspond": sum(clip not in wrong for clip in kept),
            "least_probability": LEAST_PROBABILITY,
        }


def _without(ids: Collection[str]) -> str:
    return f"id not in {sorted(ids)!r}"


def score_selected(job: TrainingJob, *, arms: Arms, mixtures: int | None, processes: int) -> dict[str, Any]:
    """Evaluate a run on the test mixtures that all arms share, and words through the pictures of all clips."""
    fitted = measured_gap(arms.everything, fit=[THROUGH], output=job.run / GAP_FOLDER, seed=job.recipe.seed)
    material = TestMaterial(str(arms.everything), different_labels=True, mixtures=mixtures)
    report, found = scores_by_way(job.run, material, fitted.files[THROUGH], processes)
    return summaries(report) | {"summaries": found, "selection": arms.facts(job.recipe.seed)}


def main() -> None:
    budget = load_budget(TABLE)
    chosen = arguments(__doc__.split("\n")[0], list(budget.systems))
    arms = Arms(chosen.folder / WORLD)

    def data(recipe: SeparationRecipe, variant: str) -> Path:
        return arms.data(ALL if recipe.system == "clipsep_nit" else variant, recipe.seed)

    jobs = world_jobs(TABLE, budget, chosen, data, {"world_seed": WORLD_SEED, "mismatched_share": MISMATCHED_SHARE})
    measured = partial(score_selected, arms=arms, mixtures=chosen.mixtures, processes=chosen.processes)
    run_jobs(jobs, measured, until=chosen.until)


if __name__ == "__main__":
    main()
