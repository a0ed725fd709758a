"""The loader: an endless, seeded stream of batches of samples that are still to be mixed.

Batch k of the run is a pure function of seed and k. Ranks take their share of each batch, and loader processes take
turns with whole batches. So neither their number nor a restart changes what the training sees: to resume, start at the
step that the optimiser reached. The loader only reads, cuts and stacks; mixing, gains and spectra are computed on the
training device.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vidaudio.errors import PackError, UsageError
from vidaudio.stream.batch_memory import allocate_shared, shareable, write_pictures
from vidaudio.stream.config import StreamConfig, check_setting, is_whole
from vidaudio.stream.index import TrainingIndex, encoder_in_words
from vidaudio.stream.loader_errors import with_readable_errors
from vidaudio.stream.mixtures import MixtureSampler, SampleRef
from vidaudio.stream.order import TEXTS, WINDOWS, generator
from vidaudio.stream.packed_corpus import Damage
from vidaudio.stream.ranks import rank_part, rank_rows
from vidaudio.stream.reader import DamagedSample
from vidaudio.stream.vector_columns import VectorColumn
from vidaudio.stream.windows import Windows

__all__ = ["MixtureStream", "StreamConfig"]


class MixtureStream(IterableDataset):
    """Batches of samples that are still to be mixed: endless when shuffling, one pass when not.

    A batch is a dictionary, with B mixtures of this rank, N sources, F pictures, D dimensions:

        audio     int16 `[B, N, samples]`
        vectors   float16 `[B, N, F, D]`; if `config.vectors` is a tuple, a dictionary of them by encoder
        gains     float32 `[B, N]`
        frames    uint8 `[B, N, F, 3, H, W]`, if `config.frames` is set
        rows      int64 `[B, N]`, row in the index of the sample's corpus
        corpora   int64 `[B, N]`, number of the corpus
        step      int, number of the batch in the run
        share     float, this rank's part of the global batch; weight the loss with `share * world_size`
        replaced  int, number of samples that replace damaged ones
        damage    list of str, what was wrong with the damaged samples

    Vectors of an encoder of sound are float16 `[B, N, W, D]`: those of the W windows of time around the middle of the
    sample's sound, where W is the number of the encoder's hops that fit into the window. Vectors of an encoder of text
    are `[B, N, 1, D]`, of one of the sample's texts, drawn by seed and position.

    Args:
        url: A packed corpus, `CORPUS/training/NAME`, local or at an fsspec URL; or several, with their weights.
        config: What to iterate, and how; None means the defaults.
        start_step: The first batch to yield: after a restart, the number of steps that the optimiser has done.
        rank: Rank of this process in distributed training.
        world_size: Number of processes in distributed training.

    Raises:
        UsageError, PackError: When a corpus or split is missing, the sample rate differs from the wanted one, wanted
            pictures or vectors are missing, there are too few sources or usable samples for one mixture, or the corpora
            do not match one another.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Mapping[str, float],
        config: StreamConfig | None = None,
        *,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        self.config = config or StreamConfig()
        self.set_start_step(start_step)
        self.set_rank(rank, world_size)
        wanted = "a packed corpus by its path or URL, or several with weights, {url: weight}"
        check_setting("url", url, wanted, isinstance(url, str | os.PathLike | Mapping))
        weights = dict(url) if isinstance(url, Mapping) else {os.fspath(url): 1.0}
        self._picker = MixtureSampler(list(weights), list(weights.values()), self.config)
        self.corpora = self._picker.corpora
        self._damage = Damage()
        self._check_alike()
        self._by_encoder = isinstance(self.config.vectors, tuple)
        # What each column's tensor is called while a batch is filled.
        self._vector_parts = [f"vectors of {c.encoder}" if self._by_encoder else "vectors" for c in self.vectors]
        self._draws_texts = any(column.input == "text" for column in self.vectors)

    @property
    def url(self) -> str:
        """URL of the corpus; several URLs are joined by commas."""
        return ", ".join(corpus.url for corpus in self.corpora)

    @property
    def index(self) -> TrainingIndex:
        """Index of the first corpus."""
        return self.corpora[0].index

    @property
    def windows(self) -> Windows:
        """Windows of the first corpus."""
        return self.corpora[0].windows

    @property
    def vectors(self) -> tuple[VectorColumn, ...]:
        """Columns of the vectors that batches contain."""
        return self.corpora[0].vectors

    @property
    def encoder(self) -> dict[str, Any] | None:
        """Fingerprint of the encoder that made the first vectors in batches; None if batches contain none."""
        return dict(self.vectors[0].fingerprint) if self.vectors else None

    @property
    def too_short(self) -> int:
        """Number of samples left out because they have no window of the wanted shape."""
        return sum(len(corpus.index) - corpus.counts.all_usable for corpus in self.corpora)

    def identity(self) -> str:
        """Return what must be unchanged for a resumed run to see the same data as an uninterrupted run."""
        return " ".join(corpus.index.identity() for corpus in self.corpora)

    @property
    def groups_per_epoch(self) -> int:
        """Mixtures in an epoch, of all corpora together."""
        return self._picker.mixtures_per_epoch

    @property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be filled from the next epoch. Without shuffling, all batches.

        This is not `__len__`: a training loop that found a length would end the iteration there, and begin the next one
        at the step that it first started from. `EpochLoader` has a length.
        """
        return math.ceil(self.groups_per_epoch / self.config.batch_size)

    def set_start_step(self, step: int) -> None:
        """Set the batch that the next iteration begins with.

        Raises:
            UsageError: When `step` is not a whole number, 0 or more.
        """
        check_setting("start_step", step, "a whole number, 0 or more", is_whole(step, 0))
        self.start_step = step

    def set_rank(self, rank: int, world_size: int) -> None:
        """Set the rank whose part of every batch the next iteration reads."""
        rank_rows(self.config.batch_size, rank, world_size)
        self.rank, self.world_size = rank, world_size

    def state_dict(self, optimiser_step: int) -> dict[str, Any]:
        """Return what resuming needs: the optimiser's steps, not prefetched ones, and the data's identity."""
        return {"start_step": optimiser_step, "identity": self.identity()}

    def load_state_dict(self, state: Mapping[str, Any], *, other_data: bool = False) -> None:
        """Resume where `state_dict` was called.

        Raises:
            UsageError, PackError: When `state` is no state of a stream, or was saved on other data and `other_data` is
                False.
        """
        if not isinstance(state, Mapping) or "start_step" not in state:
            raise UsageError("this is no state of a stream or an EpochLoader (see state_dict): it has no start_step")
        if not other_data:
            self.require_identity(state.get("identity"))
        self.set_start_step(state["start_step"])

    def require_identity(self, identity: str | None) -> None:
        """Check that the data is the same as at the start of a run; None, as in older states, passes the check.

        Raises:
            PackError: When the data has changed.
        """
        if identity is not None and identity != self.identity():
            raise PackError(
                f"{self.url} is not what this run has seen so far: it was packed anew, or samples were taken out of "
                "it. Its batches would be others from here on; start a new run, or allow other data expressly"
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.batches(self.start_step, None if self.config.shuffle else self.batches_per_epoch)

    def batches(self, begin: int, end: int | None) -> Iterator[dict[str, Any]]:
        """Return an iterator over this loader process's batches from `begin` to `end - 1`; endless if `end` is None."""
        worker = get_worker_info()
        if worker is None:
            return self._batches(begin, end, 0, 1)
        found = self._batches(begin, end, worker.id, worker.num_workers)
        return with_readable_errors(found, f"loader process {worker.id}")

    def _batches(self, begin: int, end: int | None, number: int, workers: int) -> Iterator[dict[str, Any]]:
        for corpus in self.corpora:
            corpus.begin(self.rank * workers + number, self.world_size * workers)
        step = begin + number
        while end is None or step < end:
            # The last batch of an evaluation may have no mixtures for this rank.
            if len(self.positions(step)):
                yield self.batch(step)
            step += workers

    def loader(self, *, workers: int = 0, prefetch: int = 4) -> DataLoader:
        """Return a DataLoader over this stream that yields complete batches, in order."""
        return make_loader(self, workers=workers, prefetch=prefetch)

    def positions(self, step: int) -> range:
        """Return this rank's positions of batch `step` in the endless sequence of mixtures."""
        begin, part = step * self.config.batch_size, self._part(step)
        return range(begin + part.start, begin + part.stop)

    def picks(self, step: int) -> list[list[SampleRef]]:
        """Return this rank's samples of batch `step`, before damaged ones are replaced."""
        return [self.pick(position) for position in self.positions(step)]

    def pick(self, position: int) -> list[SampleRef]:
        """Return the samples of the mixture at a position, before damaged ones are replaced."""
        return self._picker.pick(position)

    def rows(self, step: int) -> np.ndarray:
        """Return this rank's index rows of batch `step`, int `[B, N]`."""
        rows = [[row for _, row, _ in picks] for picks in self.picks(step)]
        return np.asarray(rows, np.int64).reshape(-1, self.config.sources)

    def batch(self, step: int) -> dict[str, Any]:
        """Read this rank's part of batch `step`."""
        positions = self.positions(step)
        share = len(positions) / self._mixtures(step)
        return self.read(positions) | {"step": step, "share": share}

    def first(self, mixtures: int) -> dict[str, Any]:
        """Read the first mixtures of an epoch, whatever this rank's part; a pack's order is random by itself.

        Args:
            mixtures: Number of mixtures; fewer are returned if an epoch has fewer.
        """
        return self.read(range(min(mixtures, self.groups_per_epoch))) | {"step": 0, "share": 1.0}

    def read(self, positions: Sequence[int]) -> dict[str, Any]:
        """Read the mixtures at some positions of the endless sequence: a batch without `step` and `share`."""
        batch: dict[str, Any] = self._empty_batch(len(positions))
        # NumPy writes single samples faster than PyTorch does.
        written = {name: tensor.numpy() for name, tensor in batch.items()}
        sounds, parts = written["audio"], [written[name] for name in self._vector_parts]
        replaced = 0
        for place, position in enumerate(positions):
            rng = generator(WINDOWS, self.config.seed, position)
            picks, draws = self._picker.pick(position), self._text_draws(position)
            for slot, (number, row, _) in enumerate(picks):
                corpus = self.corpora[number]
                window = corpus.windows.random(row, rng) if self.config.shuffle else corpus.windows.middle(row)
                try:
                    read = corpus.read(row, window, draws[slot], out=sounds[place, slot])
                    self._damage.in_a_row = 0
                except DamagedSample as error:
                    read = self._replace(error, position, slot, picks, draws[slot])
                    sounds[place, slot] = read[0]
                    replaced += 1
                for part, vectors in zip(parts, read[1], strict=True):
                    part[place, slot] = vectors
                written["corpora"][place, slot], written["rows"][place, slot] = picks[slot][:2]
                pictures = read[2]
                if pictures is not None:
                    if "frames" not in batch:
                        shape = (len(positions), self.config.sources, *pictures.shape)
                        batch |= allocate_shared({"frames": (shape, torch.uint8)})
                    write_pictures(pictures, batch["frames"][place, slot])
            if self.config.gain_range is not None:
                written["gains"][place] = rng.uniform(*self.config.gain_range, self.config.sources)
        if self._by_encoder:
            named = zip(self.vectors, self._vector_parts, strict=True)
            batch["vectors"] = {column.encoder: batch.pop(part) for column, part in named}
        return batch | {"replaced": replaced, "damage": self._damage.take()}

    def _empty_batch(self, mixtures: int) -> dict[str, torch.Tensor]:
        each, shape = (mixtures, self.config.sources), self.windows.shape
        seconds = shape.length_samples / self.index.sample_rate
        large: dict[str, tuple[tuple[int, ...], torch.dtype]]
        large = {"audio": ((*each, shape.length_samples), torch.int16)}
        for part, column in zip(self._vector_parts, self.vectors, strict=True):
            large[part] = ((*each, column.per_window(shape.frames, seconds), column.dimensions), torch.float16)
        small = {"gains": torch.float32, "rows": torch.int64, "corpora": torch.int64}
        return allocate_shared(large) | {name: torch.ones(each, dtype=dtype) for name, dtype in small.items()}

    def _text_draws(self, position: int) -> Sequence[float]:
        """Return which of its texts each sample of a mixture is given, as shares of their numbers, 0 to below 1."""
        if not self._draws_texts:
            return (0.0,) * self.config.sources
        return generator(TEXTS, self.config.seed, position).random(self.config.sources).tolist()

    def _replace(
        self, error: DamagedSample, position: int, slot: int, picks: list[SampleRef], draw: float
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray | None]:
        """Read another sample in place of a damaged one, and store it in `picks`."""
        number, _, place = picks[slot]
        corpus = self.corpora[number]
        others = (pick for other, pick in enumerate(picks) if other != slot)
        unlike = set().union(*(self.corpora[n].samples.exclusive(row) for n, row, _ in others))
        self._damage.add(error)
        for row, rng in corpus.replacements(position, slot, place, unlike):
            window = corpus.windows.random(row, rng) if self.config.shuffle else corpus.windows.middle(row)
            try:
                read = corpus.read(row, window, draw)
            except DamagedSample as again:
                self._damage.add(again)
                continue
            self._damage.in_a_row = 0
            picks[slot] = (number, row, place)
            return read
        raise AssertionError("spares are endless")

    def _mixtures(self, step: int) -> int:
        """Return the number of mixtures in batch `step` over all ranks: less only at the end of an evaluation."""
        size = self.config.batch_size
        return size if self.config.shuffle else max(0, min(size, self.groups_per_epoch - step * size))

    def _part(self, step: int) -> range:
        return rank_part(self._mixtures(step), self.rank, self.world_size)

    def _check_alike(self) -> None:
        first, *others = self.corpora
        for other in others:
            for what, (ours, theirs) in (
                ("sound", [f"{corpus.index.sample_rate} Hz" for corpus in (first, other)]),
                ("vectors of", [_encoders_in_words(corpus.vectors) for corpus in (first, other)]),
            ):
                if ours != theirs:
                    raise PackError(
                        f"{first.url} and {other.url} cannot be mixed: they hold {what} {ours} and {theirs}"
                    )


def _encoders_in_words(columns: Sequence[VectorColumn]) -> str:
    return " with ".join(encoder_in_words(column.fingerprint) for column in columns)


def make_loader(dataset: IterableDataset, *, workers: int, prefetch: int, persistent: bool = False) -> DataLoader:
    """Return a DataLoader that yields the complete batches of a dataset in order; see `EpochLoader` for the arguments.

    Raises:
        UsageError: When `workers` or `prefetch` is invalid.
    """
    check_setting("workers", workers, "a whole number, 0 or more", is_whole(workers, 0))
    check_setting("prefetch", prefetch, "a whole number, 1 or more", is_whole(prefetch, 1) or not workers)
    with warnings.catch_warnings():
        # More processes than cores are reasonable: they wait for disk or network.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        return DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=persistent and workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=shareable,
        )
