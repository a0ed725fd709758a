"""The loader: an endless, seeded stream of batches of mixtures-to-be.

Batch k of the run is a pure function of seed and k. Ranks take their share of each batch and workers take turns with
whole batches, so neither their number nor a restart changes what is seen: to resume, start at the step the optimiser
reached. Mixing, gains and spectra belong to the training device; the loader only reads, cuts and stacks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vidaudio.errors import CorpusError
from vidaudio.stream.index import TrainingIndex, open_index
from vidaudio.stream.order import DEFAULT_BLOCK_SHARDS, epoch_order, generator, group_count, groups_of_different
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Windows, WindowShape


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What to iterate, and how.

    What:
        split: Of the packed corpus.
        sources: Different sources a mixture.
        shape: Of a window.

    How:
        batch_size: Mixtures a global batch; ranks divide it.
        shuffle: False gives packed order and middle windows, each group once: evaluation.
        seed: Of order, windows and gains.
        gain_range: Bounds of the uniform gain of each source; None for none (CLIPSep trains with 0.5 to 1.5).
        block_shards: Shards mixed with one another in an epoch.
    """

    split: str = "train"
    sources: int = 2
    shape: WindowShape = field(default_factory=WindowShape)
    batch_size: int = 32
    shuffle: bool = True
    seed: int = 0
    gain_range: tuple[float, float] | None = (0.5, 1.5)
    block_shards: int = DEFAULT_BLOCK_SHARDS


class MixtureStream(IterableDataset):
    """Batches of mixtures-to-be, for ever when shuffling, once through when not.

    A batch is a dictionary: `audio` int16 `[B, N, L]`, `vectors` float16 `[B, N, F, D]`, `gains` float32 `[B, N]`,
    `rows` int64 `[B, N]` (of `index`), `step` int.

    Args:
        url: A packed corpus, `CORPUS/training/NAME`.
        config: What and how.
        start_step: The first batch to yield: the optimiser's step after a restart.
        rank, world_size: Of this process in distributed training.

    Raises:
        CorpusError: No such corpus or split, or too few sources or usable samples for one mixture.
    """

    def __init__(
        self,
        url: str,
        config: StreamConfig | None = None,
        *,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        self.url = url
        self.config = config or StreamConfig()
        self.start_step = start_step
        self.rank = rank
        self.world_size = world_size
        self._kept: tuple[int, np.ndarray] | None = None
        if self.config.batch_size < world_size:
            raise CorpusError(f"a batch of {self.config.batch_size} cannot be divided over {world_size} ranks")
        self._check()

    def _check(self) -> None:
        index, windows = self.index, self.windows
        different = len(np.unique(index.codes("source")[windows.usable])) if len(windows.usable) else 0
        if different < self.config.sources:
            raise CorpusError(
                f"{self.url}, split {self.config.split}: {different} sources have a window of "
                f"{self.config.shape.samples / index.sample_rate:.3f} s with {self.config.shape.frames} pictures "
                f"({windows.too_short} samples are too short); mixtures of {self.config.sources} need as many sources"
            )

    @functools.cached_property
    def index(self) -> TrainingIndex:
        return open_index(self.url, self.config.split)

    @functools.cached_property
    def windows(self) -> Windows:
        return Windows(self.index, self.config.shape)

    @functools.cached_property
    def _sources(self) -> np.ndarray:
        return self.index.codes("source")[self.windows.usable]

    @functools.cached_property
    def _shards(self) -> np.ndarray:
        return self.index.column("shard")[self.windows.usable]

    @functools.cached_property
    def _groups_an_epoch(self) -> int:
        return group_count(self._sources, self.config.sources)

    def __getstate__(self) -> dict[str, Any]:
        # Each worker maps the index itself: pages are shared, Python objects are not copied.
        cached = ("index", "windows", "_sources", "_shards")
        return {k: v for k, v in self.__dict__.items() if k not in cached} | {"_kept": None}

    @property
    def batches_per_epoch(self) -> int:
        """Batches an epoch, the last one maybe filled from the next epoch; without shuffling, batches in all.

        Not `__len__`: a training loop that saw a length would end the iteration there and begin another at the step it
        once started from.
        """
        return math.ceil(self._groups_an_epoch / self.config.batch_size)

    def set_start_step(self, step: int) -> None:
        """Where the next iteration begins."""
        self.start_step = step

    def state_dict(self, optimiser_step: int) -> dict[str, int]:
        """What a checkpoint must hold to go on: the optimiser's steps, not what was prefetched."""
        return {"start_step": optimiser_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.set_start_step(state["start_step"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        reader = SampleReader(self.index)
        step = self.start_step + number
        while self.config.shuffle or step < self.batches_per_epoch:
            yield self.batch(step, reader)
            step += workers

    def loader(self, *, workers: int = 0, prefetch: int = 4) -> DataLoader:
        """A DataLoader over this stream, batches ready-made, in order."""
        return DataLoader(
            self,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=False,
            pin_memory=torch.cuda.is_available(),
        )

    def positions(self, step: int) -> list[int]:
        """This rank's places in the endless sequence of groups for batch `step`."""
        size = self.config.batch_size
        begin = step * size + self.rank * size // self.world_size
        end = step * size + (self.rank + 1) * size // self.world_size
        return list(range(begin, end if self.config.shuffle else min(end, self._groups_an_epoch)))

    def rows(self, step: int) -> np.ndarray:
        """Index rows of batch `step` of this rank, int `[B, N]`."""
        groups = [self._group(position) for position in self.positions(step)]
        return np.asarray(groups, np.int64).reshape(-1, self.config.sources)

    def batch(self, step: int, reader: SampleReader) -> dict[str, Any]:
        """Read batch `step`."""
        shape, sources = self.config.shape, self.config.sources
        positions = self.positions(step)
        audio = np.zeros((len(positions), sources, shape.samples), np.int16)
        vectors = np.zeros((len(positions), sources, shape.frames, self.index.dimensions), np.float16)
        gains = np.ones((len(positions), sources), np.float32)
        rows = np.zeros((len(positions), sources), np.int64)
        for place, position in enumerate(positions):
            rng = generator(self.config.seed, 1, position)
            rows[place] = self._group(position)
            for source, row in enumerate(rows[place]):
                window = self.windows.random(row, rng) if self.config.shuffle else self.windows.middle(row)
                audio[place, source], vectors[place, source] = reader.window(row, window)
            if self.config.gain_range is not None:
                gains[place] = rng.uniform(*self.config.gain_range, sources)
        return {
            "audio": torch.from_numpy(audio),
            "vectors": torch.from_numpy(vectors),
            "gains": torch.from_numpy(gains),
            "rows": torch.from_numpy(rows),
            "step": step,
        }

    def _group(self, position: int) -> np.ndarray:
        epoch, place = divmod(position, self._groups_an_epoch)
        return self._groups(epoch)[place]

    def _groups(self, epoch: int) -> np.ndarray:
        """Index rows of every group of an epoch, int `[groups, N]`; the epoch last asked for is kept."""
        if self._kept is None or self._kept[0] != epoch:
            config = self.config
            order = epoch_order(
                self._shards, seed=config.seed, epoch=epoch, block_shards=config.block_shards, shuffle=config.shuffle
            )
            groups = self.windows.usable[groups_of_different(order, self._sources, config.sources)]
            self._kept = (epoch, groups)
        return self._kept[1]
