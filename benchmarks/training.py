"""Mixtures a second of a CLIPSep training step at the demo's size, fed by the loader and fed with one ready batch.

    python -m benchmarks.training

The difference is what waiting for data costs. PCM shards, one loader process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.common import report, side_by_side
from benchmarks.loader import write_corpus
from vidaudio.encoders.clip import best_precision
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.training.checkpoint import build_model
from vidaudio.training.recipe import load_train_recipe

STEPS = 30


def main() -> None:
    recipe = load_train_recipe("demo")
    batch_size = recipe.data.batch_size
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), "wav")
        stream = MixtureStream(folder, StreamConfig(batch_size=batch_size))
        model = build_model(recipe.model, stream.index.dimensions).to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
        fast = best_precision() == "bfloat16"

        def step(batch: dict) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                loss = model.loss(batch["audio"], batch["vectors"].float().mean(dim=2), batch["gains"])["loss"]
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

        batches = iter(stream.loader(workers=1))
        ready = next(batches)

        def from_loader() -> int:
            for _ in range(STEPS):
                step(next(batches))
            return STEPS * batch_size

        def from_memory() -> int:
            for _ in range(STEPS):
                step(ready)
            return STEPS * batch_size

        rates = side_by_side({"ready batch": from_memory, "loader": from_loader})
    report("training", rates, "ready batch", {"batch_size": batch_size, "precision": best_precision()})
    print(f"  waiting for data costs {1 - rates['loader'] / rates['ready batch']:.1%}")


if __name__ == "__main__":
    main()
