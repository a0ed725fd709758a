"""Checks of an index's rows and description, made once, when the file is read.

The file is mapped, and its numbers are trusted afterwards. A list offset outside its buffer would read foreign memory
or crash the process. The description's tar names become paths, and its counts become memory.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.json_values import parse_object
from vidaudio.shards.names import is_tar_name
from vidaudio.shards.table_checks import FLAC_SAMPLES_PER_BYTE, LARGEST, MAX_VECTOR_LENGTH
from vidaudio.stream.vector_columns import VectorColumn, VectorInput, only_column, read_columns
from vidaudio.stream.vector_files import rows_in

AUDIO = ("flac", "wav")
# `pack` begins a new batch before 32-bit offsets overflow: after 2 GiB of text.
MAX_BATCHES = 4096
ROWS_AT_ONCE = 1 << 15
MAX_RATE = 1_000_000
MAX_ID_LENGTH, MAX_KEY_LENGTH = 128, 160
_IN_IDS = np.zeros(256, bool)
_IN_IDS[list(string.ascii_letters.encode() + string.digits.encode() + b"_-")] = True
_MAY_BE_NULL = ("dataset", "labels", "captions")
# Layout of Arrow's flatbuffers: field numbers, and lengths in bytes.
_FOOTER_DICTIONARIES, _FOOTER_BATCHES, _MESSAGE_HEADER, _BATCH_COMPRESSION = 2, 3, 2, 3
_TAIL_BYTES, _BLOCK_BYTES = 10, 24
_CONTINUED = 0xFFFFFFFF
_NO_RUNS = "it does not say where splits begin"
_ENCODER_TEXTS = (
    "architecture",
    "pretrained",
    "weights_sha256",
    "precision",
    "interpolation",
    "resize_mode",
    "pooling",
)


class BadIndex(ValueError):
    """A file that is not a valid index; the message says why."""


def open_batches(source: pa.BufferReader) -> pa.RecordBatchFileReader:
    """Open an index file, whose rows are not read yet.

    Raises:
        BadIndex: When the file is not a valid index; Arrow may raise its own errors instead.
    """
    _refuse_compression(memoryview(source.read_buffer()))
    source.seek(0)
    file = pa.ipc.open_file(source)
    if file.num_record_batches > MAX_BATCHES:
        raise BadIndex(f"it is in {file.num_record_batches:,} pieces")
    return file


def read_batches(
    file: pa.RecordBatchFileReader, size: int, schema: pa.Schema, let_go: Callable[[], None], *, is_known: bool = False
) -> pa.Table:
    """Return the checked rows of an index file, without copying them.

    Args:
        file: The opened file.
        size: Size of the file, bytes.
        schema: Columns that the file must have, and that the returned table has.
        let_go: Releases pages that have been read to the system.
        is_known: Whether the values have been checked already.

    Raises:
        BadIndex: When the file is not a valid index; Arrow may raise its own errors instead.
    """
    for field in schema:
        if file.schema.get_field_index(field.name) < 0 or file.schema.field(field.name).type != field.type:
            raise BadIndex(f"its column {field.name} is missing, or is not {field.type}")
    batches = []
    for number in range(file.num_record_batches):
        # Read all columns: if some are left out, Arrow copies the others.
        batch = file.get_batch(number).select(schema.names)
        if batch.num_rows > size:
            raise BadIndex(f"it says that it has {batch.num_rows:,} rows")
        for column in batch.columns:
            column.validate(full=not is_known)
            let_go()
        batches.append(batch)
    found = schema.with_metadata(file.schema.metadata)
    return pa.Table.from_batches([pa.RecordBatch.from_arrays(batch.columns, schema=found) for batch in batches], found)


def _refuse_compression(data: memoryview) -> None:
    """Refuse a compressed index: an index is written to be mapped, and a few compressed bytes could claim any size.

    Arrow would decompress such a piece before its size could be checked. So the file's footer, and the headers of the
    record batches that it names, are read here: flatbuffers, see Arrow's File.fbs and Message.fbs.
    """
    footer = data[-_TAIL_BYTES - _u32(data, len(data) - _TAIL_BYTES) : -_TAIL_BYTES]
    root = _u32(footer, 0)
    if _blocks(footer, root, _FOOTER_DICTIONARIES):
        raise BadIndex("it holds dictionaries, and an index never does")
    for offset in _blocks(footer, root, _FOOTER_BATCHES):
        # The header is preceded by its length and, in the present file format, by a continuation marker before that.
        begin = offset + (8 if _u32(data, offset) == _CONTINUED else 4)
        message = data[begin : begin + _u32(data, begin - 4)]
        header = _field(message, _u32(message, 0), _MESSAGE_HEADER)
        if header is None or _field(message, header + _u32(message, header), _BATCH_COMPRESSION) is not None:
            raise BadIndex("it is compressed, and an index never is")


def _blocks(footer: memoryview, root: int, number: int) -> list[int]:
    """Return where the pieces of a file begin that one of the footer's lists names."""
    place = _field(footer, root, number)
    if place is None:
        return []
    vector = place + _u32(footer, place)
    count = min(_u32(footer, vector), len(footer) // _BLOCK_BYTES)
    starts = (vector + 4 + _BLOCK_BYTES * each for each in range(count))
    return [int.from_bytes(footer[start : start + 8], "little") for start in starts]


def _field(data: memoryview, table: int, number: int) -> int | None:
    """Return where a field of a flatbuffer table begins; None if the field is not set."""
    virtual = table - int.from_bytes(data[table : table + 4], "little", signed=True)
    place = 4 + 2 * number
    if place >= int.from_bytes(data[virtual : virtual + 2], "little"):
        return None
    offset = int.from_bytes(data[virtual + place : virtual + place + 2], "little")
    return table + offset if offset else None


def _u32(data: memoryview, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little")


def described_in(metadata: Mapping[bytes, bytes], key: bytes) -> dict[str, Any]:
    """Return the checked description in an index's schema metadata.

    Raises:
        BadIndex, KeyError, ValueError: When the description is missing, or one of its values is invalid.
    """
    described = parse_object(metadata[key])
    tars = described["tars"]
    if not isinstance(tars, list) or not all(map(is_tar_name, tars)):
        raise BadIndex("it names tars that are none")
    if described["audio"] not in AUDIO:
        raise BadIndex(f"its sound is {str(described['audio'])[:40]!r}, not {' or '.join(AUDIO)}")
    rate, frames = described["sample_rate"], described["frames_per_second"]
    if not _is_whole(rate) or not 0 < rate <= MAX_RATE:
        raise BadIndex(f"its sample rate is {str(rate)[:40]}")
    if not isinstance(frames, int | float) or not math.isfinite(frames) or not 0 < frames <= MAX_RATE:
        raise BadIndex(f"its frames per second are {str(frames)[:40]}")
    if not isinstance(described.get("plan_hash", ""), str) or not _is_whole(described.get("generation", 0)):
        raise BadIndex("it names no plan")
    if not isinstance(described.get("weight"), str | None):
        raise BadIndex("it names no column of weights")
    check_fingerprint(described["encoder"])
    return described


def columns_in(described: Mapping[str, Any]) -> tuple[VectorColumn, ...]:
    """Return the vector columns that the description of an index lists; those of older versions list none and have one.

    Raises:
        BadIndex, KeyError, TypeError, ValueError: When they are not such columns.
    """
    if "vectors" not in described:
        return (only_column(described["encoder"]),)
    columns = []
    for column, entry in zip(read_columns(described["vectors"]), described["vectors"], strict=True):
        fingerprint = check_fingerprint(entry["fingerprint"])
        if (fingerprint.get("input", "frames"), fingerprint["dimensions"]) != (column.input, column.dimensions):
            raise BadIndex(f"it describes the encoder {column.encoder} in two ways")
        columns.append(replace(column, fingerprint=fingerprint))
    return tuple(columns)


def check_fingerprint(encoder: Any) -> dict[str, Any]:
    """Return an encoder's fingerprint after checking the types of its values.

    Raises:
        BadIndex: When it is not a fingerprint of an encoder.
    """
    if not isinstance(encoder, dict):
        raise BadIndex("it describes no encoder")
    dimensions = encoder.get("dimensions")
    if not _is_whole(dimensions) or not 0 <= dimensions <= MAX_VECTOR_LENGTH:
        raise BadIndex(f"its encoder's vectors have {str(dimensions)[:40]} dimensions")
    for name in _ENCODER_TEXTS:
        value = encoder.get(name)
        if value is not None and not (isinstance(value, str) and len(value) <= 4096 and "\0" not in value):
            raise BadIndex(f"its encoder's {name} is no text")
    for name in ("image_size", "batch_size"):
        value = encoder.get(name)
        if value is not None and not (_is_whole(value) and 0 < value <= MAX_VECTOR_LENGTH):
            raise BadIndex(f"its encoder's {name} is {str(value)[:40]}")
    for name in ("mean", "std"):
        value = encoder.get(name)
        numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) for v in value)
        if value is not None and not numbers:
            raise BadIndex(f"its encoder's {name} is not three numbers")
    _check_input(encoder)
    return encoder


