"""A sample of a pack as the loader reads it: its sound, its vectors, and what is said of it."""

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
    """`wav` or `flac`, for the setting `pack.audio`: the ending of the members with sound."""
    return "wav" if audio == "pcm16" else "flac"


def encode_sound(values: np.ndarray, sample_rate: int, audio: str) -> bytes:
    """A sound file of int16 `[samples]` in the format `wav` or `flac`.

    Raises:
        ValueError: This libsndfile writes other WAV files than the loader reads.
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
    """What is said of a sample: in its JSON member, and in the row of its table.

    Args:
        clip: It is cut from.
        split: It is in.
        start_seconds: Of the sample in the clip's source.
        samples: Of its sound.
        audio_start_seconds: Of its first sound sample; this and what follows on the sample's own clock.
        frame_seconds, grid_seconds: Of its pictures, and the times they stand for.
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
    """The members of a sample by ending: sound, vectors `[frames, D]`, description."""
    array = io.BytesIO()
    np.lib.format.write_array(array, np.ascontiguousarray(vectors), allow_pickle=False)
    return {
        audio: sound,
        "clip.npy": array.getvalue(),
        "json": json.dumps(described, sort_keys=True, ensure_ascii=False).encode(),
    }
