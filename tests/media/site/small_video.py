"""A small real video as bytes: where tests of fetching want any media, a fetcher that looks at them wants real ones."""

from __future__ import annotations

import functools
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SECONDS, FPS, RATE = 4, 10, 16_000


@functools.cache
def small_video(seed: int = 0, *, kind: str = "mp4", seconds: int = SECONDS, faststart: bool = False) -> bytes:
    """Return a video of noise with a noisy sound, about 60 kB, with the index in front where `faststart` says so."""
    rng = np.random.default_rng(seed)
    options = {"movflags": "+faststart"} if faststart else {}
    with tempfile.NamedTemporaryFile() as sink, av.open(sink.name, "w", format=kind, options=options) as container:
        video = container.add_stream("mpeg4" if kind != "webm" else "libvpx", rate=FPS)
        video.width, video.height, video.pix_fmt, video.bit_rate = 64, 48, "yuv420p", 60_000
        sound = container.add_stream("aac" if kind != "webm" else "libopus", rate=48_000 if kind == "webm" else RATE)
        rate = sound.rate
        for number in range(seconds * FPS):
            picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
            block = rng.integers(-3000, 3000, (1, rate // FPS), dtype=np.int16)
            audio = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            audio.sample_rate, audio.pts, audio.time_base = rate, number * (rate // FPS), Fraction(1, rate)
            container.mux(sound.encode(audio))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
        container.close()
        return Path(sink.name).read_bytes()
