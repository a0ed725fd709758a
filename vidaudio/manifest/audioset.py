"""Reader of AudioSet's segment lists: three comment lines, then rows `id, start, end, "label ids"`.

Starts may be fractions of a second. The label ids (`/m/09x0r`) are replaced by names, from the class list that AudioSet
publishes with the segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.fields import parse_seconds, split_from_name
from vidaudio.manifest.header import header_rows
from vidaudio.manifest.rows import BadRow, Listing, Parsed, collect, parse_rows
from vidaudio.manifest.text import csv_rows
from vidaudio.manifest.youtube import youtube_clip

CLASS_LIST = "class_labels_indices.csv"


def read_audioset(
    *paths: str | Path,
    class_labels: str | Path | None = None,
    split: str | None = None,
    skip_bad_rows: bool = False,
) -> Listing:
    """Read AudioSet segment lists, one after the other.

    Args:
        paths: `balanced_train_segments.csv`, `unbalanced_train_segments.csv`, `eval_segments.csv`; the first two are
            `train`, the last is `test`.
        class_labels: AudioSet's class list (`index,mid,display_name`); None means `class_labels_indices.csv` in the
            folder of each list.
        split: Split of every row; None takes the split from the file name.
        skip_bad_rows: Whether malformed rows are left out; otherwise the list is refused.

    Raises:
        ManifestError: As `collect`; or when a list or its class list is missing.
    """
    rows = (row for path in paths for row in _rows(Path(path), class_labels, split))
    return collect(rows, skip_bad_rows=skip_bad_rows)


def read_class_names(path: Path) -> dict[str, str]:
    """Return AudioSet's class names by label id.

    Raises:
        ManifestError: When a column of the file is missing or a row is malformed.
    """
    _, rows = header_rows(path, required=("mid", "display_name"))
    names = {}
    for row in rows:
        if isinstance(row, BadRow):
            raise ManifestError(str(row))
        names[row.value["mid"]] = row.value["display_name"]
    return names


def _rows(path: Path, class_labels: str | Path | None, split: str | None) -> Iterator[Parsed[Clip] | BadRow]:
    rows = csv_rows(path, skip_initial_space=True, comment="#")
    names = read_class_names(_class_list(path, class_labels))
    split = split or split_from_name(path)

    def parse(row: list[str]) -> Clip:
        if len(row) != 4:
            raise ManifestError(f"it has {len(row)} columns; AudioSet's lists have 4 (id, start, end, labels)")
        return youtube_clip(
            row[0],
            dataset="audioset",
            start_seconds=parse_seconds(row[1], "start"),
            end_seconds=parse_seconds(row[2], "end"),
            split=split,
            labels=_labels(row[3], names),
        )

    yield from parse_rows(rows, parse)


def _class_list(path: Path, given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    beside = path.with_name(CLASS_LIST)
    if not beside.exists():
        raise ManifestError(
            f"there is no {CLASS_LIST} beside {path}; AudioSet publishes it with the segments and it holds the names "
            "of the labels: put it there, or name it with --class-labels"
        )
    return beside


def _labels(ids: str, names: Mapping[str, str]) -> tuple[str, ...]:
    labels = [label.strip() for label in ids.split(",") if label.strip()]
    if not labels:
        raise ManifestError("it has no label")
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise ManifestError(f"the label id {unknown[0]!r} is not in the class list")
    return tuple(dict.fromkeys(names[label] for label in labels))
