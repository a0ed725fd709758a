"""The estimated share of clips that do not correspond, in demo worlds of which a known share carries another's sound.

    python -m benchmarks.mismatched [--shares 0.1,0.2,0.33,0.5] [--seeds 0,1,2,3,4] [--folder FOLDER]

One demo world is rendered and built; in each run a drawn share of its clips exchange their sounds among themselves, for
sounds of another kind. AUC and calibration are against that truth.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import write_result
from benchmarks.trainings import DEFAULT_FOLDER
from vidaudio.corpus.corpus import open_corpus
from vidaudio.correspondence.calibration import auc, calibration_error
from vidaudio.demo.corpus import build_world
from vidaudio.tasks.correspondence.fit import MOST_CLIPS, fit_to_data
from vidaudio.tasks.correspondence.fit_data import FitData, read_fit_data

SHARES, SEEDS = "0.1,0.2,0.33,0.5", "0,1,2,3,4"


def exchanged(data: FitData, share: float, generator: np.random.Generator) -> tuple[FitData, np.ndarray]:
    """Exchange the sounds of a share of the clips among themselves, each for one of another label.

    Returns:
        The data, and which clips still have their own sound, bool `[N]`.
    """
    rows = generator.permutation(len(data.clips))[: round(share * len(data.clips))]
    given = rows.copy()
    while len(alike := np.flatnonzero(data.labels[given] == data.labels[rows])):
        for place in alike:
            other = generator.integers(len(given))
            given[[place, other]] = given[[other, place]]
    bands, clips, envelopes = data.cache.bands.copy(), list(data.clips), list(data.envelopes)
    for row, donor in zip(rows, given, strict=True):
        data.cache.bands[row] = bands[donor]
        clips[row] = replace(clips[row], times=data.clips[donor].times, seconds=data.clips[donor].seconds)
        seen, heard = data.envelopes[row], data.envelopes[donor]
        envelopes[row] = None if seen is None or heard is None else (seen[0], heard[1])
    own = np.ones(len(clips), bool)
    own[rows] = False
    return replace(data, clips=clips, envelopes=envelopes), own


def measured(corpus: str, share: float, seed: int) -> dict[str, Any]:
    """Fit a scorer to a world with a share of foreign sounds; return what it says, and the truth."""
    bar = tqdm(disable=True)
    data = read_fit_data(open_corpus(corpus), MOST_CLIPS, seed, "", bar)
    data, own = exchanged(data, share, np.random.default_rng([seed, round(100 * share)]))
    fitted = fit_to_data(data, None, seed, bar)
    calibration, scores = fitted.scorer.calibration, fitted.judged.own
    return {
        "share": share,
        "seed": seed,
        "clips": len(own),
        "truth": round(float(1 - own.mean()), 4),
        "estimated": round(calibration.mismatched_share, 4),
        "low": round(calibration.low, 4),
        "high": round(calibration.high, 4),
        "auc": round(auc(scores[own], scores[~own]), 4),
        "calibration_error": round(calibration_error(calibration.probability(scores), own), 4),
        **{
            f"{negatives} {what}": value
            for negatives, values in fitted.scorer.facts["auc"].items()
            for what, value in values.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", default=SHARES)
    parser.add_argument("--seeds", default=SEEDS)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER / "mismatched")
    chosen = parser.parse_args()
    build_world(chosen.folder, flawed_per_flaw=0)
    rows = []
    for seed in map(int, chosen.seeds.split(",")):
        for share in map(float, chosen.shares.split(",")):
            rows.append(measured(str(chosen.folder / "corpus-clip"), share, seed))
            print(rows[-1], flush=True)
    told = [row["low"] <= row["truth"] <= row["high"] for row in rows]
    near = [abs(row["estimated"] - row["truth"]) <= 0.05 for row in rows]
    print(f"{sum(near)} of {len(rows)} within 0.05 of the truth; {sum(told)} intervals cover it")
    write_result(
        "mismatched",
        {"shares": chosen.shares, "seeds": chosen.seeds},
        {"worlds": rows, "within_0.05": sum(near), "covered": sum(told)},
    )


if __name__ == "__main__":
    main()
