"""Measures and methods on vectors of OpenAI's ViT-B/32: names of things, and the frames of one video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidaudio.modality_gap import ASKING_METHODS, GapData, fit_method, measure_gap

# Fewer steps than by default: what is tested is that the texts come nearer.
OPTIONS = {
    "bridge": {"steps": 200, "learning_rate": 1e-3, "width": 128},
    "mlp": {"steps": 40},
    "prior": {"steps": 200, "width": 64},
}
# Of the texts, every 32nd is measured: a prior takes some 20 ms a text.
EVERY_SHOWN_TEXT = 32


@pytest.fixture(scope="module")
def vectors(shared_data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of the video [355, 512], texts "a NAME" [2148, 512]."""
    folder = shared_data / "clip_embeddings"
    texts = np.concatenate([np.load(path) for path in sorted(folder.glob("*_clip_a+cname*.npy"))])
    with np.load(folder / "v_GGSY1Qvo990_clip_ViT-B_32_reference.npz") as file:
        images = file["native"]
    return torch.tensor(images, dtype=torch.float32), torch.tensor(texts, dtype=torch.float32)


def test_the_gap_is_that_of_the_real_encoder(vectors):
    images, texts = vectors
    found = measure_gap(images, texts)
    assert len(texts) == 2148
    assert found.text_cosine == pytest.approx(0.75, abs=0.005)
    assert found.centroid_distance == pytest.approx(1.13, abs=0.01)
    assert float(texts.norm(dim=-1).mean()) == pytest.approx(10, abs=1)
    cosines = torch.nn.functional.normalize(images, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).T
    assert float(cosines.max()) == pytest.approx(0.32, abs=0.01)
    assert float(cosines.mean()) == pytest.approx(0.19, abs=0.015)


@pytest.mark.parametrize("name", ASKING_METHODS)
def test_every_method_brings_the_distributions_nearer(vectors, name: str):
    """Fitted to every second frame, measured on the others; a regression gets random pairs, since there are none."""
    images, texts = vectors
    seen, others = images[::2], images[1::2]
    pairs = torch.randint(len(texts), (len(seen),), generator=torch.Generator().manual_seed(0))
    data = GapData(seen, texts, torch.arange(len(seen)), pairs, "ViT-B/32")
    shown = texts[::EVERY_SHOWN_TEXT]
    before = measure_gap(others, shown)
    after = measure_gap(others, fit_method(name, data, **OPTIONS.get(name, {})).map_texts(shown))
    assert after.frechet_distance < 0.95 * before.frechet_distance
    assert after.centroid_distance < 0.5 * before.centroid_distance
