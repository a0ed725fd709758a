"""Existing sound that is changed: a variation of all of it, or stated seconds that are generated anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidaudio.errors import MediaError, UsageError
from vidaudio.generation import Edit, MelFrontEnd, blend, frames_of_spans
from vidaudio.generation.editing import check_repeats, check_strength
from vidaudio.generation.spans import Span
from vidaudio.hashing import sha256_of
from vidaudio.media.audio_files import Sound, read_sound
from vidaudio.separation import resample
from vidaudio.tasks.generation.lengths import MOST_SECONDS, covering_frames

STRENGTH = 0.6


@dataclass(frozen=True, slots=True)
class EditOptions:
    """Existing sound to change, and how much of it.

    Attributes:
        source: Sound file or video with the sound.
        strength: Share of the way to noise from which it is denoised; None for 0.6, or 1 with `inpaint`.
        inpaint: Begins and ends of the parts that are generated, seconds; the rest stays. Empty for a variation of all.
        repeats: How often each step is made, so that what is generated agrees better with what stays.

    Raises:
        UsageError: When a value is out of its range.
    """

    source: str | Path
    strength: float | None = None
    inpaint: Sequence[Span] = ()
    repeats: int = 1

    def __post_init__(self) -> None:
        check_strength(self.used_strength)
        check_repeats(self.repeats)
        if self.repeats > 1 and not self.inpaint:
            raise UsageError("steps are repeated where a part of a sound is kept: name the seconds to generate")
        for begin, end in self.inpaint:
            if not 0 <= begin < end:
                raise UsageError(f"{begin:g}:{end:g} s to generate: two times from 0 on are wanted, rising")

    @property
    def used_strength(self) -> float:
        """Return the strength, also where none is given."""
        if self.strength is not None:
            return self.strength
        return 1.0 if self.inpaint else STRENGTH


def parse_span(text: str) -> Span:
    """Return begin and end of a text such as `1.5:2.5`, seconds.

    Raises:
        UsageError: When the text is not of this form.
    """
    try:
        begin, end = map(float, text.split(":"))
    except ValueError:
        raise UsageError(f"{text!r} are no seconds to generate; write begin and end as 1.5:2.5") from None
    return begin, end


@dataclass(frozen=True)
class Source:
    """Sound that is changed, ready to be edited.

    Attributes:
        options: What is to become of it.
        sound: The sound, in its length of the result.
        sha256: SHA-256 of its file.
        edit: The edit of its mel.
    """

    options: EditOptions
    sound: Sound
    sha256: str
    edit: Edit

    @property
    def frames(self) -> int:
        """Return the frames of its mel."""
        return self.edit.mel.shape[-1]

    def finish(self, made: np.ndarray, sample_rate: int) -> Sound:
        """Return the result: the generated sound, or the original samples with it in the stated seconds.

        Args:
            made: Generated sound, `[samples]`, at least as long as the source.
            sample_rate: Its sample rate, Hz.
        """
        if not self.options.inpaint:
            samples = round(self.sound.seconds * sample_rate)
            return Sound(made[None, :samples], sample_rate, "PCM_16")
        rate, length = self.sound.sample_rate, self.sound.samples.shape[1]
        whole = torch.from_numpy(resample(made, sample_rate, rate)[:length])
        original = torch.from_numpy(self.sound.samples)
        mixed = blend(original, whole.expand_as(original), self.options.inpaint, rate)
        # Floats hold the samples of all formats exactly.
        return Sound(mixed.numpy(), rate, "FLOAT")

    def as_dict(self) -> dict[str, Any]:
        """Return what was changed, and how; plain JSON values."""
        options = self.options
        facts: dict[str, Any] = {"source": str(options.source), "source_sha256": self.sha256}
        facts["strength"] = options.used_strength
        if options.inpaint:
            facts |= {"inpaint": [list(span) for span in options.inpaint], "repeats": options.repeats}
        return facts


def open_source(options: EditOptions, front_end: MelFrontEnd, divisor: int, seconds: float | None) -> Source:
    """Read the sound to change, and prepare its edit.

    Args:
        options: The sound, and what is to become of it.
        front_end: Mel of the generator.
        divisor: What the number of frames must be a multiple of.
        seconds: Length to which the sound is cut, or padded with silence; None for its own.

    Raises:
        MediaError: When the file cannot be read, or is too long.
        UsageError: When the seconds to generate lie outside the sound.
    """
    sound = _of_length(read_sound(options.source), seconds)
    if sound.seconds > MOST_SECONDS:
        raise MediaError(
            f"{options.source} has {sound.seconds:.1f} s, and sounds of up to {MOST_SECONDS:g} s can be changed; "
            f"--seconds {MOST_SECONDS:g} takes its beginning"
        )
    for begin, end in options.inpaint:
        if end > sound.seconds:
            raise UsageError(f"{begin:g}:{end:g} s to generate: {options.source} has {sound.seconds:.2f} s")
    config = front_end.config
    mono = resample(sound.samples.mean(axis=0), sound.sample_rate, config.sample_rate)
    frames = covering_frames(len(mono), config, divisor)
    padded = np.pad(mono, (0, config.samples(frames) - len(mono)))
    mel = front_end(torch.from_numpy(padded).to(front_end.window.device))
    generated = frames_of_spans(options.inpaint, frames, config) if options.inpaint else None
    edit = Edit(mel, options.used_strength, generated, options.repeats)
    return Source(options, sound, sha256_of(Path(options.source)), edit)


def _of_length(sound: Sound, seconds: float | None) -> Sound:
    if seconds is None:
        return sound
    length = max(1, round(seconds * sound.sample_rate))
    samples = sound.samples[:, :length]
    padded = np.pad(samples, ((0, 0), (0, length - samples.shape[1])))
    return Sound(padded, sound.sample_rate, sound.subtype)
