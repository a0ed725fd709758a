"""The best share of a pack's clips and of every label's, against a slow count."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from vidaudio.config.corpus import PackBlock
from vidaudio.errors import RecipeError
from vidaudio.packs.thresholds import RANKED_BY, resolve_thresholds


def clips(count: int = 200, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    labels = [
        tuple(generator.choice(["dog", "rain", "violin"], generator.integers(0, 3), replace=False))
        for _ in range(count)
    ]
    # Rain is harder to tell.
    scores = [generator.normal() - 3 * ("rain" in own) for own in labels]
    frame = pd.DataFrame({"id": [f"c{n:03d}" for n in range(count)], RANKED_BY: scores, "labels": labels})
    frame.loc[frame.index % 17 == 0, RANKED_BY] = math.nan
    return frame


def settings(**values: float) -> PackBlock:
    return PackBlock(name="a", **values)


def kept(frame: pd.DataFrame, block: PackBlock) -> set[str]:
    # In batches, as a corpus is read.
    thresholds = resolve_thresholds([frame[:70], frame[70:]], block)
    assert thresholds is not None
    return set(frame[thresholds.keeps(frame)]["id"])


def best(frame: pd.DataFrame, share: float) -> set[str]:
    known = frame[~frame[RANKED_BY].isna()].sort_values(RANKED_BY, ascending=False)
    return set(known["id"][: math.ceil(share * len(known))])


@pytest.mark.parametrize("share", [0.01, 0.3, 0.8, 1.0])
def test_the_best_share_is_kept(share: float):
    frame = clips()
    assert kept(frame, settings(keep_top=share)) == best(frame, share)


def test_every_label_keeps_its_best_whatever_the_threshold():
    frame = clips()
    of_label = {
        label: best(frame[[label in own for own in frame["labels"]]], 0.2) for label in ("dog", "rain", "violin")
    }
    top = best(frame, 0.1)
    assert not top & of_label["rain"]
    assert kept(frame, settings(keep_top=0.1, keep_per_label=0.2)) == top.union(*of_label.values())
    assert kept(frame, settings(keep_per_label=0.2)) == set().union(*of_label.values())


def test_nothing_is_read_where_nothing_is_asked_for():
    def unread():
        raise AssertionError("read")
        yield

    assert resolve_thresholds(unread(), settings()) is None


def test_clips_without_scores_are_never_kept():
    frame = clips(40)
    frame[RANKED_BY] = math.nan
    assert kept(frame, settings(keep_top=1.0, keep_per_label=1.0)) == set()


@pytest.mark.parametrize("value", [0.0, 1.1, -0.2])
def test_a_share_lies_between_nothing_and_all(value: float):
    from vidaudio.config.recipes import check

    with pytest.raises(RecipeError, match="keep_top"):
        check(PackBlock, {"name": "a", "keep_top": value}, "pack")


def test_packs_without_the_settings_are_described_as_before():
    assert not {"keep_top", "keep_per_label", "scorer"} & set(settings().identity())
