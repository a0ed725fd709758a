"""Reader of ESC-50 and ESC-10 (Piczak 2015): a csv of labelled sound files, with folds instead of splits.

Files are named `<fold>-<freesound id>-<take>-<class>.wav`; copies in other formats omit the class. Takes of one
recording share one freesound id. That id is the source, so that takes of one recording are neither mixed with one
another nor divided between splits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.header import header_rows
from vidaudio.manifest.rows import BadRow, Listing, collect, parse_rows

FOLDS = (1, 2, 3, 4, 5)
_FILE_NAME = re.compile(r"(\d-(\d+)-[A-Z](?:-\d+)?)\.\w+")


def read_esc(
    path: str | Path,
    sounds: str | Path | None = None,
    *,
    test_folds: Collection[int] = (5,),
    val_folds: Collection[int] = (),
    only_esc10: bool = False,
    skip_bad_rows: bool = False,
) -> Listing:
    """Read ESC's csv; labels are its categories, with spaces for underscores, since text encoders read them.

    Args:
        path: `esc50.csv`, or a list with its columns `filename`, `fold` and `category`.
        sounds: Folder of the sound files; None means the list's own folder.
        test_folds: Folds of the split `test`; folds in neither split are `train`.
        val_folds: Folds of the split `val`.
        only_esc10: Whether to keep only the rows that the column `esc10` marks.
        skip_bad_rows: Whether malformed rows are left out (the result lists them); otherwise the list is refused.

    Raises:
        ManifestError: As `collect`; or when the list or a column is missing, or a fold does not exist or is in two
            splits.
    """
    unknown = (set(test_folds) | set(val_folds)) - set(FOLDS)
    if unknown:
        raise ManifestError(f"there is no fold {min(unknown)}; ESC has the folds 1 to 5")
    if both := set(test_folds) & set(val_folds):
        raise ManifestError(f"fold {min(both)} cannot be test and val")
    splits = dict.fromkeys(FOLDS, "train") | dict.fromkeys(val_folds, "val") | dict.fromkeys(test_folds, "test")
    required = ("filename", "fold", "category", *(("esc10",) if only_esc10 else ()))
    _, rows = header_rows(Path(path), required=required)
    folder = Path(path).parent if sounds is None else Path(sounds)
    dataset = "esc10" if only_esc10 else "esc50"
    if only_esc10:
        rows = (row for row in rows if isinstance(row, BadRow) or row.value["esc10"].lower() == "true")
    clips = parse_rows(rows, _parser(folder.absolute(), splits, dataset))
    return collect(clips, skip_bad_rows=skip_bad_rows)


def _parser(sounds: Path, splits: Mapping[int, str], dataset: str) -> Callable[[dict[str, str]], Clip]:
    def parse(row: dict[str, str]) -> Clip:
        name = _FILE_NAME.fullmatch(row["filename"])
        if name is None:
            raise ManifestError(f"{row['filename']!r} is not of the form <fold>-<freesound id>-<take>.wav")
        fold = int(row["fold"]) if re.fullmatch(r"[0-9]", row["fold"]) else 0
        if fold not in splits:
            raise ManifestError(f"the fold {row['fold']!r} is none of 1 to 5")
        if not row["category"]:
            raise ManifestError("it has no category")
        file = sounds / row["filename"]
        if not file.is_file():
            raise ManifestError(f"there is no file {file}")
        return Clip(
            id=name[1],
            source=f"freesound:{name[2]}",
            dataset=dataset,
            url=str(file),
            split=splits[fold],
            labels=(row["category"].replace("_", " "),),
        )

    return parse
