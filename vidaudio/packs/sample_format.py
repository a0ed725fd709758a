"""Format of a sample in a pack, as the loader reads it: sound, vectors and description."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile

from vidaudio.manifest import Clip
from vidaudio.stream.reader import WAV_HEADER_BYTES


def sound_format(audio: str) -> str:
    """Return `wav` or `flac` for the setting `pack.audio`: the file ending of members with sound."""
    return "wav" if audio == "pcm16" else "flac"


def encode_sound(values: np.ndarray, sample_rate: int, audio: str) -> bytes:
    """Encode int16 `[samples]` as a sound file in the format `wav` or `flac`.

    Raises:
        ValueError: When this libsndfile writes WAV headers of another size than the loader skips.
    """
    sink = io.BytesIO()
    soundfile.write(sink, values, sample_rate, format=audio.upper(), subtype="PCM_16")
    sound = sink.getvalue()
    if audio == "wav" and len(sound) != WAV_HEADER_BYTES + 2 * len(values):
        raise ValueError("this libsndfile writes WAV headers of another size than the loader skips")
    return sound


def describe(
    clip: Clip,
    split: str,
    *,
    start_seconds: float,
    samples: int,
    audio_start_seconds: float,
    frame_seconds: Sequence[float],
    grid_seconds: Sequence[float],
) -> dict[str, Any]:
    """Return the description of a sample, for its JSON member and its table row.

    Args:
        clip: Clip that the sample is cut from.
        split: Split of the sample.
        start_seconds: Start of the sample in the clip's source, in seconds.
        samples: Number of sound samples.
        audio_start_seconds: Time of the first sound sample; this and the following times are on the sample's own clock.
        frame_seconds: Times of the pictures, in seconds.
        grid_seconds: Grid times that the pictures were taken for, in seconds.
    """
    return {
        "id": clip.id,
        "source": clip.source,
        "dataset": clip.dataset,
        "split": split,
        "labels": list(clip.labels),
        "captions": list(clip.captions),
        "start_seconds": round(start_seconds, 6),
        "samples": samples,
        "audio_start_seconds": audio_start_seconds,
        "frame_seconds": [round(s, 6) for s in frame_seconds],
        "grid_seconds": [round(s, 6) for s in grid_seconds],
    }


def sample_members(audio: str, sound: bytes, vectors: np.ndarray, described: dict[str, Any]) -> dict[str, bytes]:
    """Return the tar members of a sample by file ending: sound, vectors `[frames, D]` and description."""
    array = io.BytesIO()
    np.lib.format.write_array(array, np.ascontiguousarray(vectors), allow_pickle=False)
    return {
        audio: sound,
        "clip.npy": array.getvalue(),
        "json": json.dumps(described, sort_keys=True, ensure_ascii=False).encode(),
    }
