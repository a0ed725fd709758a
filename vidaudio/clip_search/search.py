"""Search of a corpus by words, a picture or a sound."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidaudio.clip_search.clip_facts import ClipFacts, read_clip_facts
from vidaudio.clip_search.index import open_vectors
from vidaudio.clip_search.query import (
    SearchQuery,
    chosen_encoder,
    encode_heard,
    encode_seen,
    heard,
)
from vidaudio.clip_search.shown import shown_clips
from vidaudio.clip_search.sounds import PicturesByScorer, open_sounds
from vidaudio.clip_search.vectors import Nearest
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, UsageError
from vidaudio.pipeline.stages.scorer_files import chosen_scorer, open_scorer
from vidaudio.tasks.picture_encoder import load_picture_encoder
from vidaudio.text import number_of, storable_text

LONGEST_LABEL, LONGEST_TITLE = 24, 80
COSINE, DEVIATIONS = "cosine", "standard deviations"


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A clip that was found.

    Attributes:
        rank: Its place, from 1.
        id: Of the clip.
        shard: Shard that holds it.
        similarity: What the clips are ordered by, see `SearchReport.unit`.
        cosine: Cosine of the vectors as they are, -1 to 1.
        source: Source of the clip, as `site:video`.
        label: First label; empty without one.
        start_seconds: Start of the clip in its video, seconds; None where the list has none.
        title: Title of the video; empty if it is not known.
        url: Address of the video; empty if it is not known.
    """

    rank: int
    id: str
    shard: int
    similarity: float
    cosine: float
    source: str
    label: str
    start_seconds: float | None
    title: str
    url: str


@dataclass(frozen=True, slots=True)
class SearchReport:
    """Clips that were found, the nearest first; `str` gives them as a table.

    Attributes:
        corpus: The corpus.
        query: What was searched for, in words.
        encoder: Name of the encoder of the pictures; None where sounds were compared with each other.
        scorer: Name of the scorer that compared a sound; None without one.
        unit: Unit of `similarity`: `cosine`, after the mean of the corpus's vectors is removed, or
            `standard deviations` above the mean of the clips, where a sound is compared with pictures.
        searched: Number of clips that the query was compared with.
        hits: The clips.
    """

    corpus: str
    query: str
    encoder: str | None
    scorer: str | None
    unit: str
    searched: int
    hits: tuple[SearchHit, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-able."""
        return asdict(self) | {"hits": [asdict(hit) for hit in self.hits]}

    def __str__(self) -> str:
        head = f"{storable_text(self.corpus)}: {storable_text(self.query)}, of {number_of(self.searched, 'clip')}"
        rows = [("", "similarity", "id", "label", "start", "video")]
        for hit in self.hits:
            start = "" if hit.start_seconds is None else f"{hit.start_seconds:g} s"
            label, video = _cut(hit.label, LONGEST_LABEL), _cut(" ".join(_named(hit)), LONGEST_TITLE)
            rows.append((str(hit.rank), f"{hit.similarity:.3f}", hit.id, label, start, video))
        return "\n".join([head, *_table(rows)])


def _named(hit: SearchHit) -> Iterable[str]:
    return (text for text in (hit.title, hit.url or hit.source) if text)


def _cut(text: str, most: int) -> str:
    return storable_text(text, max_characters=most)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide characters take two, combining ones none."""
    wide = (2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))
    return sum(wide)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    padded = ((text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)) for row in rows)
    return ["  ".join(row).rstrip() for row in padded]


