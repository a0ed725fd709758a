"""Indices of vectors by their dot product: exact for few, by cells for many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import faiss

# Up to here, all vectors are compared, which is exact.
EXACT_VECTORS = 50_000
# Vectors that the cells of an inverted index are learned from, a cell.
TRAINING_VECTORS_PER_CELL = 40


def build_index(vectors: np.ndarray, probed_cells: int | None = None) -> faiss.Index:
    """Return an index of unit vectors by their dot product: exact, or of cells if there are many.

    Args:
        vectors: Unit vectors, float32 `[N, D]`.
        probed_cells: Cells that a search looks into; None for a sixteenth of them.
    """
    import faiss

    if len(vectors) <= EXACT_VECTORS:
        exact = faiss.IndexFlatIP(vectors.shape[1])
        exact.add(vectors)
        return exact
    index = empty_cells(vectors[:: training_step(len(vectors))], len(vectors))
    index.add(vectors)
    index.nprobe = probed_cells or max(1, index.nlist // 16)
    return index


def number_of_cells(vectors: int) -> int:
    """Return how many cells an index of this many vectors has."""
    return max(1, int(np.sqrt(vectors)))


def training_step(vectors: int) -> int:
    """Return the step at which vectors are taken to learn the cells from, of this many vectors."""
    return max(1, vectors // (number_of_cells(vectors) * TRAINING_VECTORS_PER_CELL))


def empty_cells(sample: np.ndarray, vectors: int) -> faiss.IndexIVFFlat:
    """Return an index of cells that holds no vectors yet.

    Args:
        sample: Unit vectors that the cells are learned from, float32 `[S, D]`.
        vectors: Number of vectors that will be added.
    """
    import faiss

    dimensions = sample.shape[1]
    cells = min(number_of_cells(vectors), len(sample))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    return index
