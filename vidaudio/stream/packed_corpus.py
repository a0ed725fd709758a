"""One packed corpus as an endless sequence of sample groups, with readers that replace damaged samples."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidaudio.errors import PackError, UsageError
from vidaudio.stream.cache import CachedTars, ShardCache
from vidaudio.stream.config import StreamConfig, default_cache_folder
from vidaudio.stream.groups import Groups, make_groups
from vidaudio.stream.index import TrainingIndex, open_index
from vidaudio.stream.order import SPARES, generator
from vidaudio.stream.prefetch import Prefetcher
from vidaudio.stream.reader import DamagedSample, SampleReader
from vidaudio.stream.samples import UsableSamples, count_usable
from vidaudio.stream.source_part import WindowsOfPart
from vidaudio.stream.vector_columns import VectorColumn, columns_in_words
from vidaudio.stream.vector_files import rows_in
from vidaudio.stream.windows import Window, Windows
from vidaudio.text import number_of

DAMAGED_IN_A_ROW = 100
DRAWS_FROM_BLOCK = 64
# The block being read, the block being fetched, and a block that a slower process still reads.
BLOCKS_IN_CACHE = 3
GROUPS_BETWEEN_RELEASES = 256
REBUILT = ("index", "windows", "samples", "groups", "reader", "_prefetcher")


@dataclass(slots=True)
class Damage:
    """Record of samples that could not be read.

    Attributes:
        found: One sentence for each, since the last `take`.
        in_a_row: Number of damaged samples since the last sample that could be read.
    """

    found: list[str] = field(default_factory=list)
    in_a_row: int = 0

    def add(self, error: DamagedSample) -> None:
        """Record a damaged sample.

        Raises:
            PackError: When it is the hundredth in a row.
        """
        self.found.append(str(error))
        self.in_a_row += 1
        if self.in_a_row >= DAMAGED_IN_A_ROW:
            raise PackError(f"{self.in_a_row} samples in a row could not be read; of the last: {error}") from None

    def take(self) -> list[str]:
        """Return the recorded sentences and forget them."""
        found, self.found = self.found, []
        return found


class PackedCorpus:
    """A split of one corpus, which every process that reads it opens for itself.

    Args:
        url: A packed corpus, `CORPUS/training/NAME`.
        config: Settings of the stream.
        size: Samples in a group: the configuration's `sources`, or 1 if groups mix several corpora.

    Raises:
        UsageError, PackError: When the corpus or split is missing, the sample rate differs from the wanted one, wanted
            pictures or vectors are missing, there are too few sources or usable samples, or the cache is too small for
            the shards.
    """

    def __init__(self, url: str, config: StreamConfig, size: int) -> None:
        self.url = url
        self.config = config
        self.size = size
        self._reader_index, self._reader_count = 0, 1
        self._watched: tuple[int, int] | None = None
        # Stamp of the index that this process has checked: a process that maps the same file skips the checks.
        self._checked: tuple[int, ...] | None = None
        self._groups_since_release = 0
        self._check_rate()
        self._checked = self.index.stamp
        self._check_vectors()
        # An evaluation reads every sample once, whatever it weighs.
        weighted = config.use_weights and config.shuffle and self.index.weight is not None
        self.counts = count_usable(self.index, self.windows, weighted=weighted)
        self.sizes = self.index.store.list("") if self._cache is not None else {}
        self._check_cache()
        if config.frames:
            self._check_pictures()
        # After the checks of what the pack holds: another window length would not help there.
        self.samples.require_sources(size, config.split, self.windows.shape)

    def __getstate__(self) -> dict[str, Any]:
        # Each process maps the index itself: mapped pages are shared, Python objects would be copied.
        return {k: v for k, v in self.__dict__.items() if k not in REBUILT} | {"_watched": None}

    @functools.cached_property
    def index(self) -> TrainingIndex:
        """Index of the split, mapped by this process."""
        return open_index(self.url, self.config.split, cache=self._cache, known=self._checked)

    @functools.cached_property
    def windows(self) -> Windows:
        """Windows of the index's samples, in the configured shape."""
        if self.config.sources_between is None:
            return Windows(self.index, self.config.shape)
        return WindowsOfPart(self.index, self.config.shape, self.config.sources_between, self.config.seed)

    @functools.cached_property
    def samples(self) -> UsableSamples:
        """Samples that have a window of the configured shape."""
        different = self.config.different_labels
        return UsableSamples(self.index, self.windows, self.counts, self.config.seed, different_labels=different)

    @functools.cached_property
    def groups(self) -> Groups:
        """Groups of the samples, by the configured rule."""
        return make_groups(self.samples, self.config, self.size, self._picture_vectors)

    @functools.cached_property
    def reader(self) -> SampleReader:
        """Reader of the samples."""
        return SampleReader(self.index, self._tars)

    @functools.cached_property
    def vectors(self) -> tuple[VectorColumn, ...]:
        """Columns of the vectors that batches contain."""
        wanted = self.config.vectors
        names = wanted if isinstance(wanted, tuple) else (wanted,)
        return tuple(self.index.vectors_of(name) for name in names)

    @functools.cached_property
    def _cache(self) -> ShardCache | None:
        remote = "://" in self.url and not self.url.startswith("file://")
        if not remote or self.config.cache_bytes <= 0:
            return None
        folder = Path(self.config.cache_folder) if self.config.cache_folder else default_cache_folder()
        return ShardCache(folder, self.config.cache_bytes)

    @property
    def _tars(self) -> CachedTars | None:
        return CachedTars(self._cache, self.index, self.sizes) if self._cache is not None else None

    @functools.cached_property
    def _prefetcher(self) -> Prefetcher | None:
        tars = self._tars
        return None if tars is None else Prefetcher(tars)

    @property
    def groups_per_epoch(self) -> int:
        """Number of groups in an epoch."""
        return self.groups.order.groups_per_epoch

    def begin(self, reader_index: int, reader_count: int) -> None:
        """Start reading as reader `reader_index` of `reader_count`.

        Call this after forking: prefetches of the parent process are not shared.
        """
        self._reader_index, self._reader_count = reader_index, reader_count
        self._watched = None

    def group(self, position: int) -> np.ndarray:
        """Return the index rows of one group of the endless sequence, int `[size]`; prefetch the next shards."""
        self._groups_since_release += 1
        if self._groups_since_release >= GROUPS_BETWEEN_RELEASES:
            self._groups_since_release = 0
            self.index.release_pages()
        if self._prefetcher is not None:
            self._watch(position)
        return self.groups.group(position)

    def replacements(
        self, mixture: int, slot: int, position: int, unlike: Collection[str]
    ) -> Iterator[tuple[int, np.random.Generator]]:
        """Yield endlessly what may replace a damaged sample: a row, and the generator to draw its window from.

        Args:
            mixture: Position of the mixture in the run; with `slot`, it alone seeds the draws.
            slot: Place of the damaged sample in the mixture.
            position: Position of the sample's group in this corpus; replacements come from its block, whose shards are
                local.
            unlike: What the mixture has already, see `UsableSamples.exclusive`.
        """
        rng = generator(SPARES, self.config.seed, mixture, slot)
        block = self.groups.order.block_rows(position)
        while True:
            for _ in range(DRAWS_FROM_BLOCK):
                row = int(block[rng.integers(len(block))])
                if self.samples.exclusive(row).isdisjoint(unlike):
                    break
            else:
                row = self.samples.draw_unlike(rng, unlike)
            yield row, rng

    def read(
        self, row: int, window: Window, draw: float = 0.0, *, out: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray | None]:
        """Return sound, vectors and pictures of a window.

        Args:
            row: Row of the sample in the index.
            window: The window.
            draw: Which of the sample's texts, as a share of their number, 0 to below 1.
            out: Array to write the sound to; None for a new one.

        Returns:
            Sound int16 `[samples]`; for each column of `vectors`, float16 `[vectors, D]`; and pictures uint8 `[frames,
                3, H, W]` if `config.frames` is set, otherwise None.
        """
        reader = self.reader
        vectors = [reader.window_vectors(row, window, column.encoder, draw=draw) for column in self.vectors]
        sound = reader.window_sound(row, window, out=out)
        return sound, vectors, reader.pictures(row, window.frames) if self.config.frames else None

    def _watch(self, position: int) -> None:
        """Prefetch the shards of the block that begins, and of the next."""
        order = self.groups.order
        block = order.block(position)
        if block != self._watched:
            self._watched = block
            blocks = [self._tars_of(order.shards(*each)) for each in (block, order.after(*block))]
            assert self._prefetcher is not None
            self._prefetcher.want(*blocks, reader_index=self._reader_index, reader_count=self._reader_count)

    def _tars_of(self, shards: np.ndarray) -> list[int]:
        return self.index.tar_numbers[shards].tolist()

    @functools.cached_property
    def _frames_column(self) -> VectorColumn:
        """First vector column of pictures, by which `distant` partners are chosen."""
        found = next((column for column in self.index.vectors if column.input == "frames"), None)
        if found is None:
            raise PackError(
                f"partners='distant' compares pictures by their vectors, and {self.url} holds only those of "
                f"{columns_in_words(self.index.vectors)}"
            )
        return found

    def _picture_vectors(self, row: int) -> np.ndarray:
        """Return the vectors of a sample's pictures; a vector of zeros if they cannot be read."""
        try:
            return self.reader.vectors(row, self._frames_column.encoder)
        except DamagedSample:
            return np.zeros((1, self._frames_column.dimensions), np.float16)

    def _check_rate(self) -> None:
        wanted, found = self.config.sample_rate, self.index.sample_rate
        if wanted is not None and found != wanted:
            raise PackError(
                f"{self.url} holds sound at {found} Hz, and {wanted} Hz is wanted; build a corpus with "
                f"--set extract.sample_rate={wanted}, or train at the corpus's rate: --set "
                f"model.front_end.sample_rate={found}{_windows_then(self.config.shape.samples, wanted, found)}"
            )

    def _check_vectors(self) -> None:
        """Refuse a corpus that lacks wanted vectors, of all samples or of some: no batch could hold theirs."""
        for column in self.vectors:
            if column.input == "frames":
                continue
            missing = np.flatnonzero(rows_in(self.index.column(column.length), column.dimensions) < 1)
            self.index.release_pages()
            if len(missing):
                chosen = ", chosen by pack.where ('captions.str.len() > 0')" if column.input == "text" else ""
                raise PackError(
                    f"{self.url}, split {self.config.split}: {number_of(len(missing), 'sample has', 'samples have')} "
                    f"no vector of {column.encoder} ({column.input}), {self.index.text('key', int(missing[0]))} the "
                    f"first; pack only clips that have one under another name{chosen}, or do not ask for these vectors"
                )
        if self.config.partners == "distant":
            _ = self._frames_column

    def _check_pictures(self) -> None:
        shards = self.counts.drawable
        first = self.samples.of_shard(int(shards[0]))[0] if len(shards) else 0
        if len(self.index):
            self.reader.pictures(int(first), (0,))

    def _check_cache(self) -> None:
        """Refuse a cache in which the shards of neighbouring blocks would evict one another repeatedly."""
        sizes = [self.sizes.get(self.index.tars[number], 0) for number in self.index.tar_numbers.tolist()]
        if not sizes or self._cache is None:
            return
        # A block may begin and end in the middle of a shard.
        shards = min(len(sizes), BLOCKS_IN_CACHE * (self.config.block_shards + 1))
        needed = min(sum(sizes), shards * max(sizes))
        if needed > self.config.cache_bytes:
            fewer = " or lower block_shards" if self.config.block_shards > 1 else ""
            raise UsageError(
                f"a cache of {self.config.cache_bytes:,} bytes is too small for {self.url}: up to {shards} of its "
                f"{len(sizes)} shards are needed at a time, those of {BLOCKS_IN_CACHE} blocks, {needed:,} bytes; raise "
                f"cache_bytes{fewer}"
            )


def _windows_then(samples: int | None, before: int, then: int) -> str:
    """Return a sentence on the windows of a recipe at another sample rate, Hz; the recipe may state their samples."""
    kept = ". Windows keep their length in seconds"
    if samples is None:
        return kept
    seconds = f"{samples / before:.3f}"
    return (
        f"{kept} where the recipe does not state model.front_end.window_samples; where it does, {samples:,} samples "
        f"become {samples / then:.3f} s instead of {seconds} s, and to keep the length add --set "
        f"data.window_seconds={seconds} --set model.front_end.window_samples=null --set model.front_end.frames=null"
    )
