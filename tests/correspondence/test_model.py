"""The scorer's model and its parts against slow formulas, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidaudio.correspondence.calibration import Calibration
from vidaudio.correspondence.model import CorrespondenceModel, ScorerConfig, contrastive_loss, mel_filters
from vidaudio.correspondence.normalisation import Partners
from vidaudio.correspondence.scorer import ScoredClip, Scorer, ScorerFileError, encode_clip, fold_of
from vidaudio.correspondence.timing import TimingHead
from vidaudio.correspondence.windows import WINDOW_SECONDS, picture_of_window, sound_window, unit, window_starts

RATE = 16_000


def clip(seconds: float = 9.0, source: int = 2**20, seed: int = 0) -> ScoredClip:
    generator = np.random.default_rng(seed)
    pictures = int(seconds)
    return ScoredClip(
        samples=generator.integers(-9000, 9000, round(seconds * RATE)).astype(np.int16),
        audio_start_seconds=0.0,
        grid_seconds=list(range(pictures)),
        vectors=generator.normal(size=(pictures, 12)).astype(np.float32),
        source=source,
        motion=generator.uniform(0, 9, round(seconds * 25)).astype(np.float32),
        onsets=generator.uniform(0, 1, round(seconds * 100)).astype(np.float32),
    )


def scorer() -> Scorer:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    models = [CorrespondenceModel(ScorerConfig(12)) for _ in range(2)]
    partners = [
        Partners(
            *(unit(generator.normal(size=(20, 128))).astype(np.float32) for _ in range(2)),
            generator.integers(0, 2**63, 20).astype(np.uint64),
        )
        for _ in range(2)
    ]
    calibration = Calibration(0.2, 0.1, 0.3, np.array([-1.0, 0.0, 2.0]), np.array([0.1, 0.5, 0.9]))
    return Scorer(models, partners, calibration, [TimingHead(), TimingHead()], {"encoder": "made"})


def test_the_loss_is_the_mean_of_two_cross_entropies():
    generator = torch.Generator().manual_seed(0)
    sounds, pictures = (torch.nn.functional.normalize(torch.randn(6, 8, generator=generator)) for _ in range(2))
    scale = torch.tensor(3.0).log()
    logits = (sounds.double() @ pictures.double().T * 3.0).numpy()
    slow = 0.0
    for matrix in (logits, logits.T):
        for row in range(6):
            slow += -np.log(np.exp(matrix[row, row]) / np.exp(matrix[row]).sum()) / 12
    fast = contrastive_loss(sounds.double(), pictures.double(), scale.double(), torch.arange(6))
    assert float(fast) == pytest.approx(slow, abs=1e-6)


def test_another_clip_of_a_source_is_no_negative():
    generator = torch.Generator().manual_seed(0)
    sounds, pictures = (torch.nn.functional.normalize(torch.randn(3, 8, generator=generator)) for _ in range(2))
    scale = torch.tensor(0.0)
    # Row 1 is of row 0's source: for either, only row 2 is left besides its own.
    logits = (sounds @ pictures.T).double().numpy()
    left = {0: [0, 2], 1: [1, 2], 2: [0, 1, 2]}
    slow = np.mean(
        [
            -np.log(np.exp(matrix[row, row]) / np.exp(matrix[row, left[row]]).sum())
            for matrix in (logits, logits.T)
            for row in range(3)
        ]
    )
    assert float(contrastive_loss(sounds, pictures, scale, torch.tensor([4, 4, 9]))) == pytest.approx(slow, abs=1e-6)


def test_mel_filters_are_triangles_that_add_up_to_one():
    filters = mel_filters(64, 512)
    assert filters.shape == (64, 257)
    assert float(filters.min()) >= 0
    inside = filters[:, 10:240].sum(dim=0)
    assert inside.numpy() == pytest.approx(1, abs=1e-4)


def test_windows_follow_each_other_and_a_rest_of_a_second_is_one():
    assert window_starts(12.0).tolist() == [0, 4, 8]
    assert window_starts(12.9).tolist() == [0, 4, 8]
    assert window_starts(13.0).tolist() == [0, 4, 8, 12]
    assert window_starts(0.3).tolist() == [0]
    samples = np.arange(5 * RATE, dtype=np.int32)
    assert np.array_equal(sound_window(samples, RATE, 4.0)[:RATE], samples[4 * RATE :])
    assert sound_window(samples, RATE, 4.0).shape == (4 * RATE,)


def test_the_picture_of_a_window_is_the_mean_direction_of_those_in_it():
    vectors = np.random.default_rng(0).normal(size=(8, 5))
    slow = np.mean([vectors[n] / np.linalg.norm(vectors[n]) for n in (2, 3, 4, 5)], axis=0)
    # Sound begins 1.5 s after the pictures: the window from 0 to 4 s of it is 1.5 to 5.5 s of the clip.
    found = picture_of_window(vectors, range(8), 1.5, 0.0)
    assert found == pytest.approx(slow / np.linalg.norm(slow), abs=1e-6)
    far = picture_of_window(vectors, range(8), 0.0, 20.0)
    assert far == pytest.approx(vectors[7] / np.linalg.norm(vectors[7]), abs=1e-6)


def test_the_normalised_score_is_the_mean_of_two_distances():
    generator = np.random.default_rng(3)
    sounds, pictures = (unit(generator.normal(size=(2, 8))) for _ in range(2))
    partners = Partners(*(unit(generator.normal(size=(30, 8))) for _ in range(2)), np.arange(30).astype(np.uint64))
    raw, normalised = partners.normalised(sounds, pictures, 7)
    slow = np.mean([sounds[w] @ pictures[w] for w in range(2)])
    distances = []
    for own, others in ((sounds, partners.pictures), (pictures, partners.sounds)):
        with_others = [np.mean([own[w] @ others[k] for w in range(2)]) for k in range(30) if k != 7]
        distances.append((slow - np.mean(with_others)) / np.std(with_others))
    assert raw == pytest.approx(slow)
    assert normalised == pytest.approx(np.mean(distances))


def test_a_scorer_is_the_same_from_its_file(tmp_path: Path):
    made = scorer()
    path = tmp_path / "scorer.safetensors"
    path.write_bytes(made.to_bytes())
    read = Scorer.from_file(str(path))
    for source in (1 << 17, 2 << 17):
        again, before = (vars(one.score(clip(source=source))) for one in (read, made))
        np.testing.assert_array_equal(again.pop("sound"), before.pop("sound"))
        assert again == before
    assert read.to_bytes() == made.to_bytes()
    assert read.facts == made.facts


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, damage: str):
    data = scorer().to_bytes()
    path = tmp_path / "scorer.safetensors"
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"no scorer\n" * 100}[damage])
    with pytest.raises(ScorerFileError) as told:
        Scorer.from_file(str(path))
    assert "\n" not in str(told.value)


def test_a_clip_is_scored_by_the_model_of_its_sources_fold():
    made = scorer()
    one, two = 1 << 17, 2 << 17
    assert fold_of(one) != fold_of(two)
    assert made.score(clip(source=one)).raw != made.score(clip(source=two)).raw
    # The vector of the sound alone is of one model for all.
    np.testing.assert_allclose(made.score(clip(source=one)).sound, made.score(clip(source=two)).sound, atol=1e-6)


def test_hashes_of_sources_fall_into_both_folds_alike():
    import pyarrow as pa

    from vidaudio.hashing import hashed

    hashes = hashed(pa.chunked_array([[f"youtube:{number:011d}" for number in range(4000)]]))
    share = np.mean([fold_of(int(value)) for value in hashes])
    assert share == pytest.approx(0.5, abs=0.03)


def test_a_short_and_a_silent_clip_have_scores():
    made = scorer()
    short = clip(seconds=1.5)
    assert np.isfinite(made.score(short).normalised)
    silent = clip(seconds=5.0)
    silent.samples[:] = 0
    assert np.isfinite(made.score(silent).normalised)


def test_a_clip_is_encoded_window_by_window():
    made = scorer()
    whole = clip(seconds=8.0)
    sounds, pictures = encode_clip(made.models[0], whole)
    assert len(sounds) == len(pictures) == round(8.0 / WINDOW_SECONDS)
    assert np.linalg.norm(sounds, axis=1) == pytest.approx(1, abs=1e-5)
    second = ScoredClip(whole.samples[4 * RATE :], 4.0, whole.grid_seconds, whole.vectors, whole.source)
    alone, its_pictures = encode_clip(made.models[0], second)
    assert alone[0] == pytest.approx(sounds[1], abs=1e-5)
    assert its_pictures[0] == pytest.approx(pictures[1], abs=1e-5)
