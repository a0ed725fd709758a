"""Noisy worlds: the clean one of their seed, with sounds from off screen in a share of the videos, and clean tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vidaudio.demo.render import OFFSCREEN_DB, Flaw, add_offscreen, plan_world, read_world, render_world
from vidaudio.demo.world import KINDS, Instance, Purpose, derive_seed
from vidaudio.errors import UsageError

VIDEOS = {"train": 30, "val": 10, "test": 10}


def test_only_the_off_screen_sounds_differ_from_the_clean_world():
    clean, noisy = plan_world(0, VIDEOS, 2), plan_world(0, VIDEOS, 2, 0.5)
    assert [replace(video, offscreen="") for video in noisy] == clean
    assert not any(video.offscreen for video in clean)


def test_half_of_training_and_validation_is_noisy_tests_and_flawed_videos_are_not():
    noisy = plan_world(0, VIDEOS, 2, 0.5)
    for split in ("train", "val"):
        flawless = [video for video in noisy if video.split == split and not video.flaw]
        share = sum(bool(video.offscreen) for video in flawless) / len(flawless)
        assert 0.35 < share < 0.65
    assert not any(video.offscreen for video in noisy if video.split == "test" or video.flaw)
    assert all(video.offscreen != video.label for video in noisy)
    assert len({video.offscreen for video in noisy if video.offscreen}) == len(KINDS)


def test_a_larger_world_and_a_larger_share_only_add():
    small = {video.file: video for video in plan_world(0, {"train": 5}, 0, 0.5)}
    large = {video.file: video for video in plan_world(0, {"train": 9}, 0, 0.5)}
    louder = {video.file: video for video in plan_world(0, {"train": 5}, 0, 0.8)}
    assert all(large[file] == video for file, video in small.items())
    assert all(louder[file] == video for file, video in small.items() if video.offscreen)
    with pytest.raises(UsageError, match=r"it lies in 0 \.\. 1"):
        plan_world(0, VIDEOS, 0, 1.5)


def test_the_level_lies_in_its_range_and_nothing_clips():
    seed = derive_seed(Purpose.TRAIN, "noisy")
    own = Instance(KINDS[0], seed, 2.0).sound()
    mixed = add_offscreen(own, KINDS[1], seed, 2.0)
    assert np.array_equal(mixed, add_offscreen(own, KINDS[1], seed, 2.0))
    added_db = 20 * np.log10(np.std(mixed - own) / np.std(own))
    assert OFFSCREEN_DB[0] - 0.1 <= added_db <= OFFSCREEN_DB[1] + 0.1
    loud = 0.99 * own / np.abs(own).max()
    assert np.abs(add_offscreen(loud, KINDS[1], seed, 2.0)).max() <= 1


def test_the_list_says_what_is_heard_from_off_screen(tmp_path):
    videos = render_world(tmp_path, videos_per_kind={"val": 1}, flawed_per_flaw=0, offscreen_share=1.0, processes=2)
    assert read_world(tmp_path) == videos
    assert all(video.offscreen for video in videos)


def test_a_share_of_training_and_validation_videos_sounds_like_another_kind():
    clean, noisy = plan_world(0, VIDEOS, 0), plan_world(0, VIDEOS, 0, 0.5, 0.3)
    wrong = [video for video in noisy if video.flaw is Flaw.MISMATCHED]
    assert 0.2 < len(wrong) / sum(video.split != "test" for video in noisy) < 0.4
    assert all(video.sounding != video.label and not video.offscreen and video.split != "test" for video in wrong)
    assert len({video.sounding for video in wrong}) == len(KINDS)
    as_seen = [replace(video, flaw=Flaw.NONE, sounding=video.label, offscreen="") for video in noisy]
    assert as_seen == clean
    offscreen_only = plan_world(0, VIDEOS, 0, 0.5)
    assert all(video in offscreen_only for video in noisy if not video.flaw)
    with pytest.raises(UsageError, match=r"it lies in 0 \.\. 1"):
        plan_world(0, VIDEOS, 0, mismatched_share=-0.1)
