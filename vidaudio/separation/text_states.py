"""Queries that are a text's vector and the states of its tokens, in one tensor.

The row of the vector comes first, then a row for each token; the shorter of both is filled up with zeros. So such a
query passes wherever a vector does: through tables of labels, batches and mixtures of queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pack_text(vectors: Tensor, states: Tensor) -> Tensor:
    """Return queries of vectors and states: [..., D] and [..., T, H] -> [..., 1 + T, max(D, H)]."""
    width = max(vectors.shape[-1], states.shape[-1])
    rows = [F.pad(each, (0, width - each.shape[-1])) for each in (vectors[..., None, :], states)]
    return torch.cat(rows, dim=-2)


def unpack_text(queries: Tensor, dimensions: int, state_dimensions: int) -> tuple[Tensor, Tensor]:
    """Return the vectors and states of queries: [..., 1 + T, W] -> [..., dimensions] and [..., T, state_dimensions].

    Raises:
        ValueError: When the queries have another form.
    """
    if queries.shape[-1] != max(dimensions, state_dimensions) or queries.shape[-2] < 2:
        raise ValueError(
            f"queries have shape {tuple(queries.shape)}; expected a vector of {dimensions} and states of "
            f"{state_dimensions} numbers, packed by pack_text"
        )
    return queries[..., 0, :dimensions], queries[..., 1:, :state_dimensions]
