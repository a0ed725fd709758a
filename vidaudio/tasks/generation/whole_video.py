"""Windows of a whole video: each of the generator's length, with the picture of its middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vidaudio.errors import MediaError
from vidaudio.generation import MelConfig
from vidaudio.media.soundtrack import VideoPictures, read_video_pictures
from vidaudio.separation.overlap_add import window_starts
from vidaudio.tasks.generation.lengths import MOST_SECONDS, covering_frames


@dataclass(frozen=True)
class VideoWindows:
    """Overlapping windows of a video's sound.

    Attributes:
        starts: First frame of each window.
        window: Frames of a window.
        frames: Frames of the whole sound.
        samples: Samples of the whole sound, which ends with the last picture.
        pictures: Picture in the middle of each window.
    """

    starts: tuple[int, ...]
    window: int
    frames: int
    samples: int
    pictures: Sequence[Image.Image]


def open_video(path: str | Path, size: int, config: MelConfig, window: int, divisor: int) -> VideoWindows:
    """Return the windows of a video: half a window apart or less; one that is as long as the video if that is shorter.

    Args:
        path: Path of the video.
        size: Side of the pictures, pixels.
        config: Sizes of the mel.
        window: Frames of a window in training.
        divisor: What the number of a window's frames must be a multiple of.

    Raises:
        MediaError: When its pictures cannot be decoded, or it is too long.
    """
    # A frame more than that, so that a video of just this length is told from a longer one.
    video = read_video_pictures(path, size, most_seconds=MOST_SECONDS + 1)
    if video.seconds > MOST_SECONDS:
        raise MediaError(
            f"{path} is longer than {MOST_SECONDS:g} s, the longest sound that is generated; cut it into parts"
        )
    return plan_windows(video, config, window, divisor)


def plan_windows(video: VideoPictures, config: MelConfig, window: int, divisor: int) -> VideoWindows:
    """Return the windows of a video; see `open_video`."""
    samples = max(1, round(video.seconds * config.sample_rate))
    frames = -(-samples // config.hop)
    if frames <= window:
        window = frames = covering_frames(samples, config, divisor)
    starts = tuple(window_starts(frames, window))
    times = np.array(video.times)
    pictures = []
    for start in starts:
        # The sound may end within the last window of a short video.
        end = min(config.seconds(start + window), samples / config.sample_rate)
        middle = (config.seconds(start) + end) / 2
        pictures.append(video.images[int(np.abs(times - middle).argmin())])
    return VideoWindows(starts, window, frames, samples, pictures)
