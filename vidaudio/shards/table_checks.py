"""Checks of a committed table's values, in the one place where tables are read.

A table's ids become file names, its places become reads, and its counts become memory. A corpus may come from another
person, with correct checksums. So a reader of a table gets values of the types and ranges that a commit writes, or an
error that names the column. Checks across columns, against the manifest or against a tar's headers are the task of
`verify`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.shards.names import is_name_part

# Same as vidaudio.manifest.clip.CLIP_ID, for a whole column; the key of a training sample may have a suffix.
ID_PATTERN = r"\A[A-Za-z0-9_-]{1,128}\z"
KEY_PATTERN = r"\A[A-Za-z0-9_-]{1,160}\z"
_MEMBER_PATTERN = r"\A[A-Za-z0-9_-]{1,160}\.[A-Za-z0-9_.]{1,32}\z"
WORD_PATTERN = r"\A[a-z_]{1,64}\z"
# The shortest FLAC frame has about 10 bytes, and at most 65,535 samples.
FLAC_SAMPLES_PER_BYTE = 6_554
MAX_VECTOR_LENGTH = 1 << 16
LARGEST = 1 << 62

# Columns that readers rely on, by stage; for other stages, only the rules for names apply.
STAGE_COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "download": {
        "id": pa.string(),
        "state": pa.string(),
        "reason": pa.string(),
        "message": pa.string(),
        "member": pa.string(),
        "offset": pa.int64(),
        "length": pa.int64(),
        "path": pa.string(),
        "size_bytes": pa.int64(),
        "sha256": pa.string(),
        "media_start_seconds": pa.float64(),
    },
    "extract": {
        "id": pa.string(),
        "state": pa.string(),
        "reason": pa.string(),
        "message": pa.string(),
        "samples": pa.int64(),
        "audio_start_seconds": pa.float64(),
        "frame_seconds": pa.list_(pa.float64()),
        "grid_seconds": pa.list_(pa.float64()),
        "audio_offset": pa.int64(),
        "audio_length": pa.int64(),
        "frame_offsets": pa.list_(pa.int64()),
        "frame_lengths": pa.list_(pa.int64()),
    },
    "facts": {
        "id": pa.string(),
        "motion_envelope": pa.list_(pa.float16()),
        "onset_envelope": pa.list_(pa.float16()),
    },
    "embed": {
        "id": pa.string(),
        "frame_seconds": pa.float64(),
        "start_seconds": pa.float64(),
        "text": pa.string(),
    },
    "pack": {
        "key": pa.string(),
        "id": pa.string(),
        "source": pa.string(),
        "dataset": pa.string(),
        "split": pa.string(),
        "labels": pa.list_(pa.string()),
        "captions": pa.list_(pa.string()),
        "samples": pa.int64(),
        "audio_start_seconds": pa.float64(),
        "frame_seconds": pa.list_(pa.float64()),
        "grid_seconds": pa.list_(pa.float64()),
        "audio_offset": pa.int64(),
        "audio_length": pa.int64(),
    },
}
# Columns of which a table has at least one: what its vectors are of.
_ONE_OF = {"embed": ("frame_seconds", "start_seconds", "text")}
# Columns of a pack's vectors: their names may end in the name of an encoder, see vidaudio.stream.vector_columns.
_OF_VECTORS = {
    "vectors_offset": pa.int64(),
    "vectors_length": pa.int64(),
    "vectors_seconds": pa.list_(pa.float64()),
}
# Columns that must have values for every clip that is done, by stage; all rows of a pack are done.
_FILLED = {
    "extract": (
        *("samples", "audio_start_seconds", "frame_seconds", "grid_seconds", "audio_offset", "audio_length"),
        *("frame_offsets", "frame_lengths"),
    ),
    "embed": ("id", "frame_seconds", "start_seconds", "text", "embedding"),
    "pack": tuple(name for name in STAGE_COLUMNS["pack"] if name not in ("dataset", "labels", "captions")),
}
_SPANS = (("offset", "length"), ("audio_offset", "audio_length"))
_TIMES = ("audio_start_seconds", "frame_seconds", "grid_seconds", "start_seconds")
_TEXTS = {
    "id": ID_PATTERN,
    "key": KEY_PATTERN,
    "member": _MEMBER_PATTERN,
    "state": WORD_PATTERN,
    "reason": WORD_PATTERN,
}


def check_table(table: pa.Table, stage: str, tar_bytes: int = 0) -> None:
    """Check the values of a committed table, or of some of its columns.

    Args:
        table: Table as it was read.
        stage: Stage that committed the table.
        tar_bytes: Size of the shard's tar; 0 if there is none or the size is unknown.

    Raises:
        ValueError: When a value is one that no commit writes; names the column.
    """
    # Without this, offsets of texts and lists that lead out of their buffers would still be read.
    table.validate(full=True)
    types = {**STAGE_COLUMNS.get(stage, {}), **_vector_types(table.column_names, stage)}
    for name in table.column_names:
        wanted, found = types.get(name), table.schema.field(name).type
        if wanted is not None and found != wanted:
            raise ValueError(f"its column {name} holds {found}, not {wanted}")
    _check_names(table)
    if stage in STAGE_COLUMNS:
        _check_filled(table, stage)
        _check_places(table, tar_bytes)
        _check_samples(table)
    if "embedding" in table.column_names:
        _check_embedding(table)


def check_columns(names: list[str], stage: str) -> None:
    """Check that a whole table has the columns that readers rely on.

    Raises:
        ValueError: When a column is missing.
    """
    one_of = _ONE_OF.get(stage, ())
    lacking = [name for name in STAGE_COLUMNS.get(stage, {}) if name not in names and name not in one_of]
    lacking += one_of[:1] if not set(one_of) & set(names) else ()
    lacking += [length for offset in names if (length := _length_of(offset)) and length not in names]
    if stage == "pack" and not _vector_types(names, stage):
        lacking.append("vectors_offset")
    if lacking:
        raise ValueError(f"it has no column {lacking[0]}")


def _vector_types(names: list[str], stage: str) -> dict[str, pa.DataType]:
    """Return the types of the columns of a pack's vectors, by name."""
    found = {}
    for name in names if stage == "pack" else ():
        for prefix, kind in _OF_VECTORS.items():
            if name == prefix or name.startswith(f"{prefix}_"):
                found[name] = kind
    return found


