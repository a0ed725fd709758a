"""The plain door: the same training shards as an ordinary WebDataset pipeline, for code that already speaks it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile
import webdataset as wds

from vidaudio.errors import CorpusError
from vidaudio.stream.index import open_index


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
    return wds.WebDataset(urls if isinstance(urls, str) else list(urls), **options).map(decode_sample)


def decode_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """One raw WebDataset sample decoded; reads only the members that shards of ours have."""
    sound = sample.get("flac") or sample.get("wav")
    if sound is None:
        raise CorpusError(f"sample {sample.get('__key__')} of {sample.get('__url__')} has no sound; is this our shard?")
    audio, rate = soundfile.read(io.BytesIO(sound), dtype="int16")
    pictures = sorted(key for key in sample if key.endswith(".jpg"))
    return {
        "__key__": sample["__key__"],
        "audio": audio,
        "sample_rate": rate,
        "vectors": np.lib.format.read_array(io.BytesIO(sample["clip.npy"]), allow_pickle=False),
        "json": json.loads(sample["json"]),
        **({"images": [sample[key] for key in pictures]} if pictures else {}),
    }
