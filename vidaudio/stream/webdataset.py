"""The plain door: the same training shards as an ordinary WebDataset pipeline, for code that already speaks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds
from webdataset.cache import StreamingOpen

from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_json
from vidaudio.media.flac import BadSound, decode_sound
from vidaudio.paths import path_here
from vidaudio.stream.index import open_index
from vidaudio.stream.vector_files import read_vectors


def shard_urls(url: str, split: str | None = None) -> list[str]:
    """The training tars of a packed corpus, in order; of one split where it is named."""
    index = open_index(url, split)
    numbers = np.unique(index.column("shard"))
    local = index.store.local_path("")
    base = str(local) if local is not None else index.store.url
    return [f"{base.rstrip('/')}/{index.tars[number]}" for number in numbers]


def webdataset(urls: str | Sequence[str], **options: Any) -> wds.WebDataset:
    """A WebDataset over training shards, samples decoded.

    Args:
        urls: Tars, as `shard_urls` lists them, or anything `webdataset.WebDataset` takes.
        options: For `webdataset.WebDataset` (`shardshuffle`, `nodesplitter` ...); packed order by default.

    Yields dictionaries: `__key__`; `audio` int16 `[samples]`; `sample_rate` Hz; `vectors` float16 `[pictures, D]`;
    `json`, the sample's facts (id, source, labels, captions, split, times); and `images`, JPEG bytes, where the pack
    has frames.
    """
    if not urls:
        raise CorpusError("no shards were named")
    options = {"shardshuffle": False, **options}
    if isinstance(urls, str) and _local_file(urls) is not None:
        # A file's name, and not a pattern, whatever braces or `::` are in it.
        urls = [urls]
    dataset = wds.WebDataset(urls if isinstance(urls, str) else list(urls), **options)
    dataset.pipeline = [_FilesFirst(stage) if isinstance(stage, StreamingOpen) else stage for stage in dataset.pipeline]
    return dataset.map(decode_sample)


class _FilesFirst:
    """Opens files of this machine by their names as they are; whatever is none, as WebDataset does.

    WebDataset takes every name for a URL: it drops what follows `#` or `?`, and line ends.
    """

    def __init__(self, other: StreamingOpen) -> None:
        self._other = other

    def __call__(self, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for shard in shards:
            path = _local_file(shard["url"])
            if path is None:
                yield from self._other([shard])
            else:
                with path.open("rb") as stream:
                    yield {"url": shard["url"], "stream": stream, "local_path": str(path)}


def _local_file(url: str) -> Path | None:
    path = path_here(url)
    return path if path is not None and path.is_file() else None


def decode_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """One raw WebDataset sample decoded; reads only the members that shards of ours have."""
    sound = sample.get("flac") or sample.get("wav")
    if sound is None:
        raise CorpusError(f"sample {sample.get('__key__')} of {sample.get('__url__')} has no sound; is this our shard?")
    try:
        audio, rate = decode_sound(sound)
        vectors, facts = read_vectors(sample["clip.npy"]), parse_json(sample["json"])
    except (BadSound, KeyError, ValueError) as error:
        raise CorpusError(f"sample {sample.get('__key__')} of {sample.get('__url__')} is damaged ({error})") from error
    pictures = sorted(key for key in sample if key.endswith(".jpg"))
    return {
        "__key__": sample["__key__"],
        "audio": audio,
        "sample_rate": rate,
        "vectors": vectors,
        "json": facts,
        **({"images": [sample[key] for key in pictures]} if pictures else {}),
    }