def _check_input(encoder: Mapping[str, Any]) -> None:
    """Check what an encoder encodes; an encoder of sound says which windows of time it encodes, and at which rate."""
    kind = encoder.get("input", "frames")
    if kind not in get_args(VectorInput):
        raise BadIndex(f"its encoder encodes {str(kind)[:40]!r}, not {' or '.join(get_args(VectorInput))}")
    for name in ("sample_rate", "window_seconds", "hop_seconds") if kind == "sound" else ():
        value = encoder.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MAX_RATE:
            raise BadIndex(f"its encoder of sound has the {name} {str(value)[:40]}")


def read_runs(runs: Any, rows: int, tars: int) -> list[tuple[str, int, int]]:
    """Return the runs of consecutive rows in one split and shard that an index names.

    Raises:
        BadIndex: When they are not such runs, or do not match the number of rows or tars.
    """
    if not isinstance(runs, list):
        raise BadIndex(_NO_RUNS)
    found: list[tuple[str, int, int]] = []
    for run in runs:
        if not (isinstance(run, list | tuple) and len(run) == 3 and isinstance(run[0], str)):
            raise BadIndex(_NO_RUNS)
        split, shard, count = run
        if not (_is_whole(shard) and 0 <= shard < tars and _is_whole(count) and 0 <= count <= rows):
            raise BadIndex(_NO_RUNS)
        found.append((split, shard, count))
    if sum(count for _, _, count in found) != rows:
        raise BadIndex(_NO_RUNS)
    return found


