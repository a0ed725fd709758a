"""Declaration of what a corpus may contain: its columns, and its other files and folders.

Listing, status, removal and verification read it, so that none of them treats files as foreign that another one keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vidaudio.shards.store import Store


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
