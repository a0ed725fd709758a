"""Separate a sound file: any length, any sample rate, any number of channels, by a text or an image query."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from vidaudio.errors import MediaError
from vidaudio.separation import resample, separate_long
from vidaudio.training.checkpoint import best_device, load_checkpoint
from vidaudio.training.queries import load_query_encoder, query_from_images, query_from_text


@dataclass(frozen=True, slots=True)
class Separated:
    """What was written: file, seconds, channels and sample rate, as in the mixture."""

    path: Path
    seconds: float
    channels: int
    sample_rate: int


def separate(
    mixture: str | Path,
    out: str | Path,
    checkpoint: str | Path,
    *,
    query: str | None = None,
    images: Sequence[str | Path] = (),
    threshold: float | None = None,
    encoder_weights: str | None = None,
) -> Separated:
    """Pull the sound that a query describes out of a sound file.

    The model hears the mixture at its own rate (16 kHz), so the result holds nothing above 8 kHz; it is written at the
    mixture's rate, with its channels and length.

    Args:
        mixture: A file that libsndfile reads (wav, flac, ogg, mp3 ...).
        out: Where to write; the suffix says the format.
        checkpoint: A run's folder or its weights file.
        query: Words; or
        images: pictures, whose mean embedding is the query.
        threshold: Makes the mask binary; None leaves it soft, as in the paper.
        encoder_weights: Local weights of the encoder, where the recorded place is not on this machine.

    Raises:
        MediaError, CheckpointError, EncoderError: With what to do about it.
    """
    if (query is None) == (not images):
        raise MediaError("say what to separate, either in words (--query) or by a picture (--image)")
    samples, sample_rate, subtype = read_sound(mixture)
    # A name that cannot be written is found now, not after the work.
    file_format = _output_format(out, mixture)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    loaded = load_checkpoint(checkpoint)
    encoder = load_query_encoder(loaded.encoder, encoder_weights)
    if query is not None:
        vector = query_from_text(encoder, query, loaded.recipe.query.templates)
    else:
        vector = query_from_images(encoder, images)
    device = best_device()
    model_rate = loaded.recipe.model.front_end.sample_rate
    heard = torch.from_numpy(np.asarray(resample(samples, sample_rate, model_rate), np.float32)).to(device)
    separated = separate_long(loaded.model.to(device), heard, vector.to(device), threshold=threshold).cpu().numpy()
    back = np.asarray(resample(separated, model_rate, sample_rate))[:, : samples.shape[1]]
    back = np.pad(back, ((0, 0), (0, samples.shape[1] - back.shape[1]))).clip(-1, 1)
    write_sound(out, back, sample_rate, file_format, subtype)
    return Separated(Path(out), samples.shape[1] / sample_rate, samples.shape[0], sample_rate)


def read_sound(path: str | Path) -> tuple[np.ndarray, int, str]:
    """A sound file: float32 `[channels, samples]` in [-1, 1], its rate in Hz, its sample format.

    Raises:
        MediaError: Missing, no sound file, empty, or with values that are not numbers.
    """
    if not Path(path).is_file():
        raise MediaError(f"there is no sound file {path}")
    try:
        with soundfile.SoundFile(path) as file:
            samples = file.read(dtype="float32", always_2d=True).T
            sample_rate, subtype = file.samplerate, file.subtype
    except soundfile.LibsndfileError as error:
        raise MediaError(f"{path} is not a sound file that can be read ({error.error_string})") from error
    if samples.shape[1] == 0:
        raise MediaError(f"{path} holds no sound")
    if not np.isfinite(samples).all():
        raise MediaError(f"{path} holds values that are not numbers")
    return np.ascontiguousarray(samples), sample_rate, subtype


def write_sound(path: str | Path, samples: np.ndarray, sample_rate: int, file_format: str, subtype: str) -> None:
    """Write `[channels, samples]`, in the mixture's sample format where that is plain and the output's file has it.

    The file appears under its name only when it is complete.
    """
    plain = subtype.startswith("PCM") or subtype in ("FLOAT", "DOUBLE")
    if not (plain and soundfile.check_format(file_format, subtype)):
        subtype = soundfile.default_subtype(file_format)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        soundfile.write(temporary, samples.T, sample_rate, format=file_format, subtype=subtype)
        os.replace(temporary, path)
    except soundfile.LibsndfileError as error:
        raise MediaError(f"{path} cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _output_format(out: str | Path, mixture: str | Path) -> str:
    suffix = Path(out).suffix[1:].upper()
    if suffix not in soundfile.available_formats():
        raise MediaError(f"{out}: {suffix or 'no suffix'} is no format that can be written; end it in .wav or .flac")
    if Path(out).exists() and Path(out).samefile(mixture):
        raise MediaError(f"{out} is the mixture itself; write the result elsewhere")
    return suffix
