"""Near-duplicates by an index, against a slow comparison of all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from vidaudio.correspondence.windows import unit
from vidaudio.packs import near_duplicates
from vidaudio.packs.near_duplicates import ClipLooks, NearDuplicates, find_near_duplicates


def planted(count: int, *, seed: int, sounds: bool = True, noise: float = 0.02) -> ClipLooks:
    """Random directions, a third of which are noisy copies of others, in pictures, in sound, or in both."""
    rng = np.random.default_rng(seed)
    pictures, heard = rng.normal(size=(count, 24)), rng.normal(size=(count, 16))
    for copy in rng.permutation(count)[: count // 3]:
        original = rng.integers(count)
        kind = rng.integers(4)
        if kind != 1:
            pictures[copy] = pictures[original] + rng.normal(size=24) * rng.uniform(0, 3 * noise)
        if kind != 2:
            heard[copy] = heard[original] + rng.normal(size=16) * rng.uniform(0, 8 * noise)
    looks = unit(pictures.astype(np.float32)), unit(heard.astype(np.float32))
    return ClipLooks(looks[0], looks[1] if sounds else None, 0.97, 0.9)


def slow(looks: ClipLooks, order: np.ndarray) -> dict[int, int]:
    """Go through the clips in order: one is dropped if it is a near-duplicate of a clip that is kept already."""
    pictures = looks.pictures.astype(np.float64)
    near = pictures @ pictures.T >= looks.picture
    if looks.sounds is not None:
        heard = looks.sounds.astype(np.float64)
        near &= heard @ heard.T >= looks.sound
    kept: list[int] = []
    dropped = {}
    for clip in order.tolist():
        best = next((other for other in kept if near[clip, other]), None)
        if best is None:
            kept.append(clip)
        else:
            dropped[clip] = best
    return dropped


def as_dict(found: NearDuplicates) -> dict[int, int]:
    return dict(zip(found.clips.tolist(), found.kept.tolist(), strict=True))


@pytest.mark.parametrize("sounds", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_same_clips_are_dropped_as_by_comparing_all_pairs(seed: int, sounds: bool):
    looks = planted(400, seed=seed, sounds=sounds)
    order = np.random.default_rng(100 + seed).permutation(400)
    found = find_near_duplicates(looks, order)
    assert as_dict(found) == slow(looks, order)
    assert 20 < len(found) < 200
    assert (np.diff(found.clips) > 0).all()
    assert (found.picture >= looks.picture).all()
    assert found.picture == pytest.approx(np.sum(looks.pictures[found.clips] * looks.pictures[found.kept], 1), abs=1e-5)
    assert (found.sound is not None) == sounds
    if found.sound is not None and looks.sounds is not None:
        assert (found.sound >= looks.sound).all()
        assert found.sound == pytest.approx(np.sum(looks.sounds[found.clips] * looks.sounds[found.kept], 1), abs=1e-5)


def test_an_index_of_cells_finds_what_comparing_all_pairs_finds(monkeypatch: pytest.MonkeyPatch):
    looks = planted(3000, seed=3)
    order = np.random.default_rng(0).permutation(3000)
    monkeypatch.setattr("vidaudio.vector_index.EXACT_VECTORS", 100)
    found, wanted = as_dict(find_near_duplicates(looks, order)), slow(looks, order)
    missed = wanted.keys() - found.keys()
    assert len(missed) <= 0.02 * len(wanted)
    assert find_near_duplicates(looks, order).clips.tolist() == sorted(found)


def test_a_large_group_of_equal_clips_keeps_one_whichever_is_first():
    looks = planted(50, seed=0)
    equal = ClipLooks(np.repeat(looks.pictures[:2], 500, 0), np.repeat(looks.pictures[2:4], 500, 0), 0.97, 0.9)
    order = np.random.default_rng(1).permutation(1000)
    found = find_near_duplicates(equal, order)
    first = {int(half): next(int(clip) for clip in order if clip // 500 == half) for half in (0, 1)}
    assert set(found.kept.tolist()) == set(first.values())
    assert len(found) == 998


def test_a_chain_does_not_shrink_to_its_first_clip():
    """Each clip is near the next one, and the first is not near the last."""
    angles = np.arange(12) * 0.2
    circle = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found = find_near_duplicates(ClipLooks(circle, None, 0.97, 0.9), np.arange(12))
    # cos(0.2) is 0.98 and cos(0.4) is 0.92: every second clip is kept.
    assert as_dict(found) == {clip: clip - 1 for clip in range(1, 12, 2)}


def test_a_clip_without_a_vector_is_like_none():
    looks = planted(60, seed=1)
    pictures = looks.pictures.copy()
    pictures[:10] = 0
    order = np.arange(60)
    assert not set(as_dict(find_near_duplicates(ClipLooks(pictures, None, 0.97, 0.9), order))) & set(range(10))
    assert looks.sounds is not None
    none = ClipLooks(looks.pictures, np.zeros_like(looks.sounds), 0.97, 0.9)
    assert len(find_near_duplicates(none, order)) == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_clips(count: int):
    pictures = np.ones((count, 1), np.float32)
    assert len(find_near_duplicates(ClipLooks(pictures, None, 0.97, 0.9), np.arange(count))) == max(0, count - 1)


def test_pieces_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch):
    looks, order = planted(300, seed=5), np.random.default_rng(5).permutation(300)
    whole = find_near_duplicates(looks, order)
    monkeypatch.setattr(near_duplicates, "ROWS_AT_ONCE", 7)
    again = find_near_duplicates(looks, order)
    assert as_dict(again) == as_dict(whole)
    assert again.picture.tobytes() == whole.picture.tobytes()