def _length_of(offset: str) -> str | None:
    """Return the column of lengths that belongs to one of a pack's columns of offsets; None for other columns."""
    return offset.replace("offset", "length", 1) if offset.startswith("vectors_offset") else None


def check_texts(column: pa.ChunkedArray, pattern: str, name: str) -> None:
    """Check that every text of a column matches a pattern; nulls pass.

    Raises:
        ValueError: When a text does not match; shows the text.
    """
    wrong = column.filter(pc.invert(pc.match_substring_regex(column, pattern)))
    if len(wrong):
        raise ValueError(f"its column {name} holds {wrong[0].as_py()[:80]!r}")


def _check_names(table: pa.Table) -> None:
    for name, pattern in _TEXTS.items():
        if name in table.column_names and pa.types.is_string(table.schema.field(name).type):
            check_texts(table[name], pattern, name)
    if "id" in table.column_names and table["id"].null_count:
        raise ValueError("its column id lacks values")
    if "split" in table.column_names:
        for split in pc.unique(table["split"]).to_pylist():
            if split is not None and not is_name_part(split):
                raise ValueError(f"its column split holds {split[:80]!r}")
    if "path" in table.column_names and pc.any(pc.match_substring(table["path"], "\0")).as_py():
        raise ValueError("its column path holds a NUL character")


def _check_filled(table: pa.Table, stage: str) -> None:
    """Check that clips that are done have all their values."""
    if stage == "extract":
        if "state" not in table.column_names:
            return  # only some columns were read
        table = table.filter(pc.equal(table["state"], "done"))
    for name in (*_FILLED.get(stage, ()), *_vector_types(table.column_names, stage)):
        if name in table.column_names:
            column = table[name]
            items = pc.list_flatten(column) if pa.types.is_list(column.type) else None
            if column.null_count or (items is not None and items.null_count):
                raise ValueError(f"its column {name} lacks values of clips that are done")


def _check_places(table: pa.Table, tar_bytes: int) -> None:
    """Check that places lie inside the tar, however large their numbers are."""
    most = tar_bytes or LARGEST
    of_vectors = [(name, length) for name in table.column_names if (length := _length_of(name))]
    for offset, length in (*_SPANS, *of_vectors):
        if {offset, length} <= set(table.column_names):
            _check_span(table[offset], table[length], most, f"{offset} and {length}")
    if {"frame_offsets", "frame_lengths"} <= set(table.column_names):
        offsets, lengths = table["frame_offsets"], table["frame_lengths"]
        if pc.any(pc.not_equal(pc.list_value_length(offsets), pc.list_value_length(lengths))).as_py():
            raise ValueError("its columns frame_offsets and frame_lengths do not pair up")
        _check_span(pc.list_flatten(offsets), pc.list_flatten(lengths), most, "frame_offsets and frame_lengths")


def _check_span(offsets: pa.ChunkedArray, lengths: pa.ChunkedArray, most: int, names: str) -> None:
    if offsets.null_count != lengths.null_count or not _within(offsets, 0, most) or not _within(lengths, 0, most):
        raise ValueError(f"its columns {names} hold places outside the tar")
    ends = pc.add(offsets, lengths)
    if not _within(ends, 0, most):
        raise ValueError(f"its columns {names} hold places outside the tar")


def _check_samples(table: pa.Table) -> None:
    """Check that a sound has no more samples than its bytes can hold, since memory for all is allocated at once."""
    if "samples" in table.column_names:
        if not _within(table["samples"], 0, LARGEST):
            raise ValueError("its column samples holds numbers that no sound has")
        if "audio_length" in table.column_names:
            most = pc.multiply(pc.cast(table["audio_length"], pa.float64(), safe=False), FLAC_SAMPLES_PER_BYTE)
            if pc.any(pc.greater(pc.cast(table["samples"], pa.float64(), safe=False), most)).as_py():
                raise ValueError("its column samples holds more than the sounds' bytes can")
    for name in table.column_names:
        if name in _TIMES or name.startswith("vectors_seconds"):
            column = table[name]
            values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
            if not pc.all(pc.is_finite(values)).as_py() and len(values) > values.null_count:
                raise ValueError(f"its column {name} holds values that are no times")


def _within(column: pa.ChunkedArray, least: int, most: int) -> bool:
    if len(column) == column.null_count:
        return True
    bounds = pc.min_max(column)
    return bounds["min"].as_py() >= least and bounds["max"].as_py() <= most


def _check_embedding(table: pa.Table) -> None:
    kind = table.schema.field("embedding").type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float16():
        raise ValueError(f"its column embedding holds {kind}, not vectors of float16")
    if not 1 <= kind.list_size <= MAX_VECTOR_LENGTH:
        raise ValueError(f"its vectors have {kind.list_size:,} dimensions")
