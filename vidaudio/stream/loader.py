"""The loader: an endless, seeded stream of batches of mixtures-to-be.

Batch k of the run is a pure function of seed and k. Ranks take their share of each batch and workers take turns with
whole batches, so neither their number nor a restart changes what is seen: to resume, start at the step the optimiser
reached. Mixing, gains and spectra belong to the training device; the loader only reads, cuts and stacks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vidaudio.errors import CorpusError
from vidaudio.stream.batch_memory import allocate_shared, shareable, write_pictures
from vidaudio.stream.config import StreamConfig, check_setting, is_whole
from vidaudio.stream.index import TrainingIndex, encoder_in_words
from vidaudio.stream.loader_errors import with_readable_errors
from vidaudio.stream.mixtures import MixtureSampler, SampleRef
from vidaudio.stream.order import WINDOWS, generator
from vidaudio.stream.packed_corpus import Damage
from vidaudio.stream.ranks import rank_part, rank_rows
from vidaudio.stream.reader import DamagedSample
from vidaudio.stream.windows import Windows

__all__ = ["MixtureStream", "StreamConfig"]


class MixtureStream(IterableDataset):
    """Batches of mixtures-to-be, for ever when shuffling, once through when not.

    A batch is a dictionary, B mixtures of this rank, N sources, F pictures:

        audio     int16 `[B, N, samples]`
        vectors   float16 `[B, N, F, D]`
        gains     float32 `[B, N]`
        frames    uint8 `[B, N, F, 3, H, W]`, where the configuration asks for them
        rows      int64 `[B, N]`, of the index of the sample's corpus
        corpora   int64 `[B, N]`, number of the corpus
        step      int, which batch of the run this is
        share     float, this rank's part of the global batch; weigh the loss with `share * world_size`
        replaced  int, how many samples of the batch stand in for damaged ones
        damage    list of str, what was wrong with those

    Args:
        url: A packed corpus, `CORPUS/training/NAME`, local or at an fsspec URL; or several, with their weights.
        config: What and how.
        start_step: The first batch to yield: the optimiser's step after a restart.
        rank, world_size: Of this process in distributed training.

    Raises:
        CorpusError: No such corpus or split, sound of another rate or no pictures where they are asked for, too few
            sources or usable samples for one mixture, corpora that do not fit one another.
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

    @property
    def url(self) -> str:
        """Of the corpus, or of all, with a comma between them."""
        return ", ".join(corpus.url for corpus in self.corpora)

    @property
    def index(self) -> TrainingIndex:
        """Of the only corpus; of several, of the first."""
        return self.corpora[0].index

    @property
    def windows(self) -> Windows:
        """Of the only corpus; of several, of the first."""
        return self.corpora[0].windows

    @property
    def too_short(self) -> int:
        """Samples left out because they have no window of the wanted shape."""
        return sum(len(corpus.index) - corpus.counts.all_usable for corpus in self.corpora)

    def identity(self) -> str:
        """What must be the same for a resumed run to see what the uninterrupted one would have seen."""
        return " ".join(corpus.index.identity() for corpus in self.corpora)

    @property
    def groups_per_epoch(self) -> int:
        """Mixtures an epoch; of several corpora, of all together."""
        return self._picker.mixtures_per_epoch

    @property
    def batches_per_epoch(self) -> int:
        """Batches an epoch, the last one maybe filled from the next epoch; without shuffling, batches in all.

        Not `__len__`: a training loop that saw a length would end the iteration there and begin another at the step it
        once started from. `EpochLoader` has one.
        """
        return math.ceil(self.groups_per_epoch / self.config.batch_size)

    def set_start_step(self, step: int) -> None:
        """Where the next iteration begins.

        Raises:
            CorpusError: There is no such step.
        """
        check_setting("start_step", step, "a whole number, 0 or more", is_whole(step, 0))
        self.start_step = step

    def set_rank(self, rank: int, world_size: int) -> None:
        """Whose part of every batch the next iteration reads."""
        rank_rows(self.config.batch_size, rank, world_size)
        self.rank, self.world_size = rank, world_size

    def state_dict(self, optimiser_step: int) -> dict[str, Any]:
        """What a checkpoint must hold to go on: the optimiser's steps, not what was prefetched, and on what data."""
        return {"start_step": optimiser_step, "identity": self.identity()}

    def load_state_dict(self, state: Mapping[str, Any], *, other_data: bool = False) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            CorpusError: It is no state of a stream, or was taken on other data and `other_data` does not allow that.
        """
        if not isinstance(state, Mapping) or "start_step" not in state:
            raise CorpusError("this is no state of a stream or an EpochLoader (see state_dict): it has no start_step")
        if not other_data:
            self.require_identity(state.get("identity"))
        self.set_start_step(state["start_step"])

    def require_identity(self, identity: str | None) -> None:
        """Refuse data that is not what a run has begun with; None, of older states, is taken for the same."""
        if identity is not None and identity != self.identity():
            raise CorpusError(
                f"{self.url} is not what this run has seen so far: it was packed anew, or samples were taken out of "
                "it. Its batches would be others from here on; start a new run, or allow other data expressly"
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.batches(self.start_step, None if self.config.shuffle else self.batches_per_epoch)

    def batches(self, begin: int, end: int | None) -> Iterator[dict[str, Any]]:
        """Batches `begin` to `end - 1` that fall to this worker; for ever where `end` is None."""
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
            # Of the last batch of an evaluation there may be nothing for this rank.
            if len(self.positions(step)):
                yield self.batch(step)
            step += workers

    def loader(self, *, workers: int = 0, prefetch: int = 4) -> DataLoader:
        """A DataLoader over this stream, batches ready-made, in order."""
        return make_loader(self, workers=workers, prefetch=prefetch)

    def positions(self, step: int) -> range:
        """This rank's places in the endless sequence of mixtures for batch `step`."""
        begin, part = step * self.config.batch_size, self._part(step)
        return range(begin + part.start, begin + part.stop)

    def picks(self, step: int) -> list[list[SampleRef]]:
        """The samples of batch `step` of this rank, before damaged ones are replaced."""
        return [self._picker.pick(position) for position in self.positions(step)]

    def rows(self, step: int) -> np.ndarray:
        """Index rows of batch `step` of this rank, int `[B, N]`."""
        rows = [[row for _, row, _ in picks] for picks in self.picks(step)]
        return np.asarray(rows, np.int64).reshape(-1, self.config.sources)

    def batch(self, step: int) -> dict[str, Any]:
        """Read batch `step`."""
        positions = self.positions(step)
        batch = self._empty_batch(len(positions))
        # NumPy writes single samples sooner than PyTorch does.
        written = {name: tensor.numpy() for name, tensor in batch.items()}
        replaced = 0
        for place, position in enumerate(positions):
            rng = generator(WINDOWS, self.config.seed, position)
            picks = self._picker.pick(position)
            for slot, (number, row, _) in enumerate(picks):
                corpus = self.corpora[number]
                window = corpus.windows.random(row, rng) if self.config.shuffle else corpus.windows.middle(row)
                try:
                    read = corpus.read(row, window)
                    self._damage.in_a_row = 0
                except DamagedSample as error:
                    read = self._replace(error, position, slot, picks)
                    replaced += 1
                written["audio"][place, slot], written["vectors"][place, slot] = read[:2]
                written["corpora"][place, slot], written["rows"][place, slot] = picks[slot][:2]
                if self.config.frames:
                    if "frames" not in batch:
                        shape = (len(positions), self.config.sources, *read[2].shape)
                        batch |= allocate_shared({"frames": (shape, torch.uint8)})
                    write_pictures(read[2], batch["frames"][place, slot])
            if self.config.gain_range is not None:
                written["gains"][place] = rng.uniform(*self.config.gain_range, self.config.sources)
        return batch | {
            "step": step,
            "share": len(positions) / self._mixtures(step),
            "replaced": replaced,
            "damage": self._damage.take(),
        }

    def _empty_batch(self, mixtures: int) -> dict[str, torch.Tensor]:
        each, shape = (mixtures, self.config.sources), self.windows.shape
        large = {
            "audio": ((*each, shape.samples), torch.int16),
            "vectors": ((*each, shape.frames, self.index.dimensions), torch.float16),
        }
        small = {"gains": torch.float32, "rows": torch.int64, "corpora": torch.int64}
        return allocate_shared(large) | {name: torch.ones(each, dtype=dtype) for name, dtype in small.items()}

    def _replace(self, error: DamagedSample, position: int, slot: int, picks: list[SampleRef]) -> tuple:
        """Read another sample in the place of a damaged one, and put it into `picks`."""
        number, _, place = picks[slot]
        corpus = self.corpora[number]
        unlike = {self.corpora[n].samples.source(row) for other, (n, row, _) in enumerate(picks) if other != slot}
        self._damage.add(error)
        for row, rng in corpus.replacements(position, slot, place, unlike):
            window = corpus.windows.random(row, rng) if self.config.shuffle else corpus.windows.middle(row)
            try:
                read = corpus.read(row, window)
            except DamagedSample as again:
                self._damage.add(again)
                continue
            self._damage.in_a_row = 0
            picks[slot] = (number, row, place)
            return read
        raise AssertionError("spares are endless")

    def _mixtures(self, step: int) -> int:
        """In batch `step`, of all ranks: less than a batch only at the end of an evaluation."""
        size = self.config.batch_size
        return size if self.config.shuffle else max(0, min(size, self.groups_per_epoch - step * size))

    def _part(self, step: int) -> range:
        return rank_part(self._mixtures(step), self.rank, self.world_size)

    def _check_alike(self) -> None:
        first = self.index
        for corpus in self.corpora[1:]:
            other = corpus.index
            for what, ours, theirs in (
                ("sound", f"{first.sample_rate} Hz", f"{other.sample_rate} Hz"),
                ("vectors of", encoder_in_words(first.encoder), encoder_in_words(other.encoder)),
            ):
                if ours != theirs:
                    raise CorpusError(
                        f"{self.corpora[0].url} and {corpus.url} cannot be mixed: they hold {what} {ours} and {theirs}"
                    )


def make_loader(dataset: IterableDataset, *, workers: int, prefetch: int, persistent: bool = False) -> DataLoader:
    """A DataLoader that hands on ready-made batches in the order of the run.

    Raises:
        CorpusError: A number of workers or of batches read ahead that there cannot be.
    """
    check_setting("workers", workers, "a whole number, 0 or more", is_whole(workers, 0))
    check_setting("prefetch", prefetch, "a whole number, 1 or more", is_whole(prefetch, 1) or not workers)
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        persistent_workers=persistent and workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=shareable,
    )
