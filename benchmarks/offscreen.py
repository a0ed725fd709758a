"""How well the energy that a separator leaves behind tells how much of a sound is from off screen.

    python -m benchmarks.offscreen --run RUN [--folder FOLDER]

A demo world is rendered and built. Each test clip gets the sound of another kind on top, at a drawn level, and a
trained system is asked by the clip's own pictures for what is left. RUN is a CLIPSep of the demo's world.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr, spearmanr

from benchmarks.common import write_result
from benchmarks.trainings import DEFAULT_FOLDER
from vidaudio.corpus.corpus import open_corpus
from vidaudio.demo.corpus import build_world
from vidaudio.pipeline.stages.embed import recorded_encoder
from vidaudio.pipeline.stages.scored_clips import ListedClip, read_scored_clips
from vidaudio.tasks.correspondence.offscreen_stage import Measurer, Tools, file_hash
from vidaudio.tasks.separation.checkpoint import read_separator

# Level of the added sound relative to the clip's own, dB.
LEVELS_DB = (-20.0, 15.0)
SPLITS = ("val", "test")


def held_out_clips(corpus_folder: str) -> list[ListedClip]:
    """Return the validation and test clips of a corpus that have sound and pictures."""
    corpus = open_corpus(corpus_folder)
    splits = dict(zip(*(corpus.manifest(["id", "split"])[name].to_pylist() for name in ("id", "split")), strict=True))
    folder = f"embeddings/{recorded_encoder(corpus)}"
    clips = (listed for shard in range(corpus.shards) for listed in read_scored_clips(corpus, shard, folder))
    return [listed for listed in clips if splits[listed.id] in SPLITS and listed.clip.samples.any()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER / "offscreen")
    chosen = parser.parse_args()
    build_world(chosen.folder, flawed_per_flaw=0)
    clips = held_out_clips(str(chosen.folder / "corpus-clip"))
    weights = read_separator(chosen.run)[2]
    measure = Measurer(Tools("", {}, None, None, (), str(weights), file_hash(weights), ""))
    generator = np.random.default_rng(chosen.seed)
    planted, found = [], []
    for listed in clips:
        others = [other for other in clips if other.label != listed.label]
        other = others[int(generator.integers(len(others)))].clip.samples
        own = listed.clip.samples
        length = min(len(own), len(other))
        target, added = own[:length].astype(np.float64), other[:length].astype(np.float64)
        level = float(generator.uniform(*LEVELS_DB))
        added *= 10 ** (level / 20) * np.linalg.norm(target) / np.linalg.norm(added)
        mixture = target + added
        scale = min(1.0, 32_000 / np.abs(mixture).max())
        mixed = replace(listed.clip, samples=np.round(mixture * scale).astype(np.int16))
        left = measure(mixed).residual_db
        assert left is not None, "the mixture is no silence"
        planted.append(10 * np.log10(np.square(added).sum() / np.square(mixture).sum()))
        found.append(left)
    result = {
        "clips": len(found),
        "pearson_db": round(float(pearsonr(planted, found)[0]), 3),
        "spearman": round(float(spearmanr(planted, found)[0]), 3),
    }
    print(result)
    write_result("offscreen", {"seed": chosen.seed, "levels_db": LEVELS_DB}, result)


if __name__ == "__main__":
    main()
