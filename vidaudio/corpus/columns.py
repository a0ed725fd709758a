"""Declaration of what a corpus may contain: its columns, and its other files and folders.

A stage reads columns and adds one. The order of a build, listing, status, verification, removal, export and selection
read the declaration, so that a new column needs one `Column` here and one stage function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from vidaudio.shards.store import Store
from vidaudio.shards.tar import Member
from vidaudio.stream.vector_columns import VectorInput

Row = Mapping[str, Any]
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
        # The fields from here on are missing in older corpora; see `EXTRACT.added_later`.
        ("time_jumps", pa.int32()),
        ("filled_seconds", pa.float64()),
        ("held_seconds", pa.float64()),
        ("audio_channel", pa.string()),
        ("tone_mapped", pa.bool_()),
    ]
)
FACTS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("loudness_lufs", pa.float32()),
        ("silent_share", pa.float32()),
        ("mostly_silent", pa.bool_()),
        ("clipped_share", pa.float32()),
        ("bandwidth_hz", pa.float32()),
        ("still_share", pa.float32()),
        ("still", pa.bool_()),
        ("black_share", pa.float32()),
        ("cuts", pa.int32()),
        # Null where the media were not kept and only the pictures of the corpus could be measured.
        ("motion_source", pa.string()),
        ("motion_envelope", pa.list_(pa.float16())),
        ("onset_envelope", pa.list_(pa.float16())),
    ]
)
SCORES_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("correspondence_cosine", pa.float32()),
        ("correspondence", pa.float32()),
        ("p_corresponds", pa.float32()),
        # Null where the envelopes of the clip are not known.
        ("p_in_sync", pa.float32()),
        ("p_synchronisable", pa.float32()),
        ("offset_seconds", pa.float32()),
        ("offset_confidence", pa.float32()),
        # Unit vector of the clip's sound, by one model for all clips: sounds are compared with each other by it.
        ("sound_vector", pa.list_(pa.float16())),
    ]
)
OFFSCREEN_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("speech_share", pa.float32()),
        # Null without a tagger.
        ("music_share", pa.float32()),
        ("music_over_picture", pa.bool_()),
        # Null where the encoder of the pictures knows no words.
        ("speaker_seen", pa.float32()),
        ("player_seen", pa.float32()),
        ("voice_over", pa.bool_()),
        # Null without a separator.
        ("residual_db", pa.float32()),
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


def embedding_schema(kind: VectorInput = "frames", dimensions: int = -1) -> pa.Schema:
    """Return the schema of a table of vectors, one row a vector.

    Args:
        kind: What the encoder encodes; the table has the picture, window of time or text of each vector.
        dimensions: Length of the vectors; -1 leaves it open.
    """
    told = {
        "frames": ("frame_seconds", pa.float64()),
        "sound": ("start_seconds", pa.float64()),
        "text": ("text", pa.string()),
    }
    return pa.schema([("id", pa.string()), told[kind], ("embedding", pa.list_(pa.float16(), dimensions))])


@dataclass(frozen=True, slots=True)
class Members:
    """Members of a clip in its shard's tar, and the fields of the clip's row that hold their places.

    Attributes:
        names: Function from a row to the names of its members; none if the clip has no media in the tar.
        offset, length: Fields with the members' offsets and lengths in bytes: a number for one member, a list for
            several.
    """

    names: Callable[[Row], Sequence[str]]
    offset: str
    length: str


@dataclass(frozen=True, slots=True)
class Column:
    """What one stage writes for every clip: one table per shard, in a folder of its own, and perhaps a tar.

    A table with the fields `state` and `reason` has the outcome of every clip. A table without them has only clips that
    came through. A table with selectable fields has at most one row per clip.

    Attributes:
        stage: Name of the stage.
        folder: Folder of the column.
        schema: Schema of its tables; None where each model decides it, except for the field `id`.
        needs: Stages whose tables the column is made from.
        resource: Dask worker resource of which each task of the stage takes one unit.
        selectable: Fields that a selection may name (`pack.where`).
        added_later: Fields of the schema that tables of older versions lack, all of them together.
        tar_members: Members of a clip in the shard's tar, besides `ID.json`; empty if the tables have no tar. A removal
            keeps the row of a table with a tar and deletes the media; without a tar it deletes the row.
        per_model: Whether the folder has a subfolder for each model that wrote the column: `embeddings/NAME`.
        description: File in a model's folder, or the column's, that describes what made it; None where there is none.
    """

    stage: str
    folder: str
    schema: pa.Schema | None
    needs: tuple[str, ...] = ()
    resource: Literal["net", "cpu", "gpu"] = "cpu"
    selectable: tuple[str, ...] = ()
    added_later: tuple[str, ...] = ()
    tar_members: tuple[Members, ...] = ()
    per_model: bool = False
    description: str | None = None

    @property
    def has_tars(self) -> bool:
        """Whether a shard's table has a tar."""
        return bool(self.tar_members)

    @property
    def has_outcomes(self) -> bool:
        """Whether a table has a row with the outcome of every clip, of those that failed, too."""
        return self.schema is not None and "state" in self.schema.names

    def folder_for(self, models: Mapping[str, str]) -> str:
        """Return the folder of the column, such as `av` or `embeddings/NAME`.

        Args:
            models: Name of the model by stage; needed only if the column has a folder per model.

        Raises:
            KeyError: When the column's model is missing.
        """
        return self.model_folder(models[self.stage]) if self.per_model else self.folder

    def model_folder(self, model: str) -> str:
        """Return the folder of one model of the column, such as `embeddings/NAME`."""
        return f"{self.folder}/{model}"

    def described_in(self, model: str) -> str:
        """Return the name of the file that describes a model of the column, such as `embeddings/NAME/encoder.json`."""
        return f"{self.model_folder(model)}/{self.description}"

    def folders(self, store: Store) -> list[str]:
        """Return the existing folders of the column's models, or the one folder of a column without models.

        A column that is described is there once its description is.
        """
        if self.per_model:
            return list(map(self.model_folder, store.folders(self.folder)))
        begun = self.description is None or store.exists(f"{self.folder}/{self.description}")
        return [self.folder] if begun else []

    @property
    def declared_schema(self) -> pa.Schema:
        """Return the schema of a column whose models do not decide it."""
        assert self.schema is not None, f"each model of {self.stage} has its own schema"
        return self.schema

    def owns(self, folder: str) -> bool:
        """Return whether a folder is the column's own or that of one of its models."""
        return folder.partition("/")[0] == self.folder

    def completed(self, table: pa.Table, fields: Sequence[str] | None = None) -> pa.Table:
        """Return a table with null values for those of `fields` that an older table lacks; None for all fields."""
        schema = self.declared_schema
        for name in schema.names if fields is None else fields:
            if name in schema.names and name not in table.column_names:
                field = schema.field(name)
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table

    def members(self, row: Row) -> dict[str, tuple[int, int] | None]:
        """Return the members of a row in its tar with offset and length; None for a place that no table records."""
        found: dict[str, tuple[int, int] | None] = {}
        for part in self.tar_members:
            offset, length = row[part.offset], row[part.length]
            places = zip(offset, length, strict=True) if isinstance(offset, list) else [(offset, length)]
            found.update(zip(part.names(row), places, strict=False))
        return found | {f"{row['id']}.json": None} if found else found

    def moved(self, row: Row, places: Mapping[str, Member]) -> dict[str, Any]:
        """Return the fields of a row that change when its members are at other places, in a rewritten tar."""
        changed: dict[str, Any] = {}
        for part in self.tar_members:
            found = [places[name] for name in part.names(row)]
            if isinstance(row[part.offset], list):
                changed |= {part.offset: [member.offset for member in found]}
                changed |= {part.length: [member.length for member in found]}
            elif found:
                changed |= {part.offset: found[0].offset, part.length: found[0].length}
        return changed


