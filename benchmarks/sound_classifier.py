"""A classifier of the demo world's sounds, trained on its real sounds: the judge of generated ones.

It is written as TorchScript, which `vidaudio evaluate --embedding NAME=FILE` reads: vectors of 64 numbers, and
probabilities of the kinds.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidaudio.encoders.embedding_models import DESCRIPTION
from vidaudio.files import atomic_write
from vidaudio.generation import MelFrontEnd
from vidaudio.stream.index import TrainingIndex, open_index
from vidaudio.stream.reader import SampleReader

SAMPLES = 65_536
STEPS, BATCH = 600, 32
LEARNING_RATE = 2e-3
# Gains, time and band masks of training: generated sounds are no louder or cleaner by chance alone.
GAIN_DB, MASKED_BANDS, MASKED_FRAMES = 6.0, 12, 24


class SoundClassifier(nn.Module):
    """Four convolutions over a mel, their mean over time and bands, and two linear layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.front_end = MelFrontEnd()
        layers: list[nn.Module] = []
        widths = (1, 24, 48, 96, 128)
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers)
        self.vector = nn.Linear(2 * widths[-1], 64)
        self.classes = nn.Linear(64, classes)

    def mels(self, sounds: Tensor) -> Tensor:
        return self.front_end(sounds)[:, None]

    def vectors(self, mels: Tensor) -> Tensor:
        found = self.layers(mels).mean(2)
        return self.vector(torch.cat([found.mean(-1), found.amax(-1)], -1)).relu()

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.vectors(self.mels(sounds))
        return vectors, self.classes(vectors).softmax(-1)


def read_sounds(index: TrainingIndex) -> tuple[np.ndarray, list[str]]:
    """Return the sounds of a split, int16 `[N, samples]` as long as the shortest, and their labels."""
    reader = SampleReader(index)
    shortest = min(index.table["samples"].to_pylist())
    sounds = np.stack([reader.sound(row, 0, shortest) for row in range(len(index))])
    reader.close()
    return sounds, [labels[0] for labels in index.table["labels"].to_pylist()]


def train_classifier(data: Path, file: Path, *, seed: int = 0) -> dict[str, float]:
    """Train on the split `train`, write the file, and return the share that is right on the split `test`."""
    sounds, labels = read_sounds(open_index(str(data), split="train"))
    classes = sorted(set(labels))
    torch.manual_seed(seed)
    model = SoundClassifier(len(classes))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, STEPS)
    rng = np.random.default_rng(seed)
    numbers = np.array([classes.index(label) for label in labels])
    for _ in range(STEPS):
        rows = rng.integers(len(sounds), size=BATCH)
        starts = rng.integers(sounds.shape[1] - SAMPLES + 1, size=BATCH)
        cut = np.stack([sounds[row, start : start + SAMPLES] for row, start in zip(rows, starts, strict=True)])
        gains = 10 ** (rng.uniform(-GAIN_DB, GAIN_DB, (BATCH, 1)) / 20)
        mels = model.mels(torch.from_numpy((cut / 2**15 * gains).astype(np.float32)))
        _mask(mels, rng)
        loss = functional.cross_entropy(model.classes(model.vectors(mels)), torch.from_numpy(numbers[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    model.eval()
    held, wanted = read_sounds(open_index(str(data), split="test"))
    first = (held.shape[1] - SAMPLES) // 2
    with torch.inference_mode():
        heard = [model(torch.from_numpy(row[None, first : first + SAMPLES] / np.float32(2**15)))[1] for row in held]
    right = np.mean([classes[int(found.argmax())] == label for found, label in zip(heard, wanted, strict=True)])
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.zeros(2, SAMPLES), check_trace=False)
    with atomic_write(file) as temporary:
        described = json.dumps({"sample_rate": 16_000, "classes": classes})
        torch.jit.save(traced, str(temporary), _extra_files={DESCRIPTION: described})
    error = math.sqrt(right * (1 - right) / len(held))
    return {"right": float(right), "error": error, "held_out": len(held)}


def _mask(mels: Tensor, rng: np.random.Generator) -> None:
    """Set a stripe of bands and a stripe of frames of each mel to the floor."""
    for mel in mels[:, 0]:
        bands, frames = rng.integers(MASKED_BANDS), rng.integers(MASKED_FRAMES)
        low, first = rng.integers(mel.shape[0] - bands), rng.integers(mel.shape[1] - frames)
        mel[low : low + bands], mel[:, first : first + frames] = -1, -1
