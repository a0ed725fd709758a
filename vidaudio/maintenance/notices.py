"""Counts of what extraction had to mend in clips that succeeded. These are no failures, but training should know them.

A clip may be done although its file's clock jumped, its audio had gaps, its channels cancelled each other or its
pictures were HDR. The av tables record this for every clip; this module counts the clips of a table. Most tables have
nothing to count, and their Parquet statistics show that without reading a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.media.outcomes import State

# Columns of the counts and their types.
COLUMNS = {
    "time_jumps": pa.int32(),
    "filled_seconds": pa.float64(),
    "held_seconds": pa.float64(),
    "one_channel": pa.int32(),
    "tone_mapped": pa.int32(),
}
NONE: Mapping[str, int | float] = dict.fromkeys(COLUMNS, 0)
_SOURCES = {"one_channel": "audio_channel"}
# Values that mean: the audio was not reduced to one channel.
_ALL_CHANNELS = ("mix", None)


def count_notices(file: pq.ParquetFile, states: Sequence[str | None], counts_now: Sequence[bool]) -> dict[str, Any]:
    """Count what was mended in the clips of one table.

    Args:
        file: A committed table of any stage.
        states: State of each row.
        counts_now: Whether each row is still the current outcome of its clip.
    """
    found: dict[str, Any] = dict(NONE)
    wanted = [name for name in COLUMNS if _may_have_any(file, _SOURCES.get(name, name))]
    if not wanted:
        return found
    names = [_SOURCES.get(name, name) for name in wanted]
    table = file.read(columns=names, use_threads=False)
    rows = [n for n, (state, now) in enumerate(zip(states, counts_now, strict=True)) if now and state == State.DONE]
    for name, source in zip(wanted, names, strict=True):
        values = table[source].to_pylist()
        done = [values[n] for n in rows]
        if name == "one_channel":
            found[name] = sum(value not in _ALL_CHANNELS for value in done)
        elif pa.types.is_floating(COLUMNS[name]):
            found[name] = float(sum(value or 0.0 for value in done))
        else:
            found[name] = sum(bool(value) for value in done)
    return found


def notice_lines(noticed: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return number and description of each kind of notice whose count is not zero, for display."""
    number = {name: f"{round(value):,}" for name, value in noticed.items()}
    told = {
        "time_jumps": "done although their clock jumped; what followed was joined (time_jumps)",
        "one_channel": "done from one channel, since a mix of all would lose the sound (audio_channel)",
        "tone_mapped": "done from HDR or wide-gamut pictures, mapped to BT.709 (tone_mapped)",
        "filled_seconds": "s of silence put into gaps of sound (filled_seconds)",
        "held_seconds": "s in which a picture stayed on screen for over a second (held_seconds)",
    }
    return [(number[name], text) for name, text in told.items() if round(noticed.get(name, 0))]


def _may_have_any(file: pq.ParquetFile, column: str) -> bool:
    """Return whether a column may have a value worth counting, according to the file's statistics."""
    if column not in file.schema_arrow.names:
        return False
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            if chunk.path_in_schema != column:
                continue
            statistics = chunk.statistics
            if statistics is None or not statistics.has_min_max:
                if statistics is None or statistics.null_count != group.num_rows:
                    return True
            elif any(value not in (0, False, "mix") for value in (statistics.min, statistics.max)):
                return True
    return False
