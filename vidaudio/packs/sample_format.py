"""Format of a sample in a pack, as the loader reads it: sound, vectors and description."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soundfile

from vidaudio.manifest import Clip
from vidaudio.shards.tar import Member
from vidaudio.stream.reader import WAV_HEADER_BYTES
from vidaudio.stream.vector_columns import VectorColumn


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


def sample_members(
    audio: str, sound: bytes, vectors: Mapping[str, np.ndarray], described: dict[str, Any]
) -> dict[str, bytes]:
    """Return the tar members of a sample by file ending: sound, vectors `[vectors, D]`, and description.

    Args:
        audio: File ending of the sound.
        sound: Encoded sound.
        vectors: Vectors by the file ending of their member.
        described: Description of the sample.
    """
    return {
        audio: sound,
        **{member: _array(values) for member, values in vectors.items()},
        "json": json.dumps(described, sort_keys=True, ensure_ascii=False).encode(),
    }


def sample_places(
    inside: Mapping[str, Member], key: str, audio: str, columns: Sequence[VectorColumn]
) -> dict[str, int]:
    """Return where a sample's sound and vectors are in its tar, for its table row.

    Args:
        inside: Members of the tar, by name.
        key: Key of the sample.
        audio: File ending of the sound.
        columns: Vector columns of the pack.
    """
    sound = inside[f"{key}.{audio}"]
    places = {"audio_offset": sound.offset, "audio_length": sound.length}
    for column in columns:
        vectors = inside[f"{key}.{column.member}"]
        places |= {column.offset: vectors.offset, column.length: vectors.length}
    return places


def _array(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array(sink, np.ascontiguousarray(values), allow_pickle=False)
    return sink.getvalue()
