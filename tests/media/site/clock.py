"""Media whose picture and sound each tell their time, and the readers of both.

Every picture shows its own number as 12 black or white blocks. The sound is one long noise that never repeats: a piece
of it, found again in the whole by correlation, says when it was played to the sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
import soundfile

from vidaudio.media.ffmpeg import run_ffmpeg

FPS = 20
SAMPLE_RATE = 16_000
_COLUMNS, _ROWS = 4, 3


def noise(seconds: float) -> np.ndarray:
    """The sound of every video here: band-limited, so that every codec keeps it; the same for every caller."""
    white = np.random.default_rng(7).standard_normal(int(seconds * SAMPLE_RATE) + 31)
    return 0.15 * np.convolve(white, np.hanning(33)[1:-1], mode="valid")


def numbered_picture(number: int, width: int, height: int) -> np.ndarray:
    """A grey picture [height, width] that shows `number` in binary, the lowest bit at the top left."""
    bits = (number >> np.arange(_COLUMNS * _ROWS)) & 1
    rows = np.arange(height) * _ROWS // height
    columns = np.arange(width) * _COLUMNS // width
    return (40 + 170 * bits.reshape(_ROWS, _COLUMNS)[rows][:, columns]).astype(np.uint8)


def read_number(picture: np.ndarray) -> int:
    """The number a (scaled, compressed) picture shows."""
    height, width = picture.shape
    centres = picture[height // 6 :: height // 3, width // 8 :: width // 4][:_ROWS, :_COLUMNS]
    return int(((centres.ravel() > 125) << np.arange(_COLUMNS * _ROWS)).sum())


def render(path: Path, *, seconds: float = 12.0, size: tuple[int, int] = (160, 96), **encoding: Any) -> Path:
    """Write a clock video; `encoding` goes to ffmpeg-python's output. `vn=None` or `an=None` leave a track out."""
    raw, wav = path.with_suffix(".gray"), path.with_suffix(".wav")
    pictures = [numbered_picture(n, *size) for n in range(int(seconds * FPS))]
    raw.write_bytes(np.stack(pictures).tobytes())
    soundfile.write(wav, noise(seconds), SAMPLE_RATE, subtype="PCM_16")
    delay = encoding.pop("sound_delay", 0.0)
    video = ffmpeg.input(str(raw), format="rawvideo", pix_fmt="gray", s=f"{size[0]}x{size[1]}", r=FPS)
    audio = ffmpeg.input(str(wav), itsoffset=delay)
    tracks = [track for track, no in ((video, "vn"), (audio, "an")) if no not in encoding]
    run_ffmpeg(ffmpeg.output(*tracks, str(path), **(({} if "vn" in encoding else {"pix_fmt": "yuv420p"}) | encoding)))
    raw.unlink()
    wav.unlink()
    return path


def picture_times(path: Path) -> dict[int, float]:
    """When each picture is shown, seconds on the file's own timeline (its container's start time is 0), by number."""
    with av.open(str(path)) as container:
        zero = (container.start_time or 0) / av.time_base
        return {
            read_number(frame.to_ndarray(format="gray")): float(frame.pts * frame.time_base) - zero
            for frame in container.decode(video=0)
        }


def sound_offset(path: Path, whole_seconds: float, *, at_seconds: float = 0.5) -> float:
    """How much later than at its own time the sound is heard, seconds, judged by the second that follows `at_seconds`.

    Both that and the answer are on the file's own timeline, where its container's start time is 0. Codecs need a moment
    to settle, so the first half second of a file is not the place to listen.
    """
    with av.open(str(path)) as container:
        zero = (container.start_time or 0) / av.time_base
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        first: float | None = None
        pieces: list[np.ndarray] = []
        for frame in container.decode(audio=0):
            seconds = float(frame.pts * frame.time_base) - zero
            if seconds < at_seconds:
                continue
            first = seconds if first is None else first
            pieces += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            if seconds > first + 1.0:
                break
        pieces += [part.to_ndarray()[0] for part in resampler.resample(None)]
    assert first is not None, "there is no sound there"
    heard, whole = np.concatenate(pieces), noise(whole_seconds)
    size = 1 << (len(whole) + len(heard)).bit_length()
    match = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(heard, size)), size)
    return first - int(np.argmax(match)) / SAMPLE_RATE
