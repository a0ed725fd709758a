"""Length of a training window: chosen in seconds, converted to samples that fit the spectrogram and the U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidaudio.stream.windows import DEFAULT_SECONDS

if TYPE_CHECKING:
    from vidaudio.tasks.separation.blocks import (
        FrontEndBlock,
    )

# Maximum number of values in one window's spectrogram, 1 GiB; the papers' windows have 131,328 values.
MAX_PICTURE = 1 << 27


def with_window(front_end: FrontEndBlock, seconds: float | None, levels: int) -> FrontEndBlock:
    """Return a front end whose `window_samples` and `frames` are numbers.

    Values in the recipe are kept. The others follow: a window of `seconds` (4.096 if the recipe has none of the three,
    as in the papers at 16 kHz) has the nearest number of frames that the U-Net can halve `levels` times.

    Raises:
        ValueError: When the recipe gives the length in seconds and a different one in samples or frames, or a window's
            spectrogram is too large for memory.
    """
    samples, frames, hop = front_end.window_samples, front_end.frames, front_end.hop
    if samples is None and frames is None:
        frames = frames_near(seconds or DEFAULT_SECONDS, front_end.sample_rate, hop, levels)
    elif seconds is not None:
        wanted = frames_near(seconds, front_end.sample_rate, hop, levels)
        if frames not in (None, wanted) or samples not in (None, wanted * hop - 1):
            raise ValueError(
                f"data.window_seconds is {seconds:g}, and model.front_end states another length "
                f"(window_samples {samples}, frames {frames}); state one of them: to go by the seconds, "
                "--set model.front_end.window_samples=null --set model.front_end.frames=null"
            )
    if samples is None:
        assert frames is not None
        samples = frames * hop - 1
    if frames is None:
        frames = 1 + samples // hop
    bins = front_end.n_fft // 2 + 1
    if max(frames, samples // hop) * bins > MAX_PICTURE:
        raise ValueError(
            f"a window's spectrogram would have {frames:,} frames of {bins:,} frequencies, and at most {MAX_PICTURE:,} "
            "numbers fit into memory: lower data.window_seconds, or raise model.front_end.hop"
        )
    return front_end.model_copy(update={"window_samples": samples, "frames": frames})


def frames_near(seconds: float, sample_rate: int, hop: int, levels: int) -> int:
    """Return the multiple of 2**levels that is the nearest number of frames to `seconds`."""
    multiple = 2**levels
    return multiple * max(1, round(seconds * sample_rate / hop / multiple))


def other_length(front_end: FrontEndBlock, seconds: float | None) -> str | None:
    """Return a sentence if the windows differ from the requested length by more than 1 %; otherwise None."""
    assert front_end.window_samples is not None, "see `with_window`"
    found = front_end.window_samples / front_end.sample_rate
    if seconds is None or abs(found - seconds) <= 0.01 * seconds:
        return None
    return (
        f"windows of {found:.3f} s are used, not of {seconds:g} s (data.window_seconds): the spectrogram's "
        f"{front_end.frames} frames must be a multiple that the U-Net can halve"
    )
