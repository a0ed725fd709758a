"""Queries from a table: one vector per label, computed elsewhere, for use without the encoder itself.

The table is a NumPy `.npz` file with one vector per name, as `numpy.savez(path, **vectors)` writes it. It replaces the
text tower of the encoder that made it: a system trained on it supports queries for its names and for nothing else.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidaudio.encoders.named_by import loading
from vidaudio.errors import EncoderError
from vidaudio.tasks.queries.blocks import QueryBlock
from vidaudio.tasks.queries.encoders import LabelQueries
from vidaudio.tasks.queries.trained_encoder import NAMED_BY_RECORD

ARCHITECTURE = "table"


def read_vector_table(path: str | Path) -> dict[str, np.ndarray]:
    """Return name to vector, float32 `[D]`, sorted by name.

    Raises:
        EncoderError: When the file is missing, is not an `.npz` file, or does not contain finite vectors of one length.
    """
    if not Path(path).is_file():
        raise EncoderError(f"there is no table of vectors {path}; name one with --set query.vectors=FILE.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            table = {name: np.asarray(file[name], np.float32) for name in sorted(file.files)}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise EncoderError(f"{path} is no table of vectors (a NumPy .npz with a vector a label): {error}") from error
    shapes = {vector.shape for vector in table.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1 or not all(np.isfinite(v).all() for v in table.values()):
        raise EncoderError(f"{path} must hold finite vectors of one length, a name each; it holds {sorted(shapes)}")
    return table


def table_hash(table: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over names and float32 values."""
    digest = hashlib.sha256()
    for name, vector in sorted(table.items()):
        digest.update(f"{name} {vector.shape}\n".encode() + np.ascontiguousarray(vector, np.float32).tobytes())
    return digest.hexdigest()


class TableQueries(LabelQueries):
    """Vectors of a table, by the name of the label; capitals and underscores do not matter.

    Args:
        path: Path of the table.
        encoder: Fingerprint of the table that the model was trained with; None in training.
    """

    def __init__(self, path: str | Path, encoder: Mapping[str, Any] | None = None) -> None:
        table = read_vector_table(path)
        vectors = np.stack(list(table.values()))
        super().__init__(tuple(table), vectors.shape[1])
        self._vectors = torch.from_numpy(vectors)
        self.encoder = {
            "architecture": ARCHITECTURE,
            "pretrained": str(path),
            "weights_sha256": table_hash(table),
            "dimensions": self.dimensions,
        }
        if encoder is not None and encoder["weights_sha256"] != self.encoder["weights_sha256"]:
            raise EncoderError(
                f"the model was trained on other vectors than those in {path}; name the right table: --encoder-weights"
            )

    def encode_text(self, text: str, *, training: bool = False) -> Tensor:
        """Return the vector of a label, `[D]`."""
        return self._vectors[super().encode_text(text)]


def table_queries(query: QueryBlock, recorded: Mapping[str, Any] | None, path: str | None = None) -> TableQueries:
    """Return the queries of a recipe's table.

    Args:
        query: The recipe's query block, of kind `vectors`.
        recorded: Fingerprint of the table that the model was trained with; None in training.
        path: Table that replaces the recipe's; None for that one.

    Raises:
        EncoderError: When the table cannot be read, or is another one than in training.
    """
    table = path or query.vectors
    assert table is not None, "a recipe without a table of vectors is refused when it is read"
    with loading(f"table {table}", [table], NAMED_BY_RECORD if recorded is not None and path is None else None):
        return TableQueries(table, recorded)
