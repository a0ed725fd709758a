"""Declaration of what a corpus may contain: its columns, and its other files and folders.

Listing, status, removal and verification read it, so that none of them treats files as foreign that another one keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from vidaudio.shards.store import Store
from vidaudio.stream.vector_columns import VectorInput

# Below this level a track is digital silence, with dither at most.
SILENT_DBFS = -70.0
AV_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("seconds", pa.float64()),
        ("video_seconds", pa.float64()),
        ("samples", pa.int64()),
        ("audio_start_seconds", pa.float64()),
        ("frame_seconds", pa.list_(pa.float64())),
        ("grid_seconds", pa.list_(pa.float64())),
        ("rms_dbfs", pa.float64()),
        ("silent", pa.bool_()),
        ("motion", pa.float64()),
        ("decode_errors", pa.int32()),
        ("audio_gaps", pa.int32()),
        ("audio_offset", pa.int64()),
        ("audio_length", pa.int64()),
        ("frame_offsets", pa.list_(pa.int64())),
        ("frame_lengths", pa.list_(pa.int64())),
        # The columns from here on are missing in older corpora.
        ("time_jumps", pa.int32()),
        ("filled_seconds", pa.float64()),
        ("held_seconds", pa.float64()),
        ("audio_channel", pa.string()),
        ("tone_mapped", pa.bool_()),
    ]
)


CLIPS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("media_start_seconds", pa.float64()),
        ("info", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Column:
    """What one stage writes for every clip: one table per shard, in a folder of its own.

    Attributes:
        stage: Name of the stage.
        folder: Folder of the column.
        per_model: Whether the folder has a subfolder for each model that wrote the column: `embeddings/NAME`.
        has_tars: Whether a shard's table has a tar. A removal then keeps the row and deletes the media; without tars it
            deletes the row.
        description: File in a model's folder that describes the model; None where there is none.
    """

    stage: str
    folder: str
    per_model: bool = False
    has_tars: bool = False
    description: str | None = None


COLUMNS = (
    Column("download", "clips", has_tars=True),
    Column("extract", "av", has_tars=True),
    Column("embed", "embeddings", per_model=True, description="encoder.json"),
    Column("score", "scores", per_model=True, description="scorer.json"),
)
PACKS = "training"
# Scorers that were fitted for the corpus, and records of runs.
OTHER_FOLDERS = frozenset({"scorers", "runs"})
_OWN_FILES = re.compile(r"corpus\.json|manifest(-\d{6})?\.parquet|removed-\d{6}\.parquet|.*\.lock")
_OWN_FOLDERS = frozenset({*(column.folder for column in COLUMNS), PACKS, *OTHER_FOLDERS})


def belongs(name: str) -> bool:
    """Return whether a file or folder of this name, at the top of a corpus's folder, is part of the corpus."""
    return name in _OWN_FOLDERS or _OWN_FILES.fullmatch(name) is not None


def column_of(folder: str) -> Column:
    """Return the column of a folder such as `av` or `embeddings/NAME`.

    Raises:
        KeyError: When the folder belongs to no column.
    """
    kind = folder.partition("/")[0]
    for column in COLUMNS:
        if column.folder == kind:
            return column
    raise KeyError(folder)


def model_folders(store: Store, columns: Iterable[Column] = COLUMNS) -> list[str]:
    """Return the folders of all models in these columns, such as `embeddings/NAME`."""
    return [
        f"{column.folder}/{name}" for column in columns if column.per_model for name in store.folders(column.folder)
    ]


def embedding_schema(kind: VectorInput, dimensions: int) -> pa.Schema:
    """Return the schema of a table of the embed stage: what each vector is of, by what the encoder encodes."""
    told = {
        "frames": ("frame_seconds", pa.float64()),
        "sound": ("start_seconds", pa.float64()),
        "text": ("text", pa.string()),
    }
    return pa.schema([("id", pa.string()), told[kind], ("embedding", pa.list_(pa.float16(), dimensions))])


def completed(table: pa.Table, columns: Sequence[str] = AV_SCHEMA.names) -> pa.Table:
    """Return a table of this stage with null columns added for those of `columns` that an older corpus lacks."""
    for name in columns:
        if name in AV_SCHEMA.names and name not in table.column_names:
            table = table.append_column(AV_SCHEMA.field(name), pa.nulls(table.num_rows, AV_SCHEMA.field(name).type))
    return table
