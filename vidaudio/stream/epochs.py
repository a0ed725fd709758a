"""Epochs for a plain PyTorch loop: a loader with a length, cut out of the endless stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset

from vidaudio.stream.config import check_setting, is_whole
from vidaudio.stream.loader import MixtureStream, make_loader


class EpochLoader:
    """A loader that yields one epoch of a stream's batches in each iteration, with DataLoader workers.

        loader = EpochLoader(stream, workers=4)
        loader.load_state_dict(saved)               # to resume
        while loader.epoch < 10:
            for batch in loader:                    # len(loader) batches
                ...
                saved = loader.state_dict()         # after the optimiser's step

    A batch is never cut at the border of two epochs: it belongs to the epoch in which it begins. So some epochs have
    one batch more than others. The batches of all epochs together are those of `stream`, each once.

    The next iteration continues with the next epoch; `set_epoch` chooses another.

    Args:
        stream: The stream to read.
        workers: Number of loader processes; 0 reads in this process.
        prefetch: Number of batches that each loader process reads ahead.
        persistent: Whether to keep the loader processes from one epoch to the next.
    """

    def __init__(self, stream: MixtureStream, *, workers: int = 0, prefetch: int = 4, persistent: bool = False) -> None:
        self.stream = stream
        self._epoch = 0
        self._next = 0
        # In shared memory: persistent loader processes only have copies of everything else.
        self._bounds = torch.zeros(2, dtype=torch.int64).share_memory_()
        stretch = _Stretch(stream, self._bounds)
        self._loader = make_loader(stretch, workers=workers, prefetch=prefetch, persistent=persistent)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to."""
        return self._epoch if self._next < self._end(self._epoch) else self._epoch + 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; an epoch that a loaded state left in the middle continues there.

        Raises:
            UsageError: When the epoch is not a whole number, 0 or more.
        """
        check_setting("epoch", epoch, "a whole number, 0 or more", is_whole(epoch, 0))
        if not self._begin(epoch) <= self._next < self._end(epoch):
            self._next = self._begin(epoch)
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches that the next iteration yields."""
        epoch = self.epoch
        return self._end(epoch) - max(self._begin(epoch), self._next if epoch == self._epoch else 0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.set_epoch(self.epoch)
        end = self._end(self._epoch)
        self._bounds[0], self._bounds[1] = self._next, end
        for batch in self._loader:
            self._next = batch["step"] + 1
            yield batch
        self._next = end

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and the identity of the data.

        The position counts the batches handed out so far, without those that were only read ahead.
        """
        return self.stream.state_dict(self._next)

    def load_state_dict(self, state: Mapping[str, Any], *, other_data: bool = False) -> None:
        """Resume where `state_dict` was called, with any number of workers.

        Raises:
            UsageError, PackError: When `state` is no state of a loader, or was saved on other data and `other_data` is
                False.
        """
        self.stream.load_state_dict(state, other_data=other_data)
        self._next = self.stream.start_step
        groups, size = self.stream.groups_per_epoch, self.stream.config.batch_size
        self._epoch = self._next * size // groups if self.stream.config.shuffle else 0

    def _begin(self, epoch: int) -> int:
        """Return the first batch that begins in an epoch."""
        if not self.stream.config.shuffle:
            return 0
        return -(-epoch * self.stream.groups_per_epoch // self.stream.config.batch_size)

    def _end(self, epoch: int) -> int:
        return self._begin(epoch + 1) if self.stream.config.shuffle else self.stream.batches_per_epoch


class _Stretch(IterableDataset):
    """Batches of a stream between two bounds, which may change from one iteration to the next."""

    def __init__(self, stream: MixtureStream, bounds: torch.Tensor) -> None:
        super().__init__()
        self._stream = stream
        self._bounds = bounds

    def __iter__(self) -> Iterator[dict[str, Any]]:
        begin, end = self._bounds.tolist()
        return self._stream.batches(begin, end)
