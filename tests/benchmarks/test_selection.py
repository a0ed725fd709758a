"""Training on selected clips: the packs of the arms, and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import selection
from benchmarks.selection import Arms
from benchmarks.selection_tables import ARMS, selection_markdown
from benchmarks.trainings import load_budget
from vidaudio.demo.render import SMALL, read_world
from vidaudio.stream.index import open_index


def result(system: str, variant: str, seed: int, sdr: float) -> dict[str, Any]:
    summary = {"sdr": {"mean": sdr, "standard_error": 0.5}, "si_sdr_improvement": {"mean": sdr - 1}}
    facts = {
        "clips": 300,
        "mismatched": 100,
        "share": 0.33,
        "estimated_share": 0.31,
        "kept": 190,
        "kept_that_correspond": 189,
    }
    return {
        "settings": {"system": system, "variant": variant, "seed": seed, "steps": 100},
        "results": {"summaries": dict.fromkeys(("text", "retrieval", "image"), summary), "selection": facts},
    }


def test_gains_are_over_random_seed_by_seed():
    runs = [result("clipsep", "random", seed, sdr) for seed, sdr in enumerate((3.0, 5.0))]
    runs += [result("clipsep", "filtered", seed, sdr) for seed, sdr in enumerate((4.0, 6.5))]
    table = selection_markdown(runs)
    assert "| as many as filtered, at random | 2 | +3.00; 4.00 ± 1.00 |" in table
    assert (
        "| filtered, P > 0.5 | 2 | +4.25; 5.25 ± 1.25 | +4.25; 5.25 ± 1.25 | +4.25; 5.25 ± 1.25 | +1.25 ± 0.25 |"
        in table
    )
    assert "seed 0 estimated 31 % (truth 33 %), kept 190 of 300, of which 189 correspond" in table
    assert selection_markdown([]) == ""


def test_every_arm_is_in_the_table():
    arms = {(name.partition("+")[0], name.partition("+")[2]) for name in load_budget("selection").systems}
    assert arms == set(ARMS)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    from vidaudio.demo import corpus

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            corpus.build_world, "__kwdefaults__", corpus.build_world.__kwdefaults__ | {"videos_per_kind": SMALL}
        )
        return Arms(tmp_path_factory.mktemp("arms") / selection.WORLD)


def ids(folder: Path, split: str) -> set[str]:
    return {source.removeprefix("demo:") for source in open_index(str(folder), split).table["source"].to_pylist()}


@pytest.mark.long
def test_the_arms_keep_what_they_say(arms: Arms):
    everything = {split: ids(arms.data(selection.ALL, 0), split) for split in ("train", "val", "test")}
    videos = read_world(arms.everything.parents[2] / "world")
    own = {Path(video.file).stem for video in videos if video.sounding == video.label}
    for split in ("train", "val"):
        assert ids(arms.data("oracle", 0), split) == everything[split] & own < everything[split]
        assert len(ids(arms.data("random", 0), split)) == len(ids(arms.data("filtered", 0), split))
    kept = {clip for clip, p in arms.probabilities(0).items() if p > selection.LEAST_PROBABILITY}
    assert ids(arms.data("filtered", 0), "train") == everything["train"] & kept
    assert ids(arms.data("weighted", 0), "train") == everything["train"]