def _media(row: Row) -> list[str]:
    return [] if row["member"] is None else [row["member"]]


def _sound(row: Row) -> list[str]:
    return [f"{row['id']}.flac"] if row["state"] == "done" else []


def _pictures(row: Row) -> list[str]:
    count = len(row["frame_seconds"]) if row["state"] == "done" else 0
    return [f"{row['id']}.{number:03d}.jpg" for number in range(count)]


DOWNLOAD = Column("download", "clips", CLIPS_SCHEMA, resource="net", tar_members=(Members(_media, "offset", "length"),))
EXTRACT = Column(
    "extract",
    "av",
    AV_SCHEMA,
    needs=("download",),
    selectable=(
        *("seconds", "video_seconds", "samples", "audio_start_seconds", "frame_seconds", "grid_seconds", "rms_dbfs"),
        *("silent", "motion", "decode_errors", "audio_gaps", "audio_offset", "audio_length", "time_jumps"),
        *("filled_seconds", "held_seconds", "audio_channel", "tone_mapped"),
    ),
    added_later=("time_jumps", "filled_seconds", "held_seconds", "audio_channel", "tone_mapped"),
    tar_members=(
        Members(_sound, "audio_offset", "audio_length"),
        Members(_pictures, "frame_offsets", "frame_lengths"),
    ),
)
FACTS = Column(
    "facts",
    "facts",
    FACTS_SCHEMA,
    needs=("extract",),
    selectable=(
        *("loudness_lufs", "silent_share", "mostly_silent", "clipped_share", "bandwidth_hz", "still_share", "still"),
        *("black_share", "cuts", "motion_source"),
    ),
)
EMBED = Column(
    "embed",
    "embeddings",
    embedding_schema(),
    needs=("extract",),
    resource="gpu",
    per_model=True,
    description="encoder.json",
)
SCORE = Column(
    "score",
    "scores",
    SCORES_SCHEMA,
    needs=("extract", "facts", "embed"),
    selectable=tuple(name for name in SCORES_SCHEMA.names if name not in ("id", "sound_vector")),
    per_model=True,
    description="scorer.json",
)
OFFSCREEN = Column(
    "offscreen",
    "offscreen",
    OFFSCREEN_SCHEMA,
    needs=("extract", "embed"),
    selectable=tuple(name for name in OFFSCREEN_SCHEMA.names if name != "id"),
    description="offscreen.json",
)
# Read at the time of use, through this module: everything that a corpus's code does depends on it.
COLUMNS = (DOWNLOAD, EXTRACT, FACTS, EMBED, SCORE, OFFSCREEN)
PACKS = "training"
SEARCH = "search"
# Scorers that were fitted for the corpus, records of runs, and indices of vectors.
OTHER_FOLDERS = frozenset({"scorers", "runs", SEARCH})
_OWN_FILES = re.compile(r"corpus\.json|croissant\.json|manifest(-\d{6})?\.parquet|removed-\d{6}\.parquet|.*\.lock")


