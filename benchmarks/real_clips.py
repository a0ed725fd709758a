"""Correspondence on a handful of real clips: own pairs against swapped ones, and flags of a list beside our facts.

    python -m benchmarks.real_clips FOLDER [--flags vggsounder.csv] [--folder FOLDER]

FOLDER holds videos whose sound and picture belong together. Their pictures are encoded by the demo's CLIP, which has
only seen drawings, and a scorer is fitted to them: what is measured is what little that can do, and the timing, which
needs no training on such pictures. `--flags` is VGGSounder's list; its clips are printed with its flags and our facts.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write_result
from benchmarks.trainings import DEFAULT_FOLDER
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.correspondence.calibration import auc
from vidaudio.correspondence.scorer import Score
from vidaudio.demo.corpus import build_world
from vidaudio.manifest import read_folder, write_manifest
from vidaudio.markdown import markdown_table
from vidaudio.packs.selection import usable_clips
from vidaudio.pipeline.build import build
from vidaudio.pipeline.score import score
from vidaudio.pipeline.stages.embed import recorded_encoder
from vidaudio.pipeline.stages.scored_clips import ListedClip, read_scored_clips
from vidaudio.pipeline.stages.scorer_files import adopt_scorer, open_scorer, scorer_names
from vidaudio.tasks.correspondence.fit import fit_scorer
from vidaudio.tasks.correspondence.offscreen import offscreen

SWAPS, RESAMPLES = 4, 2_000
FLAGS = ("background_music", "static_image", "voice_over")
FACTS = ("still_share", "silent_share", "cuts", "p_corresponds", "speech_share", "voice_over")


def built(videos: Path, folder: Path) -> Corpus:
    """Build a corpus of a folder of videos, with facts and vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    # A corpus of other videos refuses this list.
    write_manifest(read_folder(videos).clips, folder / "clips.parquet")
    build(
        load_corpus_recipe("demo", ("extract.frame_size=224", "extract.decode=whole")),
        str(folder / "clips.parquet"),
        str(folder / "corpus"),
        only=("download", "extract", "facts", "embed"),
        progress=False,
    )
    return open_corpus(str(folder / "corpus"))


def pairs(corpus: Corpus, scorer_name: str, seed: int) -> tuple[list[Score], list[list[Score]]]:
    """Return the scores of every clip, and those of its pictures with the sounds of other clips."""
    scorer, rng = open_scorer(corpus, scorer_name), np.random.default_rng(seed)
    folder = EMBED.model_folder(recorded_encoder(corpus))
    clips: list[ListedClip] = [
        listed for shard in range(corpus.shards) for listed in read_scored_clips(corpus, shard, folder)
    ]
    own, swapped = [], []
    for listed in clips:
        own.append(scorer.score(listed.clip))
        others = [other for other in range(len(clips)) if clips[other].clip.source != listed.clip.source]
        swapped.append(
            [
                scorer.score(
                    replace(
                        listed.clip,
                        samples=clips[other].clip.samples,
                        audio_start_seconds=clips[other].clip.audio_start_seconds,
                        onsets=clips[other].clip.onsets,
                    )
                )
                for other in rng.choice(others, min(SWAPS, len(others)), replace=False)
            ]
        )
    return own, swapped


def auc_with_interval(own: Sequence[float | None], swapped: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Return the area under the curve of own against swapped pairs, with a 95 % interval by a bootstrap over clips."""
    known = [
        (value, [each for each in others if each is not None])
        for value, others in zip(own, swapped, strict=True)
        if value is not None
    ]
    rng = np.random.default_rng(0)

    def area(rows: Sequence[int]) -> float:
        return auc(
            np.array([known[row][0] for row in rows]), np.array([each for row in rows for each in known[row][1]])
        )

    count = len(known)
    resampled = [area(rng.integers(count, size=count).tolist()) for _ in range(RESAMPLES)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"clips": count, "auc": round(area(range(count)), 3), "low": round(low, 3), "high": round(high, 3)}


def flagged(path: Path, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return labels with their modality, and flags, of those clips that VGGSounder's list has."""
    wanted = {f"{clip[:11]}_{clip[12:18]}": clip for clip in ids}
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"labels": []})
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if clip := wanted.get(row["video_id"]):
                found[clip]["labels"].append(f"{row['label']} ({row['modality']})")
                found[clip] |= {flag: row[flag] == "True" for flag in FLAGS}
    return dict(found)


def facts_of(corpus: Corpus, scorer_name: str) -> dict[str, Mapping[str, Any]]:
    """Return our facts of every clip by its id."""
    models = {"embed": recorded_encoder(corpus), "score": scorer_name}
    rows: dict[str, Mapping[str, Any]] = {}
    for clips in usable_clips(corpus, models, set(FACTS)):
        rows |= {row["id"]: row for row in clips.to_dict("records")}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--flags", type=Path, help="VGGSounder's csv")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER / "real-clips")
    chosen = parser.parse_args()
    corpus = built(chosen.videos, chosen.folder)
    build_world(chosen.folder / "demo", flawed_per_flaw=0)
    demo = open_corpus(str(chosen.folder / "demo" / "corpus-clip"))
    if not scorer_names(demo):
        fit_scorer(demo.url, progress=False)
    if "own" not in scorer_names(corpus):
        fit_scorer(corpus.url, "own", seed=chosen.seed, progress=False)
    adopt_scorer(corpus, demo.url, "demo")
    result: dict[str, Any] = {}
    for name in ("own", "demo"):
        own, swapped = pairs(corpus, name, chosen.seed)
        result[f"{name} scorer, correspondence"] = auc_with_interval(
            [each.normalised for each in own], [[each.normalised for each in row] for row in swapped]
        )
        result[f"{name} scorer, in sync"] = auc_with_interval(
            [each.timing and each.timing.in_sync for each in own],
            [[each.timing and each.timing.in_sync for each in row] for row in swapped],
        )
    for what, values in result.items():
        print(f"{what}: AUC {values['auc']:.3f} [{values['low']:.3f}, {values['high']:.3f}], {values['clips']} clips")
    if chosen.flags is not None:
        score(corpus.url, "own", progress=False)
        offscreen(corpus.url, progress=False)
        ours = facts_of(corpus, "own")
        listed = flagged(chosen.flags, list(ours))
        rows = []
        for clip, theirs in sorted(listed.items()):
            flags = ", ".join(flag.replace("_", " ") for flag in FLAGS if theirs[flag])
            rows.append([clip, "; ".join(theirs["labels"]), flags, *(_shown(ours[clip][fact]) for fact in FACTS)])
        print("\n".join(markdown_table(["clip", "labels", "flags", *FACTS], rows, texts=3)))
        result["clips in the list"] = len(rows)
    write_result(
        "real_clips", {"seed": chosen.seed, "swaps": SWAPS, "clips": corpus.clips, "plan": corpus.plan_hash}, result
    )


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
