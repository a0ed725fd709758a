"""What a corpus says about single clips: their label, title and address, and their pictures and sound."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.columns import DOWNLOAD, EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object
from vidaudio.media.outcomes import State
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.read import TarReader
from vidaudio.text import storable_text


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Texts about a clip, cleaned: they come from lists and sites, and are shown on terminals and pages.

    Attributes:
        source: Source of the clip, as `site:video`.
        label: First label; empty without one.
        start_seconds: Start of the clip in its video, seconds; None where the list has none.
        title: Title of the video as its site gave it; empty if it is not known.
        url: Address of the video; empty if it is not known.
    """

    source: str
    label: str
    start_seconds: float | None
    title: str
    url: str


def read_clip_facts(corpus: Corpus, shard: int, ids: Sequence[str]) -> dict[str, ClipFacts]:
    """Return facts of some clips of a shard, by id.

    Raises:
        CorpusError: When the corpus's list does not name one of the clips.
    """
    titles = _titles(corpus, shard, ids)
    found = {
        row["id"]: ClipFacts(
            storable_text(row["source"]),
            storable_text(next(iter(row["labels"] or ()), "")),
            row["start_seconds"],
            titles.get(row["id"], ""),
            storable_text(row["url"] or ""),
        )
        for row in _rows(corpus.table(shard), ids)
    }
    _check_all(corpus, ids, found)
    return found


def _check_all(corpus: Corpus, ids: Sequence[str], found: Collection[str]) -> None:
    if missing := [clip_id for clip_id in ids if clip_id not in found]:
        raise CorpusError(
            f"{corpus.url} has vectors of the clip {missing[0]}, and its other tables do not have that clip; "
            f"`vidaudio verify {corpus.url}` says what is damaged"
        )


def _titles(corpus: Corpus, shard: int, ids: Sequence[str]) -> dict[str, str]:
    name = table_name(DOWNLOAD.folder, shard)
    if not corpus.store.exists(name):
        return {}
    found = {}
    for row in _rows(read_table(corpus.store, name)[0], ids):
        try:
            title = parse_object(row["info"] or "{}").get("title")
        except ValueError:
            # Facts of a site that are not JSON are as good as none: the clip is shown without a title.
            title = None
        found[row["id"]] = storable_text(title) if isinstance(title, str) else ""
    return found


def _rows(table: pa.Table, ids: Sequence[str]) -> list[dict[str, Any]]:
    return table.filter(pc.is_in(table["id"], pa.array(ids, pa.string()))).to_pylist()


@dataclass(frozen=True, slots=True)
class ClipMedia:
    """Pictures and sound of a clip.

    Attributes:
        pictures: JPEG files, evenly spread over the clip.
        sound: FLAC file.
    """

    pictures: tuple[bytes, ...]
    sound: bytes


def read_clip_media(corpus: Corpus, shard: int, ids: Sequence[str], most_pictures: int) -> dict[str, ClipMedia]:
    """Return pictures and sound of some clips of a shard, by id.

    Args:
        corpus: The corpus.
        shard: Shard number.
        ids: The clips.
        most_pictures: Pictures of each clip, at most.

    Raises:
        CorruptFileError: When the shard's table or tar is damaged.
        CorpusError: When the shard does not have one of the clips.
    """
    table, record = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    rows = [row for row in _rows(table, ids) if row["state"] == State.DONE]
    found = {}
    with TarReader(corpus.store, f"{EXTRACT.folder}/{record.tar}", whole=False) as tar:
        for row in rows:
            places = list(zip(row["frame_offsets"], row["frame_lengths"], strict=True))
            count = min(most_pictures, len(places))
            chosen = [places[(2 * number + 1) * len(places) // (2 * count)] for number in range(count)]
            sound = tar.read(row["audio_offset"], row["audio_length"])
            found[row["id"]] = ClipMedia(tuple(tar.read(*place) for place in chosen), sound)
    _check_all(corpus, ids, found)
    return found
