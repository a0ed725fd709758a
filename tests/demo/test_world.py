"""The demo world is a function of its seeds, and its kinds cannot be told apart by their octave."""

from __future__ import annotations

import numpy as np
import pytest

from vidaudio.demo import sounds
from vidaudio.demo.captions import NOTHING, Facts, draw_caption, true_pairs
from vidaudio.demo.pen import HEIGHT, WIDTH
from vidaudio.demo.render import SPLITS, plan_world
from vidaudio.demo.things import ball_height
from vidaudio.demo.world import KINDS, Instance, Purpose, derive_seed, kind_of, purpose_of

RATE = 16_000


def _instances(kind, count=12):
    return [Instance(kind, derive_seed(Purpose.TEST, "tests", kind.label, n)) for n in range(count)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_instance_is_a_function_of_its_seed(kind):
    first, again, other = (Instance(kind, derive_seed(Purpose.TEST, n)) for n in (1, 1, 2))
    assert np.array_equal(first.sound(), again.sound())
    assert not np.array_equal(first.sound(), other.sound())
    pictures = [np.asarray(i.scene().at(1.3)) for i in (first, again, other)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    assert pictures[0].shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_sound_has_the_stated_length_level_and_headroom(kind):
    for instance in _instances(kind):
        sound = instance.sound(RATE)
        assert sound.dtype == np.float32
        assert len(sound) == round(instance.duration * RATE)
        level = 20 * np.log10(np.sqrt(np.mean(np.square(sound))) / sounds.COMMON_RMS)
        assert abs(level) <= sounds.LEVEL_RANGE_DB + 0.5
        assert np.mean(np.abs(sound) >= 1) < 1e-4


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_picture_moves(kind):
    scene = _instances(kind, 1)[0].scene()
    frames = np.stack([np.asarray(scene.at(t), np.float32) for t in np.arange(0, 3, 0.1)])
    assert np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3)).max() > 20


def _energy_by_octave(kind):
    """Share of the energy in each octave of a grid that holds the shared one."""
    low = sounds.SHARED_OCTAVE_HZ[0]
    edges = low * 2.0 ** np.arange(-3, 5)
    total = np.zeros(len(edges) - 1)
    for instance in _instances(kind, 16):
        power = np.abs(np.fft.rfft(instance.sound(RATE))) ** 2
        frequency = np.fft.rfftfreq(round(instance.duration * RATE), 1 / RATE)
        total += np.histogram(frequency, edges, weights=power)[0] / power.sum()
    return total / 16


def test_at_least_four_kinds_share_their_main_octave():
    main = {kind.label: int(np.argmax(_energy_by_octave(kind))) for kind in KINDS}
    shared = [label for label, octave in main.items() if octave == 3]
    assert len(shared) >= 4
    assert {kind.label for kind in KINDS if kind.shares_octave} <= set(shared)


def test_pitches_of_the_sharing_kinds_cover_the_octave():
    low, high = sounds.SHARED_OCTAVE_HZ
    for kind in (k for k in KINDS if k.shares_octave):
        position = [np.log2(n / low) for i in _instances(kind, 40) for n in i.performance().notes]
        assert min(position) < 0.2
        assert max(position) > np.log2(high / low) - 0.25


def test_purposes_have_disjoint_seeds_by_construction():
    for purpose in Purpose:
        for key in range(200):
            assert purpose_of(derive_seed(purpose, key)) is purpose
    assert {Purpose.CLIP_TRAIN, Purpose.CLIP_TEST}.isdisjoint(SPLITS.values())
    assert len(set(SPLITS.values())) == len(SPLITS)


def test_videos_of_a_world_have_seeds_of_their_split():
    videos = plan_world(0, {"train": 20, "val": 5, "test": 5}, flawed_per_flaw=3)
    assert all(purpose_of(video.seed) is SPLITS[video.split] for video in videos)
    assert len({video.seed for video in videos}) == len(videos)
    assert len({video.file for video in videos}) == len(videos)
    assert {video.split for video in videos if video.flaw} == {"train"}


def test_a_larger_world_holds_the_smaller_one():
    small = plan_world(3, {"train": 2}, flawed_per_flaw=1)
    large = plan_world(3, {"train": 4, "test": 1}, flawed_per_flaw=1)
    assert set(small) <= set(large)


def test_ball_touches_the_floor_when_it_thuds():
    performance = _instances(kind_of("bouncing ball"), 1)[0].performance()
    assert all(ball_height(performance, t) == pytest.approx(0, abs=1e-9) for t in performance.onsets)
    between = (np.array(performance.onsets[:-1]) + np.array(performance.onsets[1:])) / 2
    assert all(ball_height(performance, t) > 0.05 for t in between)


def test_unknown_kind_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'singing cat'.*ringing bell"):
        kind_of("singing cat")


def test_captions_are_true_of_their_own_picture_and_false_of_other_kinds():
    rng = np.random.default_rng(0)
    facts = [Facts(k, None if k == NOTHING else KINDS[k].colours[0], "wall") for k in range(NOTHING + 1)] * 6
    claims = [draw_caption(fact, rng)[1] for fact in facts]
    true = true_pairs(facts, claims)
    kinds = np.array([fact.kind for fact in facts])
    assert true.diagonal().all()
    assert not true[kinds[:, None] != kinds[None]].any()
