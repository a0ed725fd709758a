"""Retrieval: a text is replaced by the corpus's own pictures that are nearest to it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidaudio.modality_gap.base import GapData, GapMethod, require
from vidaudio.vector_index import build_index

if TYPE_CHECKING:
    import faiss

MAX_VECTORS = 1_000_000


class Retrieval(GapMethod):
    """Softmax-weighted mean of the `neighbours` pictures of the corpus that are nearest to a text.

    Similarity is the cosine after each modality's mean is removed; weights are `softmax(similarity / temperature)`, as
    in DeCap (Li et al., ICLR 2023). The pictures lie in an index: exact for up to 50,000, cells above.
    """

    name = "retrieval"
    needs = frozenset({"images", "texts"})

    @classmethod
    def fit(
        cls, data: GapData, *, seed: int = 0, neighbours: int = 16, temperature: float = 0.05, **options: Any
    ) -> Self:
        """Keep the pictures, or a sample of at most `MAX_VECTORS`.

        Args:
            data: Vectors of pictures and texts.
            seed: Seed of the sample.
            neighbours: Pictures that stand for a text.
            temperature: Of the softmax over cosines.
            options: There are no others.
        """
        require(data, cls)
        images = data.images
        if len(images) > MAX_VECTORS:
            chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:MAX_VECTORS]
            images = images[chosen.sort().values]
        tensors = {"images": images.half(), "image_mean": images.mean(dim=0), "text_mean": data.texts.mean(dim=0)}
        chosen_options = {"neighbours": min(neighbours, len(images)), "temperature": temperature}
        return cls(tensors, data.encoder, images.shape[1], chosen_options)

    @functools.cached_property
    def _index(self) -> faiss.Index:
        centred = self.tensors["images"].float() - self.tensors["image_mean"]
        return build_index(F.normalize(centred, dim=-1).numpy())

    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the weighted mean of each text's nearest pictures."""
        asked = F.normalize(texts.detach().float().cpu() - self.tensors["text_mean"], dim=-1)
        similarity, rows = self._index.search(np.ascontiguousarray(asked.numpy()), self.options["neighbours"])
        # An index of cells returns row -1 where its cells hold fewer vectors.
        found = torch.from_numpy(np.where(rows >= 0, similarity, -np.inf))
        weights = torch.softmax(found / self.options["temperature"], dim=-1)
        pictures = self.tensors["images"][torch.from_numpy(rows.clip(min=0))].float()
        return torch.einsum("bk,bkd->bd", weights, pictures).to(texts)