def check_runs(runs: Sequence[tuple[str, int, int]], table: pa.Table) -> None:
    """Check that the rows of an index have the splits and shards that its runs state.

    Raises:
        BadIndex: When they do not.
    """
    _check_splits(runs, table["split"])
    _check_shards(runs, table["shard"])


def _check_splits(runs: Sequence[tuple[str, int, int]], column: pa.ChunkedArray) -> None:
    first = 0
    for split, some in itertools.groupby(runs, key=lambda run: run[0]):
        end = first + sum(rows for _, _, rows in some)
        for begin in range(first, end, ROWS_AT_ONCE):
            own = column.slice(begin, min(ROWS_AT_ONCE, end - begin))
            if not pc.all(pc.equal(own, split)).as_py():
                raise BadIndex(f"it says that rows are of the split {split[:80]!r}, which they are not")
        first = end


def _check_shards(runs: Sequence[tuple[str, int, int]], column: pa.ChunkedArray) -> None:
    numbers = np.asarray([number for _, number, _ in runs], np.int32)
    rows = np.asarray([rows for _, _, rows in runs], np.int64)
    ends = np.cumsum(rows)
    for begin in range(0, len(column), ROWS_AT_ONCE):
        own = column.slice(begin, ROWS_AT_ONCE).to_numpy()
        runs_of_rows = np.searchsorted(ends, np.arange(begin, begin + len(own)), side="right")
        if not np.array_equal(numbers[runs_of_rows], own):
            raise BadIndex("it says that rows are of shards that they are not of")


