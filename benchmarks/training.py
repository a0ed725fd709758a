"""Training steps a second of CLIPSep: fed by the loader, and as its published code does it.

    python -m benchmarks.training [--recipe demo] [--workers 1] [--device cpu] [--quick]

One model, one batch size, one optimiser, the same steps:

    ready batch      one batch that lies in memory: what the step itself can do
    loader           `MixtureStream` over PCM shards: vectors are read, spectra made on the training device
    STFT in loader   a dataset that reads WAV and makes spectra in its processes; vectors lie ready
    on the fly       the same dataset with pictures, and CLIP ViT-B/32 (random weights) run in every step

The last two are the original's way, see `benchmarks.on_the_fly`. Loaders have equally many processes.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.common import compared, median_ratio, print_compared, side_by_side, write_result
from benchmarks.loader import SECONDS, write_corpus
from benchmarks.on_the_fly import OnTheFly, loss_of, queries_of, write_clips
from vidaudio.encoders.spec import DTYPES, best_precision
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.checkpoint import build_model

STEPS, CLIPS, ROUNDS = 30, 128, 3
CLIP_MODEL = "ViT-B-32"


class Steps:
    """The training step of one model, whatever its loss is made from."""

    def __init__(self, model: torch.nn.Module, device: str, precision: str) -> None:
        self.model = model
        self.device = device
        self._precision = precision
        self._optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(self, loss: Callable[[], Tensor]) -> None:
        with torch.autocast(self.device, torch.bfloat16, enabled=self._precision == "bfloat16"):
            value = loss()
        self._optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()

    def many(self, losses: Iterator[Callable[[], Tensor]], steps: int) -> Callable[[], int]:
        """A contestant: so many steps; the device has done with them when it returns."""

        def work() -> int:
            for loss in itertools.islice(losses, steps):
                self.step(loss)
            if self.device == "cuda":
                torch.cuda.synchronize()
            return steps

        return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo", help="of a system without noise heads, asked with pictures")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="two steps, one round: only to see it work")
    chosen = parser.parse_args()
    steps, rounds, clips = (2, 1, 48) if chosen.quick else (STEPS, ROUNDS, CLIPS)
    recipe = load_train_recipe(chosen.recipe)
    precision = best_precision() if chosen.device == "cpu" else "bfloat16"
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), "wav", clips)
        names = write_clips(Path(folder), Path(folder) / "train-000000.tar", clips, SECONDS)
        stream = MixtureStream(folder, StreamConfig(batch_size=recipe.data.batch_size))
        model = build_model(recipe, stream.index.dimensions).to(chosen.device, memory_format=torch.channels_last)
        stepper = Steps(model, chosen.device, precision)
        tower = open_clip.create_model(CLIP_MODEL, pretrained=None).visual.eval().to(chosen.device, DTYPES[precision])

        def on_device(batch: dict) -> dict:
            tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
            return {name: value.to(chosen.device, non_blocking=True) for name, value in tensors.items()}

        def from_sound(batch: dict) -> Callable[[], Tensor]:
            there = on_device(batch)
            queries = there["vectors"].float().mean(dim=2)
            return lambda: model.loss(there["audio"], queries, there["gains"])["loss"]

        def original(*, pictures: bool) -> Iterator[Callable[[], Tensor]]:
            # More mixtures than all rounds take, in the order of their numbers.
            mixtures = (rounds + 2) * steps * recipe.data.batch_size
            dataset = OnTheFly(
                Path(folder), names, SECONDS, model.front_end.config, sources=2, items=mixtures, pictures=pictures
            )
            loader = DataLoader(
                dataset, recipe.data.batch_size, num_workers=chosen.workers, pin_memory=chosen.device == "cuda",
                prefetch_factor=4 if chosen.workers else None, drop_last=True,
            )  # fmt: skip
            ready = torch.randn(recipe.data.batch_size, 2, stream.index.dimensions, device=chosen.device)
            for batch in map(on_device, loader):
                queries = queries_of(batch["pictures"], tower) if pictures else ready
                yield lambda batch=batch, queries=queries: loss_of(model, batch["magnitudes"], queries)

        batches = iter(stream.loader(workers=chosen.workers))
        ways = {
            "ready batch": itertools.repeat(from_sound(next(batches))),
            "loader": map(from_sound, batches),
            "STFT in loader": original(pictures=False),
            "on the fly": original(pictures=True),
        }
        rates = side_by_side({name: stepper.many(losses, steps) for name, losses in ways.items()}, rounds=rounds)
        # Their processes still read in the folder.
        del batches, ways
    rows = compared(rates, "ready batch")
    print_compared(rows, "ready batch")
    figures = {
        "loader_of_ready_batch": median_ratio(rates, "loader", "ready batch"),
        "loader_of_on_the_fly": median_ratio(rates, "loader", "on the fly"),
        "loader_of_stft_in_loader": median_ratio(rates, "loader", "STFT in loader"),
    }
    print(f"  waiting for data costs {1 - figures['loader_of_ready_batch']:.1%}; {figures}")
    settings = {
        "recipe": chosen.recipe,
        "batch_size": recipe.data.batch_size,
        "precision": precision,
        "device": chosen.device if chosen.device == "cpu" else torch.cuda.get_device_name(),
        "workers": chosen.workers,
        "threads": torch.get_num_threads(),
        "steps": steps,
        "rounds": rounds,
        "clip_model": CLIP_MODEL,
        "quick": chosen.quick,
    }
    results = {"reference": "ready batch", "steps_per_second": rows, **figures}
    write_result("training", settings, results)


if __name__ == "__main__":
    main()
