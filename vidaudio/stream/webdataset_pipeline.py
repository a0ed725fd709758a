"""Training shards as an ordinary WebDataset pipeline, for code that already uses WebDataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds
from webdataset.cache import StreamingOpen

from vidaudio.errors import PackError, UsageError
from vidaudio.json_values import parse_json
from vidaudio.media.flac import BadSound, decode_sound
from vidaudio.paths import path_here
from vidaudio.stream.index import open_index
from vidaudio.stream.vector_columns import OWN_MEMBER
from vidaudio.stream.vector_files import read_vectors


def shard_urls(url: str, split: str | None = None) -> list[str]:
    """Return the training tars of a packed corpus, in order; with `split`, only the tars of that split."""
    index = open_index(url, split)
    numbers = np.unique(index.column("shard"))
    local = index.store.local_path("")
    base = str(local) if local is not None else index.store.url
    return [f"{base.rstrip('/')}/{index.tars[number]}" for number in numbers]


def webdataset(urls: str | Sequence[str], **options: Any) -> wds.WebDataset:
    """Return a WebDataset over training shards, with decoded samples.

    The samples are dictionaries: `__key__`; `audio` int16 `[samples]`; `sample_rate` Hz; `vectors` float16 `[pictures,
    D]` of the corpus's own encoder; `json`, the sample's metadata (id, source, labels, captions, split, times);
    `further_vectors`, a dictionary of the vectors of other encoders by name, if the pack has any (the metadata then
    says which times or texts they are of); and `images`, JPEG bytes, if the pack has frames.

    Args:
        urls: Tars, as returned by `shard_urls`, or anything that `webdataset.WebDataset` takes.
        options: Options of `webdataset.WebDataset` (`shardshuffle`, `nodesplitter` ...); the order is the packed one by
            default.

    Raises:
        UsageError: When `urls` is empty.
    """
    if not urls:
        raise UsageError("no shards were named")
    options = {"shardshuffle": False, **options}
    if isinstance(urls, str) and _local_file(urls) is not None:
        # The name of a file, not a pattern, even if it contains braces or `::`.
        urls = [urls]
    dataset = wds.WebDataset(urls if isinstance(urls, str) else list(urls), **options)
    dataset.pipeline = [_FilesFirst(stage) if isinstance(stage, StreamingOpen) else stage for stage in dataset.pipeline]
    return dataset.map(decode_sample)


class _FilesFirst:
    """A pipeline stage that opens local files by their exact names, and everything else as WebDataset does.

    WebDataset treats every name as a URL: it drops what follows `#` or `?`, and line ends.
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
    """Decode one raw WebDataset sample; only the members that a training shard has are read.

    Raises:
        PackError: When the sample has no sound or is damaged.
    """
    sound = sample.get("flac") or sample.get("wav")
    if sound is None:
        raise PackError(f"sample {sample.get('__key__')} of {sample.get('__url__')} has no sound; is this our shard?")
    try:
        audio, rate = decode_sound(sound)
        facts = parse_json(sample["json"])
        found = {key.removesuffix(".npy"): read_vectors(sample[key]) for key in sample if key.endswith(".npy")}
        own = found.pop(OWN_MEMBER.removesuffix(".npy"), None)
        if own is None and not found:
            raise KeyError(OWN_MEMBER)
    except (BadSound, KeyError, ValueError) as error:
        raise PackError(f"sample {sample.get('__key__')} of {sample.get('__url__')} is damaged ({error})") from error
    pictures = sorted(key for key in sample if key.endswith(".jpg"))
    return {
        "__key__": sample["__key__"],
        "audio": audio,
        "sample_rate": rate,
        **({"vectors": own} if own is not None else {}),
        **({"further_vectors": found} if found else {}),
        "json": facts,
        **({"images": [sample[key] for key in pictures]} if pictures else {}),
    }