def search(
    corpus: str,
    query: str | SearchQuery,
    *,
    count: int = 10,
    where: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | None = None,
    page: str | Path | None = None,
    progress: bool = True,
) -> SearchReport:
    """Find the clips of a corpus that are nearest to words, a picture or a sound.

    Words and pictures are compared with the mean direction of each clip's pictures, by the corpus's own encoder. A
    sound is compared through a scorer: with the pictures, which finds clips that look like the sound, or, with
    `sounds_like`, with the sounds. The mean of the corpus's vectors is removed from them before the comparison, since
    vectors near that mean would be close to every query. It is removed from a picture or sound that is asked for, too,
    and not from words, which lie elsewhere.

    Up to 50,000 clips are compared one by one. Of more, an index in the corpus's folder `search/` finds nearly the same
    clips in a fraction of the time; the first search writes it, and again after the vectors have changed.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        query: Words, or a `SearchQuery` of words, a picture or a sound.
        count: Number of clips to find, at most.
        where: Selection over the clips' columns, as of a pack.
        encoder: Name of the encoder of the vectors; the corpus's own by default.
        encoder_weights: Weights of that encoder, taken instead of its recorded place.
        page: HTML file to write, with pictures and sound of every clip that was found.
        progress: Whether to show a progress bar while an index is built.

    Raises:
        UsageError: When the query asks for no thing or several, or `count` is below 1.
        QueryError: When the words are empty, or the encoder encodes no words.
        MediaError: When the picture or the sound cannot be read.
        CorpusError: When the corpus does not exist or is not embedded.
        EncoderError: When the encoder cannot be loaded.
        ScorerError: When a sound is searched for and there is no such scorer, or no scores.
        SelectionError: When `where` is not valid.
    """
    asked = SearchQuery(text=query) if isinstance(query, str) else query
    asked.check()
    if count < 1:
        raise UsageError(f"the number of clips to find is at least 1, not {count}")
    opened = open_corpus(corpus)
    if asked.sound is None:
        report = _by_sight(opened, asked, count, where, encoder, encoder_weights, progress=progress)
    elif encoder is not None or encoder_weights is not None:
        raise UsageError("a sound is compared by a scorer, which has an encoder already; leave --encoder out")
    else:
        report = _by_sound(opened, asked, count, where)
    if page is not None:
        from vidaudio.clip_search.page import write_page

        write_page(opened, report, Path(page))
    return report


def _by_sight(
    corpus: Corpus,
    query: SearchQuery,
    count: int,
    where: str | None,
    encoder: str | None,
    weights: str | None,
    *,
    progress: bool,
) -> SearchReport:
    name = chosen_encoder(corpus, encoder)
    shown = shown_clips(corpus, name, where, query.scorer)
    vector = encode_seen(load_picture_encoder(corpus, name, weights), query)
    vectors = open_vectors(corpus, name, progress=progress)
    allowed = shown.of_rows(vectors.shards, vectors.ids)
    if allowed.any() and vector.shape != vectors.mean.shape:
        raise CorpusError(
            f"the vectors of {name} in {corpus.url} do not have the {len(vector)} numbers of its encoder; "
            f"`vidaudio verify {corpus.url}` says what is damaged"
        )
    nearest = vectors.nearest(vector, count, allowed, is_text=query.text is not None)
    hits = _hits(corpus, nearest, vectors.ids.take(nearest.rows).to_pylist(), vectors.shards[nearest.rows])
    return SearchReport(corpus.url, str(query), name, None, COSINE, int(allowed.sum()), hits)


def _by_sound(corpus: Corpus, query: SearchQuery, count: int, where: str | None) -> SearchReport:
    name = chosen_scorer(corpus, query.scorer)
    scorer = open_scorer(corpus, name)
    encoder = chosen_encoder(corpus, str(scorer.facts["encoder"]))
    shown = shown_clips(corpus, encoder, where, name)
    assert query.sound is not None
    sounds = encode_heard(scorer, heard(query.sound))
    vectors = open_sounds(corpus, name) if query.sounds_like else PicturesByScorer(corpus, scorer)
    allowed = shown.of_rows(vectors.shards, vectors.ids)
    if isinstance(vectors, PicturesByScorer):
        nearest = vectors.nearest(sounds, count, allowed)
    else:
        # The sounds in the tables are those of the first model.
        nearest = vectors.nearest(sounds[0], count, allowed)
    hits = _hits(corpus, nearest, vectors.ids.take(nearest.rows).to_pylist(), vectors.shards[nearest.rows])
    searched = int(allowed.sum())
    if query.sounds_like:
        return SearchReport(corpus.url, str(query), None, name, COSINE, searched, hits)
    return SearchReport(corpus.url, str(query), encoder, name, DEVIATIONS, searched, hits)


def _hits(corpus: Corpus, nearest: Nearest, ids: list[str], shards: np.ndarray) -> tuple[SearchHit, ...]:
    facts: dict[str, ClipFacts] = {}
    for shard in np.unique(shards).tolist():
        own = [clip_id for clip_id, its in zip(ids, shards, strict=True) if its == shard]
        facts |= read_clip_facts(corpus, shard, own)
    measured = zip(ids, shards.tolist(), nearest.similarity.tolist(), nearest.cosine.tolist(), strict=True)
    return tuple(
        SearchHit(rank, clip_id, shard, round(similarity, 4), round(cosine, 4), **asdict(facts[clip_id]))
        for rank, (clip_id, shard, similarity, cosine) in enumerate(measured, start=1)
    )
