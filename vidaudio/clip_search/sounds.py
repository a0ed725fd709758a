"""Comparison of a sound with the clips of a corpus, through a fitted scorer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from vidaudio.clip_search.vectors import AllVectors, Nearest, highest
from vidaudio.corpus.clip_vectors import ClipVectors, picture_vectors, sound_vectors
from vidaudio.corpus.columns import SCORE
from vidaudio.corpus.corpus import Corpus
from vidaudio.correspondence.scorer import FOLDS, Scorer, fold_of
from vidaudio.correspondence.windows import unit
from vidaudio.errors import ScorerError
from vidaudio.hashing import hashed
from vidaudio.shards.commit import committed_shards


class PicturesByScorer:
    """Pictures of clips in the scorer's space, each by the model that was not trained on the clip's source.

    Args:
        corpus: The corpus.
        scorer: The scorer; its encoder made the pictures' vectors.
    """

    def __init__(self, corpus: Corpus, scorer: Scorer) -> None:
        parts: list[ClipVectors] = []
        folds: list[np.ndarray] = []
        for part in picture_vectors(corpus, str(scorer.facts["encoder"])):
            own = _folds(corpus, part)
            mapped = np.zeros((len(own), scorer.models[0].config.dimensions), np.float32)
            for fold in range(FOLDS):
                rows = np.flatnonzero(own == fold)
                with torch.inference_mode():
                    mapped[rows] = scorer.models[fold].encode_pictures(torch.from_numpy(part.vectors[rows])).numpy()
            parts.append(ClipVectors(part.shard, part.ids, mapped))
            folds.append(own)
        self._all = AllVectors.gather(parts)
        self._folds = np.concatenate([np.zeros(0, np.int64), *folds])

    @property
    def ids(self) -> pa.Array:
        """Clip id of each row `[N]`."""
        return self._all.ids

    @property
    def shards(self) -> np.ndarray:
        """Shard of each row, int64 `[N]`."""
        return self._all.shards

    def nearest(self, sounds: Sequence[np.ndarray], count: int, shown: np.ndarray) -> Nearest:
        """Return the rows whose pictures are nearest to a sound among those shown, at most `count`.

        Each model has a space of its own, whose cosines are not those of the other. So `similarity` is, in standard
        deviations of the clips of the same model, how far the cosine is above their mean. The mean of each model's
        pictures is removed first.

        Args:
            sounds: Unit vector of the sound by each fold's model, float32 `[D]` each.
            count: Number of rows.
            shown: Which rows may be returned, bool `[N]`.
        """
        similarity = np.full(len(shown), -np.inf, np.float32)
        cosine = np.zeros(len(shown), np.float32)
        for fold, sound in enumerate(sounds):
            rows = np.flatnonzero(self._folds == fold)
            if len(rows):
                mapped = self._all.vectors[rows]
                centred = unit(mapped - mapped.mean(axis=0)) @ sound
                similarity[rows] = (centred - centred.mean()) / max(float(centred.std()), 1e-6)
                cosine[rows] = mapped @ sound
        rows = np.flatnonzero(shown)
        rows = rows[highest(similarity[rows], count)]
        return Nearest(rows, similarity[rows], cosine[rows])


def _folds(corpus: Corpus, part: ClipVectors) -> np.ndarray:
    """Return the fold of each clip of a shard, int64 `[N]`."""
    listed = corpus.table(part.shard)
    sources = dict(zip(listed["id"].to_pylist(), hashed(listed["source"]).tolist(), strict=True))
    return np.array([fold_of(sources[clip_id]) for clip_id in part.ids], np.int64)


def open_sounds(corpus: Corpus, name: str) -> AllVectors:
    """Return the vectors of a corpus's sounds, one a clip, all by the scorer's first model.

    Raises:
        ScorerError: When the corpus has no scores by this scorer.
        CorpusError: When the scores are of an older version, without vectors.
    """
    if not committed_shards(corpus.store, SCORE.model_folder(name)):
        raise ScorerError(
            f"{corpus.url} has no scores by {name}, which hold the vectors of its sounds: vidaudio score {corpus.url} "
            f"--scorer {name}"
        )
    return AllVectors.gather(sound_vectors(corpus, name))
