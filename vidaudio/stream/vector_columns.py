"""Vector columns of a pack: which encoder made a sample's vectors, what went into it, and where the vectors are.

A pack holds the vectors of one encoder or of several: one vector a picture, one a window of time of the sound, or one a
text. The vectors of the corpus's own encoder, which embeds pictures, are the member `ID.clip.npy`; those of any other
encoder are `ID.<encoder>.npy`. Packs of older versions have the first column only and do not describe it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vidaudio.shards.names import is_name_part
from vidaudio.shards.table_checks import MAX_VECTOR_LENGTH

VectorInput = Literal["frames", "sound", "text"]
OWN_MEMBER = "clip.npy"
# Lower case, since WebDataset lowers the file endings of members; without dots, which would part the ending.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MAX_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """The vectors of one encoder in a pack.

    Attributes:
        encoder: Name of the encoder: its folder below `embeddings/`.
        member: File ending of the tar members with the vectors.
        input: What the encoder encodes: `frames` (a vector a picture), `sound` (a vector a window of time) or `text` (a
            vector a caption or label).
        dimensions: Length of a vector; 0 if unknown, and for a pack without vectors.
        fingerprint: Fingerprint of the encoder; empty if unknown.
    """

    encoder: str
    member: str = OWN_MEMBER
    input: VectorInput = "frames"
    dimensions: int = 0
    fingerprint: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def offset(self) -> str:
        """Table column with the offset of each sample's vectors in its tar."""
        return f"vectors_offset{self._suffix}"

    @property
    def length(self) -> str:
        """Table column with the length of each sample's vectors in its tar, in bytes."""
        return f"vectors_length{self._suffix}"

    @property
    def seconds(self) -> str:
        """Table column with the start of each vector's window of time, for an encoder of sound."""
        return f"vectors_seconds{self._suffix}"

    @property
    def _suffix(self) -> str:
        return "" if self.member == OWN_MEMBER else f"_{self.encoder}"

    def described(self) -> dict[str, Any]:
        """Return the column as `pack.json` describes it."""
        return {
            "encoder": self.encoder,
            "member": self.member,
            "input": self.input,
            "dimensions": self.dimensions,
        }

    def per_window(self, frames: int, seconds: float) -> int:
        """Return the number of vectors in a window of so many pictures and seconds of sound.

        It is one a picture, one a hop that fits into the sound (at least one), or one of a text.
        """
        if self.input == "frames":
            return frames
        # CLIPSep's windows lack one sample of 4.096 s, and must not lose a vector by that.
        return 1 if self.input == "text" else max(1, math.floor(seconds / self.fingerprint["hop_seconds"] + 1e-3))

    def rows_around(self, starts: np.ndarray, centre_seconds: float, count: int) -> np.ndarray:
        """Return the rows of `count` consecutive windows of time whose common middle is nearest to a time.

        They are moved inward at the ends of a sample. If a sample has fewer of them, the last one is repeated.

        Args:
            starts: Start of each window of time, seconds, increasing, at least one.
            centre_seconds: The time, on the same clock.
            count: Number of rows.
        """
        inside = min(count, len(starts))
        middles = (starts[: len(starts) - inside + 1] + starts[inside - 1 :] + self.fingerprint["window_seconds"]) / 2
        first = int(np.abs(middles - centre_seconds).argmin())
        return first + np.minimum(np.arange(count), inside - 1)


def encoder_name(architecture: str, precision: str, weights_sha256: str) -> str:
    """Return an encoder's name: architecture, dtype and the first 8 digits of the weights' hash."""
    stem = Path(architecture.removeprefix("hf-hub:").removeprefix("local-dir:")).stem
    words = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return f"{words}-{precision}-{weights_sha256[:8]}"


def is_column_name(name: str) -> bool:
    """Return whether an encoder's name can be part of the names of tar members and table columns."""
    return _NAME.fullmatch(name) is not None and member_of(name) != OWN_MEMBER


def member_of(encoder: str) -> str:
    """Return the file ending of the vectors of an encoder that is not the corpus's own."""
    return f"{encoder}.npy"


def only_column(fingerprint: Mapping[str, Any]) -> VectorColumn:
    """Return the column of a pack of an older version, whose index contains only the encoder's fingerprint."""
    parts = [fingerprint.get(key) for key in ("architecture", "precision", "weights_sha256")]
    name = encoder_name(*map(str, parts)) if all(parts) else str(fingerprint.get("architecture") or "unknown")
    return VectorColumn(name, dimensions=fingerprint["dimensions"], fingerprint=fingerprint)


def read_columns(stored: Any) -> tuple[VectorColumn, ...]:
    """Return the vector columns that a pack's description lists, after checking every value; no fingerprints are read.

    Raises:
        ValueError, KeyError, TypeError: When they are not such columns.
    """
    if not isinstance(stored, list) or not 1 <= len(stored) <= MAX_COLUMNS:
        raise ValueError("it lists no vectors")
    columns = tuple(_read_column(entry) for entry in stored)
    if len({column.encoder for column in columns}) != len(columns):
        raise ValueError("it lists the vectors of one encoder twice")
    if len({column.member for column in columns}) != len(columns):
        raise ValueError("it lists two kinds of vectors in one member")
    return columns


def _read_column(entry: Any) -> VectorColumn:
    encoder, member, kind, dimensions = (entry[key] for key in ("encoder", "member", "input", "dimensions"))
    if not isinstance(encoder, str) or not is_name_part(encoder) or encoder.startswith("."):
        raise ValueError(f"it lists vectors of {str(encoder)[:80]!r}, which is no name of an encoder")
    own = member == OWN_MEMBER
    if not own and (member != member_of(encoder) or not is_column_name(encoder)):
        raise ValueError(f"it lists vectors in the member {str(member)[:80]!r}, where no pack has any")
    if kind not in get_args(VectorInput) or (own and kind != "frames"):
        raise ValueError(f"it lists vectors of {str(kind)[:40]!r}")
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 0 <= dimensions <= MAX_VECTOR_LENGTH:
        raise ValueError(f"it lists vectors of {str(dimensions)[:40]} dimensions")
    return VectorColumn(encoder, member, kind, dimensions)


def column_named(columns: Sequence[VectorColumn], encoder: str | None) -> VectorColumn | None:
    """Return the column of an encoder, the first one if no encoder is named; None if there is none."""
    return next((column for column in columns if encoder in (None, column.encoder)), None)


def columns_in_words(columns: Iterable[VectorColumn]) -> str:
    """Return the encoders of some columns and what they encode, for messages."""
    return ", ".join(f"{column.encoder} ({column.input})" for column in columns) or "none"