def check_rows(
    table: pa.Table, columns: Sequence[VectorColumn], tars: int, audio: str, let_go: Callable[[], None]
) -> None:
    """Check the values of all rows, `ROWS_AT_ONCE` rows at a time.

    Args:
        table: Rows of the index.
        columns: Vector columns of the pack.
        tars: Number of tars.
        audio: Sound format, `flac` or `wav`.
        let_go: Releases pages that have been read to the system.

    Raises:
        BadIndex: When a row has a value that no pack writes.
    """
    for first in range(0, table.num_rows, ROWS_AT_ONCE):
        rows = table.slice(first, ROWS_AT_ONCE)
        for name in rows.column_names:
            if name not in _MAY_BE_NULL and rows[name].null_count:
                raise BadIndex(f"its column {name} lacks values")
        for name, most in (("key", MAX_KEY_LENGTH), ("id", MAX_ID_LENGTH)):
            if not all(_are_ids(chunk, most) for chunk in rows[name].chunks):
                raise BadIndex(f"its column {name} holds what is no {name}")
        _check_numbers(rows, columns, tars, audio)
        for column in columns:
            if column.input == "sound":
                _check_seconds(rows, column)
        let_go()


def _are_ids(texts: pa.StringArray, most: int) -> bool:
    """Return whether texts are ids of 1 to `most` characters; many times faster than a regular expression."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, count=len(texts) + 1, offset=4 * texts.offset)
    lengths = np.diff(offsets)
    if len(lengths) and not (lengths.min() >= 1 and lengths.max() <= most):
        return False
    data = texts.buffers()[2]
    if data is None or offsets[0] == offsets[-1]:
        return True
    return bool(_IN_IDS[np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]].all())


def _check_seconds(rows: pa.Table, column: VectorColumn) -> None:
    """Check that every vector of a window of time has a start, and that the starts increase."""
    counts = np.asarray(pc.list_value_length(rows[column.seconds]))
    if not np.array_equal(counts, rows_in(rows[column.length].to_numpy(), column.dimensions)):
        raise BadIndex(f"its columns {column.seconds} and {column.length} do not pair up")
    seconds = pc.list_flatten(rows[column.seconds]).to_numpy()
    same_row = np.diff(np.repeat(np.arange(len(counts)), counts)) == 0
    if not np.isfinite(seconds).all() or (np.diff(seconds)[same_row] <= 0).any():
        raise BadIndex(f"its column {column.seconds} holds values that are no times")


def _check_numbers(rows: pa.Table, columns: Sequence[VectorColumn], tars: int, audio: str) -> None:
    places = [name for column in columns for name in (column.offset, column.length)]
    numbers = {name: rows[name].to_numpy() for name in ("samples", "audio_offset", "audio_length", *places, "shard")}
    shard = numbers.pop("shard")
    if len(shard) and not (shard.min() >= 0 and shard.max() < tars):
        raise BadIndex("its column shard names tars that it does not list")
    for name, values in numbers.items():
        # Sums of two such numbers must not overflow.
        if len(values) and not (values.min() >= 0 and values.max() < LARGEST // 2):
            raise BadIndex(f"its column {name} holds numbers that cannot be")
    lengths = numbers["audio_length"].astype(np.float64)
    most = lengths / 2 if audio == "wav" else lengths * FLAC_SAMPLES_PER_BYTE
    if (numbers["samples"] > most).any():
        raise BadIndex("its column samples holds more than the sounds' bytes can")
    if not np.isfinite(rows["audio_start_seconds"].to_numpy()).all():
        raise BadIndex("its column audio_start_seconds holds values that are no times")
    pictures, times = (pc.list_value_length(rows[name]) for name in ("frame_seconds", "grid_seconds"))
    if "weight" in rows.column_names:
        weights = rows["weight"].to_numpy()
        if not ((weights >= 0) & (weights <= 1)).all():
            raise BadIndex("its column weight holds what is no weight between 0 and 1")
    # A pack of sounds has grid times to place windows, and no pictures.
    if not pc.all(pc.or_(pc.equal(pictures, times), pc.equal(pictures, 0))).as_py():
        raise BadIndex("its columns frame_seconds and grid_seconds do not pair up")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
