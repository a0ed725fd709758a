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


def build_index(vectors: np.ndarray) -> faiss.Index:
    """Return an index of unit vectors by their dot product, float32 `[N, D]`: exact, or of cells if there are many."""
    import faiss

    dimensions = vectors.shape[1]
    if len(vectors) <= EXACT_VECTORS:
        exact = faiss.IndexFlatIP(dimensions)
        exact.add(vectors)
        return exact
    cells = int(np.sqrt(len(vectors)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, cells, faiss.METRIC_INNER_PRODUCT)
    step = max(1, len(vectors) // (cells * TRAINING_VECTORS_PER_CELL))
    index.train(vectors[::step])
    index.add(vectors)
    index.nprobe = max(1, cells // 16)
    return index
