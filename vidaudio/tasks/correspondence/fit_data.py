"""What a scorer is fitted to: bands of sound, vectors of pictures and envelopes of the clips of a corpus."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from tqdm import tqdm

from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus
from vidaudio.correspondence.model import SAMPLE_RATE, ScorerConfig
from vidaudio.correspondence.scorer import FOLDS, fold_of
from vidaudio.errors import ScorerError
from vidaudio.pipeline.stages.embed import recorded_encoder
from vidaudio.pipeline.stages.scored_clips import ListedClip, read_scored_clips
from vidaudio.shards.commit import committed_shards
from vidaudio.tasks.correspondence.training import BandCache, FitClip

Labels = Literal["same", "another"]
LEAST_SOURCES = 20
# More clips than this keep their bands in a file.
CLIPS_IN_MEMORY = 20_000


@dataclass(frozen=True)
class FitData:
    """What a scorer is fitted to; row i of all is one clip's.

    Attributes:
        cache: Bands.
        clips: Pictures, times and numbered sources.
        labels: First label of each clip `[N]`; empty texts without.
        sources: Hash of each clip's source, uint64 `[N]`.
        envelopes: Motion and onsets of each clip; None where they are not known.
        encoder: Name of the encoder of the pictures' vectors.
    """

    cache: BandCache
    clips: list[FitClip]
    labels: np.ndarray
    sources: np.ndarray
    envelopes: Sequence[tuple[np.ndarray, np.ndarray] | None]
    encoder: str

    @functools.cached_property
    def folds(self) -> np.ndarray:
        """Fold of each clip `[N]`."""
        return np.array([fold_of(int(source)) for source in self.sources])

    @property
    def config(self) -> ScorerConfig:
        """Sizes of the model."""
        return ScorerConfig(self.clips[0].vectors.shape[1])

    @functools.cached_property
    def _pools(self) -> dict[tuple[int, str | None], np.ndarray]:
        """Rows by fold, and by fold and label."""
        pools: dict[tuple[int, str | None], np.ndarray] = {}
        for fold in range(FOLDS):
            rows = np.flatnonzero(self.folds == fold)
            pools[fold, None] = rows
            names, numbers = np.unique(self.labels[rows], return_inverse=True)
            pools |= {(fold, str(name)): rows[numbers == number] for number, name in enumerate(names)}
        return pools

    def other_sources(
        self, row: int, number: int, generator: np.random.Generator, labels: Labels, usable: np.ndarray | None = None
    ) -> list[int]:
        """Draw clips of other sources in a clip's fold; fewer where there are hardly any.

        Args:
            row: Number of the clip.
            number: How many clips to draw.
            generator: Source of randomness.
            labels: Whether they must have the `same` label as the clip, or `another` one. A clip without a label has
                none of the same, and all others are of another.
            usable: Which clips may be drawn, bool `[N]`; all by default.
        """
        own = str(self.labels[row])
        if labels == "same" and not own:
            return []
        pool = self._pools[int(self.folds[row]), own if labels == "same" else None]
        drawn = generator.choice(pool, min(len(pool), 8 * number), replace=False)
        wanted = self.sources[drawn] != self.sources[row]
        if usable is not None:
            wanted &= usable[drawn]
        if labels == "another" and own:
            wanted &= self.labels[drawn] != own
        return drawn[wanted][:number].tolist()


def read_fit_data(corpus: Corpus, max_clips: int, seed: int, bands_file: str, bar: tqdm) -> FitData:
    """Read the clips of a corpus, at most so many, drawn by a hash of their ids.

    Args:
        corpus: The corpus.
        max_clips: Clips to read, at most.
        seed: Seed of the draw.
        bands_file: File for the bands of many clips.
        bar: Progress bar, moved by a clip each.

    Raises:
        ScorerError: When the corpus has too few sources to learn from.
        CorpusError: When it is not embedded.
    """
    encoder = recorded_encoder(corpus)
    folder = EMBED.model_folder(encoder)
    shards = sorted(committed_shards(corpus.store, folder))
    # At most: those that failed are not known without reading all tables.
    there = int(corpus.clips_by_shard()[shards].sum())
    room = min(there, max_clips)
    bar.reset(total=room)
    bar.set_description("reading clips")
    reader = _Reader(room, bands_file if room > CLIPS_IN_MEMORY else None)
    wanted = _draw(max_clips / there if there > max_clips else 1.0, seed)
    for shard in shards:
        for listed in read_scored_clips(corpus, shard, folder, wanted):
            if len(reader.clips) < room:
                reader.add(listed)
                bar.update()
    return reader.data(corpus.url, encoder)


class _Reader:
    def __init__(self, room: int, bands_file: str | None) -> None:
        self._room, self._bands_file = room, bands_file
        self._cache: BandCache | None = None
        self.clips: list[FitClip] = []
        self._labels: list[str] = []
        self._sources: list[int] = []
        self._envelopes: list[tuple[np.ndarray, np.ndarray] | None] = []

    def add(self, listed: ListedClip) -> None:
        clip = listed.clip
        if self._cache is None:
            self._cache = BandCache(ScorerConfig(clip.vectors.shape[1]), self._room, self._bands_file)
        times = self._cache.put(len(self.clips), clip.samples)
        seconds, grid = len(clip.samples) / SAMPLE_RATE, np.asarray(clip.grid_seconds)
        self.clips.append(FitClip(clip.vectors, grid, clip.audio_start_seconds, seconds, times, 0))
        self._labels.append(listed.label)
        self._sources.append(clip.source)
        known = None if clip.motion is None or clip.onsets is None else (clip.motion, clip.onsets)
        self._envelopes.append(known)

    def data(self, url: str, encoder: str) -> FitData:
        hashes, numbers = np.unique(np.array(self._sources, np.uint64), return_inverse=True)
        folds = {fold_of(int(source)) for source in hashes}
        if self._cache is None or len(hashes) < LEAST_SOURCES or len(folds) < FOLDS:
            raise ScorerError(
                f"{url} has {len(hashes)} sources that are extracted and embedded, and a scorer learns from "
                f"{LEAST_SOURCES} at least; build more of it first"
            )
        clips = [replace(clip, source=int(number)) for clip, number in zip(self.clips, numbers, strict=True)]
        return FitData(self._cache, clips, np.array(self._labels), hashes[numbers], self._envelopes, encoder)


def _draw(share: float, seed: int) -> Callable[[str], bool]:
    """Return which clips are drawn: each with this probability, whatever the others."""
    if share >= 1:
        return lambda clip_id: True

    def drawn(clip_id: str) -> bool:
        digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < share * 2**64

    return drawn
