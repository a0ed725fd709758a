"""Mixtures a second of a CLIPSep training step at the demo's size, fed by the loader and fed with one ready batch.

    python -m benchmarks.training [--quick]

The difference is what waiting for data costs. PCM shards, one loader process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.common import medians, report, side_by_side
from benchmarks.loader import write_corpus
from vidaudio.encoders.clip import best_precision
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.training.checkpoint import build_model
from vidaudio.training.recipe import load_train_recipe

STEPS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two steps, one round: only to see it work")
    quick = parser.parse_args().quick
    steps, rounds = (2, 1) if quick else (STEPS, 3)
    recipe = load_train_recipe("demo")
    batch_size = recipe.data.batch_size
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), "wav")
        stream = MixtureStream(folder, StreamConfig(batch_size=batch_size))
        model = build_model(recipe, stream.index.dimensions).to(memory_format=torch.channels_last)
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
            for _ in range(steps):
                step(next(batches))
            return steps * batch_size

        def from_memory() -> int:
            for _ in range(steps):
                step(ready)
            return steps * batch_size

        rates = side_by_side({"ready batch": from_memory, "loader": from_loader}, rounds=rounds)
    settings = {"batch_size": batch_size, "precision": best_precision(), "quick": quick}
    report("training", rates, "ready batch", settings)
    middle = medians(rates)
    print(f"  waiting for data costs {1 - middle['loader'] / middle['ready batch']:.1%}")


if __name__ == "__main__":
    main()
