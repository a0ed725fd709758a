"""Test mixtures with a third sound, which nobody asks for: its level, its kind, and a target that stays clean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.packed import make_packed
from vidaudio.errors import PackError, UsageError
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate, plan
from vidaudio.tasks.separation.evaluation.eval_mixtures import EvalMixture
from vidaudio.tasks.separation.evaluation.methods import mixed

SIX_KINDS = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def six_kinds(encoder_fingerprint: dict, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("six") / "data"
    return str(make_packed(folder, encoder_fingerprint, labels=SIX_KINDS, clips_per_split={"test": 12}))


def keys(item: EvalMixture) -> list[str]:
    return [sound.key for sound in item.sounds]


@pytest.mark.parametrize("level_db", [0.0, -6.0, 20.0])
def test_the_target_stays_clean_and_the_third_sound_has_its_level(trained: Path, six_kinds: str, level_db: float):
    loaded = load_checkpoint(trained)
    clean = plan(loaded, TestMaterial(six_kinds, different_labels=True))[1]
    noisy = plan(loaded, TestMaterial(six_kinds, different_labels=True, offscreen_db=level_db))[1]
    for before, after in zip(clean.items, noisy.items, strict=True):
        assert keys(after)[:2] == keys(before)
        sources, _ = mixed(before)
        with_third, mixture = mixed(after)
        # Where three sounds are too loud together, all are made quieter by one factor.
        scale = float(with_third[0, 0].norm() / sources[0, 0].norm())
        assert 0 < scale <= 1 + 1e-6
        assert torch.allclose(with_third[0, 0], scale * sources[0, 0], atol=1e-6)
        third = with_third[0, 1] / scale - sources[0, 1]
        assert 20 * math.log10(float(third.norm() / sources[0, 0].norm())) == pytest.approx(level_db, abs=1e-3)
        assert torch.allclose(mixture, with_third.sum(dim=1))
        assert float(mixture.abs().max()) <= 1 + 1e-6


def test_it_is_of_a_kind_and_a_source_that_the_mixture_lacks(trained: Path, six_kinds: str):
    loaded = load_checkpoint(trained)
    noisy = plan(loaded, TestMaterial(six_kinds, different_labels=True, offscreen_db=0))[1]
    again = plan(loaded, TestMaterial(six_kinds, different_labels=True, offscreen_db=0))[1]
    assert [keys(item) for item in noisy.items] == [keys(item) for item in again.items]
    for item in noisy.items:
        assert len({sound.label for sound in item.sounds}) == 3
        assert len({sound.source for sound in item.sounds}) == 3
        # A wrong query asks for what is not heard, from off screen either.
        assert noisy.absent_label(item) not in {sound.label for sound in item.sounds}
        assert noisy.absent_sound(item).label not in {sound.label for sound in item.sounds}


def test_few_mixtures_whose_targets_are_of_one_kind_find_a_third_sound_too(trained: Path, six_kinds: str):
    few = plan(load_checkpoint(trained), TestMaterial(six_kinds, different_labels=True, mixtures=2, offscreen_db=0))[1]
    assert [len({sound.label for sound in item.sounds}) for item in few.items] == [3, 3]


def test_a_mixture_of_three_is_harder_and_the_report_says_that_it_is_one(trained: Path, six_kinds: str):
    def mixture_sdr(offscreen_db: float | None) -> float:
        material = TestMaterial(six_kinds, different_labels=True, offscreen_db=offscreen_db)
        report = evaluate(EvaluateRequest(trained, material, methods=("mixture",), progress=False))
        assert report.about.offscreen_db == offscreen_db
        assert ("third sound" in str(report)) == (offscreen_db is not None)
        return report.summary("mixture").mean

    assert mixture_sdr(None) > mixture_sdr(0) > mixture_sdr(6)


def test_what_cannot_be_mixed_is_said(trained: Path, packed: Path, encoder_fingerprint: dict, tmp_path: Path):
    two = make_packed(tmp_path / "two", encoder_fingerprint, labels=("low", "high"), clips_per_split={"test": 4})
    with pytest.raises(PackError, match="no third kind; leave --offscreen-db out"):
        evaluate(EvaluateRequest(trained, TestMaterial(str(two), different_labels=True, offscreen_db=0)))
    with pytest.raises(UsageError, match="--offscreen-db is nan"):
        evaluate(EvaluateRequest(trained, TestMaterial(str(packed), offscreen_db=math.nan)))
