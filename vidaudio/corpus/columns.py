"""What belongs to a corpus: its columns and the other files and folders that it may hold, declared once.

Listing, status, removal and verification read this, so that none of them takes for foreign what another one keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vidaudio.shards.store import Store


@dataclass(frozen=True, slots=True)
class Column:
    """What one stage writes of every clip: a table a shard, in a folder of its own.

    Attributes:
        stage: The stage's name.
        folder: The column's folder.
        per_model: The folder has a folder for each model that wrote the column: `embeddings/NAME`.
        has_tars: A shard's table goes with a tar; a removal keeps the row and takes the media, else the row goes.
        description: File of a model's folder that says what the model is.
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
# Scorers that were fitted for the corpus, and what commands note of their runs.
OTHER_FOLDERS = frozenset({"scorers", "runs"})
_OWN_FILES = re.compile(r"corpus\.json|manifest(-\d{6})?\.parquet|removed-\d{6}\.parquet|.*\.lock")
_OWN_FOLDERS = frozenset({*(column.folder for column in COLUMNS), PACKS, *OTHER_FOLDERS})


def belongs(name: str) -> bool:
    """Whether a file or folder of this name in a corpus's own folder is part of the corpus."""
    return name in _OWN_FOLDERS or _OWN_FILES.fullmatch(name) is not None


def column_of(folder: str) -> Column:
    """Return the column that a folder such as `av` or `embeddings/NAME` is of.

    Raises:
        KeyError: It is of none.
    """
    kind = folder.partition("/")[0]
    for column in COLUMNS:
        if column.folder == kind:
            return column
    raise KeyError(folder)


def model_folders(store: Store, columns: Iterable[Column] = COLUMNS) -> list[str]:
    """Return the folders of all models in these columns, `embeddings/NAME`."""
    return [
        f"{column.folder}/{name}" for column in columns if column.per_model for name in store.folders(column.folder)
    ]