def columns_in_order() -> tuple[Column, ...]:
    """Return all columns, each after those it needs, otherwise in the order of their declaration.

    Raises:
        ValueError: When a column needs one that is not declared, or columns need each other.
    """
    left = list(COLUMNS)
    ordered: dict[str, Column] = {}
    while left:
        column = next((column for column in left if set(column.needs) <= ordered.keys()), None)
        if column is None:
            raise ValueError(f"the columns {', '.join(c.stage for c in left)} need each other, or undeclared ones")
        ordered[column.stage] = column
        left.remove(column)
    return tuple(ordered.values())


def with_needs(stages: Iterable[str]) -> list[Column]:
    """Return the columns of some stages and all columns that these are made from, in order."""
    wanted = set(stages)
    for column in reversed(columns_in_order()):
        if column.stage in wanted:
            wanted |= set(column.needs)
    return [column for column in columns_in_order() if column.stage in wanted]


def tar_folders(store: Store) -> list[str]:
    """Return the folders of the columns whose tables have tars."""
    return [folder for column in columns_in_order() if column.has_tars for folder in column.folders(store)]


def belongs(name: str) -> bool:
    """Return whether a file or folder of this name, at the top of a corpus's folder, is part of the corpus."""
    folders = {*(column.folder for column in COLUMNS), PACKS, *OTHER_FOLDERS}
    return name in folders or _OWN_FILES.fullmatch(name) is not None


def column_of(folder: str) -> Column:
    """Return the column of a folder such as `av` or `embeddings/NAME`.

    Raises:
        KeyError: When the folder belongs to no column.
    """
    for column in COLUMNS:
        if column.owns(folder):
            return column
    raise KeyError(folder)
