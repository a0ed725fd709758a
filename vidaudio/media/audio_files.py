"""Reading and writing of sound files and of the sound of videos, each as a whole."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from vidaudio.errors import MediaError
from vidaudio.files import atomic_write, name_for_c
from vidaudio.media.declared_duration import announced_seconds, looks_like_mp3
from vidaudio.media.decode.unstated_length import FlacWithoutLength, read_sound_file
from vidaudio.media.soundtrack import VIDEO_FORMATS, check_picture_fits, replace_soundtrack, write_soundtrack
from vidaudio.shards.scratch import temporary_folder

_log = logging.getLogger(__name__)

# Codecs pad and trim: a file counts as cut off only if more than this is missing.
MISSING_SECONDS = 0.1
# Sample formats that hold values beyond full scale.
FLOATS = ("FLOAT", "DOUBLE")
# Peak from which samples that are cut at full scale are reported: +0.1 dBFS.
AUDIBLE_PEAK = 10 ** (0.1 / 20)


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples of a sound.

    Attributes:
        samples: Samples, float32 `[channels, samples]`. Full scale is 1; files of floats and separated sounds may be
            louder.
        sample_rate: Sample rate, Hz.
        subtype: Sample format in which the sound was stored, as libsndfile names it.
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str

    @property
    def seconds(self) -> float:
        """Duration, seconds."""
        return self.samples.shape[1] / self.sample_rate


def read_sound(path: str | Path) -> Sound:
    """Read a sound file that libsndfile knows (wav, flac, ogg, mp3 ...), or the sound of any other media file.

    If the file breaks off, the part that exists is read, and stderr reports how much of the announced length that is. A
    file that does not state its length is read to its end, and stderr reports that.

    Raises:
        MediaError: When the file is missing, is not a media file, has no sound, or contains values that are not
            numbers.
    """
    if Path(path).is_dir():
        raise MediaError(f"{path} is a folder; name a sound file or a video in it")
    if not Path(path).is_file():
        raise MediaError(f"there is no sound file {path}")
    if looks_like_mp3(path):
        # If an MP3 file does not state its length, libsndfile guesses the length and stops reading there.
        sound = _decoded(path)
    else:
        try:
            sound = _read(path)
        except (soundfile.LibsndfileError, FlacWithoutLength):
            sound = _decoded(path)
    if sound.samples.shape[1] == 0:
        raise MediaError(f"{path} holds no sound")
    if not np.isfinite(sound.samples).all():
        raise MediaError(f"{path} holds values that are not numbers")
    announced = announced_seconds(path)
    if announced is not None and announced - sound.seconds > MISSING_SECONDS:
        _log.warning(
            f"{path} breaks off after {sound.seconds:.2f} s of the {announced:.2f} s that it announces; what is there "
            "is taken"
        )
    return sound


def _decoded(path: str | Path) -> Sound:
    with temporary_folder() as folder:
        wav = folder / "sound.wav"
        write_soundtrack(path, wav)
        decoded = _read(wav)
    # Decoded floats are no more exact than the encoded values.
    return Sound(decoded.samples.clip(-1, 1), decoded.sample_rate, "PCM_16")


def _read(path: str | Path) -> Sound:
    found = read_sound_file(path)
    sound = Sound(np.ascontiguousarray(found.samples.T), found.sample_rate, found.subtype)
    if not found.length_stated and len(found.samples):
        _log.warning(
            f"{path} does not state its length (its recording was cut off, or it was written to a pipe); it was read "
            f"to its end, {sound.seconds:.2f} s"
        )
    return sound


def check_output(out: str | Path, mixture: str | Path) -> None:
    """Check, before the work, that the result for a mixture can be written under a name.

    Raises:
        MediaError: When the suffix cannot be written, `out` is the mixture itself, or `out` is a video and the mixture
            has no picture or one that such a file cannot contain.
    """
    suffix = Path(out).suffix.lower()
    if suffix in VIDEO_FORMATS:
        check_picture_fits(mixture, out)
    elif suffix[1:].upper() not in soundfile.available_formats():
        raise MediaError(
            f"{out}: {suffix[1:] or 'no suffix'} is no format that can be written; end it in .wav or .flac, or in "
            f"{', '.join(VIDEO_FORMATS)} where the mixture is a video"
        )
    if Path(out).exists() and Path(out).samefile(mixture):
        raise MediaError(f"{out} is the mixture itself; write the result elsewhere")


def write_result(out: str | Path, sound: Sound, mixture: str | Path) -> Sound:
    """Write a sound file, or a video with the mixture's picture and this sound, depending on the suffix.

    A sound file gets the sound's `subtype` if that is PCM or floats and the file format supports it. The file appears
    under its name only when it is complete. Only files of floats hold samples beyond full scale: for others they are
    cut at it, and from a peak of +0.1 dBFS on, a warning says how many.

    Returns:
        The sound as it was written, but for rounding.

    Raises:
        MediaError: When it cannot be written.
    """
    out = Path(out)
    suffix = out.suffix.lower()
    subtype = None if suffix in VIDEO_FORMATS else _subtype(suffix[1:].upper(), sound.subtype)
    if subtype not in FLOATS:
        sound = _within_full_scale(sound, out)
    try:
        with atomic_write(out) as temporary:
            if suffix in VIDEO_FORMATS:
                with temporary_folder() as folder:
                    wav = folder / "sound.wav"
                    soundfile.write(name_for_c(wav), sound.samples.T, sound.sample_rate, format="WAV", subtype="FLOAT")
                    replace_soundtrack(mixture, wav, temporary, suffix)
            else:
                file_format = suffix[1:].upper()
                soundfile.write(
                    name_for_c(temporary), sound.samples.T, sound.sample_rate, format=file_format, subtype=subtype
                )
    except (soundfile.LibsndfileError, OSError) as error:
        raise MediaError(f"{out} cannot be written ({error})") from error
    return sound


def _subtype(file_format: str, stored: str) -> str:
    """Return the sample format of a new file: that of the mixture if it is PCM or floats and fits, or the default."""
    fits = (stored.startswith("PCM") or stored in FLOATS) and soundfile.check_format(file_format, stored)
    return stored if fits else soundfile.default_subtype(file_format)


def _within_full_scale(sound: Sound, out: Path) -> Sound:
    beyond = np.abs(sound.samples) > 1
    if not beyond.any():
        return sound
    # Resampling and masks may exceed full scale by a little, which nobody hears.
    peak = float(np.abs(sound.samples).max())
    if peak > AUDIBLE_PEAK:
        _log.warning(
            f"{out}: {np.count_nonzero(beyond):,} of {sound.samples.size:,} samples are cut at full scale (the peak is "
            f"{20 * math.log10(peak):+.1f} dBFS); to keep them, give the mixture as a .wav of floats and write a .wav"
        )
    return replace(sound, samples=sound.samples.clip(-1, 1))
