"""Clips with what is shown of them: three small pictures, four seconds of sound, and their numbers.

Media are read clip by clip, by their places in the shards' tars, and only those of the clips that are shown.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.superseded import superseded
from vidaudio.errors import MediaError
from vidaudio.media.flac import BadSound, decode_sound
from vidaudio.media.pictures import read_frame
from vidaudio.report.corpus.choice import ClipRef
from vidaudio.report.corpus.measures import MEASURES
from vidaudio.report.corpus.pages import read_page, shown_labels, shown_text
from vidaudio.report.corpus.tables import Parts, read_shard
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.read import TarReader

PICTURES = 3
PICTURE_PIXELS = 128
JPEG_QUALITY = 70
SOUND_SECONDS = 4.0
# A sample rate that MP3 has; a sound of another rate is written as FLAC, which has all rates.
MP3_RATES = frozenset({8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})


@dataclass(frozen=True, slots=True)
class ShownClip:
    """A clip as the page shows it.

    Attributes:
        id: Clip id.
        title: Title of its page; empty if none is known.
        labels: Its labels.
        source, split: Of the list; empty if none is stated.
        pictures: Pictures as data URIs, in order.
        sound: The middle of its sound as a data URI.
        seconds: Length of the whole sound.
        values: Its measures by name, those that it has.
    """

    id: str
    title: str
    labels: tuple[str, ...]
    source: str
    split: str
    pictures: tuple[str, ...]
    sound: str
    seconds: float
    values: Mapping[str, float]


def read_clips(
    corpus: Corpus, parts: Parts, wanted: Iterable[ClipRef], advance: Callable[[], object]
) -> dict[ClipRef, ShownClip]:
    """Return clips with their media.

    Args:
        corpus: Opened corpus.
        parts: What it has.
        wanted: The clips.
        advance: Called after every clip.

    Raises:
        CorruptFileError: When a table or a clip's media are damaged; `vidaudio verify` names the remedy.
    """
    older, rate = superseded(corpus), corpus.settings.extract.sample_rate
    shown: dict[ClipRef, ShownClip] = {}
    for shard, refs in groupby(sorted(set(wanted)), key=lambda ref: ref.shard):
        ids = {ref.id for ref in refs}
        rows = read_shard(corpus, parts, shard, older)
        assert rows.tar is not None, "an extracted clip has media"
        with TarReader(corpus.store, rows.tar, whole=False) as tar:
            for row in _chosen(rows.clips.to_batches(), ids):
                named = f"{corpus.url}/{rows.tar}: {row['id']}"
                try:
                    shown[ClipRef(shard, row["id"])] = _shown(row, tar, rate, named)
                except (BadSound, MediaError) as error:
                    raise CorruptFileError(
                        rows.tar, f"{named} cannot be shown: {error}; `vidaudio verify` names the remedy"
                    ) from error
                advance()
    return shown


def _chosen(batches: Iterable[Any], ids: set[str]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        mask = np.array([clip_id in ids for clip_id in batch["id"].to_pylist()], bool)
        yield from batch.take(np.flatnonzero(mask)).to_pylist()


def _shown(row: Mapping[str, Any], tar: TarReader, rate: int, named: str) -> ShownClip:
    values = {m.name: float(row[m.name]) for m in MEASURES if row[m.name] is not None and np.isfinite(row[m.name])}
    return ShownClip(
        id=shown_text(row["id"]),
        title=read_page(row["info"]).title or next(map(shown_text, row["captions"] or ()), ""),
        labels=shown_labels(row["labels"]),
        source=shown_text(row["source"]),
        split=shown_text(row["split"]),
        pictures=tuple(_pictures(row, tar, named)),
        sound=_sound(tar.read(row["audio_offset"], row["audio_length"]), row["samples"], rate),
        seconds=float(row["seconds"]),
        values=values,
    )


def _pictures(row: Mapping[str, Any], tar: TarReader, named: str) -> Iterator[str]:
    """Yield small pictures from the middle of each third of the clip."""
    count = len(row["frame_offsets"])
    places = dict.fromkeys(int((2 * third + 1) * count / (2 * PICTURES)) for third in range(PICTURES))
    for place in places if count else ():
        picture = read_frame(tar.read(row["frame_offsets"][place], row["frame_lengths"][place]), name=named)
        picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
        sink = io.BytesIO()
        picture.save(sink, "JPEG", quality=JPEG_QUALITY)
        yield _data_uri("image/jpeg", sink.getvalue())


def _sound(data: bytes, samples: int, rate: int) -> str:
    """Return the middle of a sound: MP3, which every browser plays, and which is the same in every run.

    Ogg would be as small, but libsndfile draws a serial number for every file.

    Args:
        data: Content of the tar's member.
        samples: Number of its samples.
        rate: Sample rate of the corpus, Hz.
    """
    import soundfile

    count = min(samples, round(SOUND_SECONDS * rate))
    values, rate = decode_sound(data, samples, first=(samples - count) // 2, count=count)
    sink = io.BytesIO()
    if rate in MP3_RATES and "MP3" in soundfile.available_formats():
        soundfile.write(sink, values, rate, format="MP3", subtype="MPEG_LAYER_III")
        return _data_uri("audio/mpeg", sink.getvalue())
    soundfile.write(sink, values, rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", sink.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
