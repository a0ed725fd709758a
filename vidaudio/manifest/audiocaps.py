"""Reader of AudioCaps' lists: `audiocap_id,youtube_id,start_time,caption`, one row per caption; clips are 10 s long.

A clip of the validation and test lists has five captions, so five rows: 4,875 test rows are 975 clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.fields import parse_seconds, split_from_name
from vidaudio.manifest.header import header_rows
from vidaudio.manifest.rows import BadRow, Listing, Parsed, collect, parse_rows
from vidaudio.manifest.youtube import youtube_clip

CLIP_SECONDS = 10.0


def read_audiocaps(*paths: str | Path, split: str | None = None, skip_bad_rows: bool = False) -> Listing:
    """Read AudioCaps lists, one after the other; the captions of a clip are gathered in order.

    Args:
        paths: `train.csv`, `val.csv`, `test.csv`; the split is taken from the name.
        split: Split of every row; None takes the split from the file name.
        skip_bad_rows: Whether malformed rows are left out; otherwise the list is refused.

    Raises:
        ManifestError: As `collect`; or when a list or one of its columns is missing.
    """
    return collect((row for path in paths for row in _rows(Path(path), split)), skip_bad_rows=skip_bad_rows)


def _rows(path: Path, split: str | None) -> Iterator[Parsed[Clip] | BadRow]:
    split = split or split_from_name(path)

    def parse(row: dict[str, str]) -> Clip:
        start_seconds = parse_seconds(row["start_time"], "start_time")
        if not row["caption"]:
            raise ManifestError("it has no caption")
        return youtube_clip(
            row["youtube_id"],
            dataset="audiocaps",
            start_seconds=start_seconds,
            end_seconds=start_seconds + CLIP_SECONDS,
            split=split,
            captions=(row["caption"],),
        )

    _, rows = header_rows(path, required=("youtube_id", "start_time", "caption"))
    yield from parse_rows(rows, parse)
