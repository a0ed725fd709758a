"""Reader of VGGSound's lists: `id,start,label,split` without a header, and the test list `<id>_<start>.mp4,label`.

Labels with commas are quoted. Every clip is 10 s long. One video may have several clips, so a store keyed by the
video's id alone would lose some.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.fields import parse_seconds
from vidaudio.manifest.rows import Listing, collect, parse_rows
from vidaudio.manifest.text import csv_rows
from vidaudio.manifest.youtube import youtube_clip

CLIP_SECONDS = 10.0
_FILE_NAME = re.compile(r"(.{11})_(\d{6})(?:\.\w+)?")


def read_vggsound(*paths: str | Path, split: str | None = None, skip_bad_rows: bool = False) -> Listing:
    """Read VGGSound lists of either form, one after the other.

    Args:
        paths: `vggsound.csv` (four columns) or `test.csv` (two columns, all rows `test`).
        split: Split of every row; None keeps the list's own splits.
        skip_bad_rows: Whether malformed rows are left out (the result lists them); otherwise the list is refused.

    Raises:
        ManifestError: As `collect`; or when a list is missing.
    """
    parse = _parser(split)
    rows = (row for path in paths for row in parse_rows(csv_rows(Path(path)), parse))
    return collect(rows, skip_bad_rows=skip_bad_rows)


def _parser(split: str | None) -> Callable[[list[str]], Clip]:
    def parse(row: list[str]) -> Clip:
        video_id, start, label, own_split = _fields(row)
        if not label:
            raise ManifestError("it has no label")
        start_seconds = parse_seconds(start, "start")
        return youtube_clip(
            video_id,
            dataset="vggsound",
            start_seconds=start_seconds,
            end_seconds=start_seconds + CLIP_SECONDS,
            split=split or own_split,
            labels=(label,),
        )

    return parse


def _fields(row: list[str]) -> tuple[str, str, str, str]:
    """Return video id, start, label and split of a row of either form."""
    if len(row) == 4:
        if row[3] not in {"train", "val", "test"}:
            raise ManifestError(f"the split {row[3]!r} is none of train, val, test")
        return row[0], row[1], row[2], row[3]
    if len(row) == 2:
        name = _FILE_NAME.fullmatch(row[0])
        if not name:
            raise ManifestError(f"{row[0]!r} is not of the form <video id>_<start, 6 digits>.mp4")
        return name[1], name[2], row[1], "test"
    raise ManifestError(
        f"it has {len(row)} columns; VGGSound's list has 4 (id, start, label, split), its test list 2 (file, label)"
    )
