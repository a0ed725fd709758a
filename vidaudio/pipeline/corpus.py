"""A corpus: the folder, the settings it was begun with, and its manifest. Opened by the driver and by every worker."""

from __future__ import annotations

import functools
import io
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from vidaudio.errors import CorpusError
from vidaudio.manifest import Clip, clips_from_table
from vidaudio.pipeline.plan import assign_shards, manifest_hash
from vidaudio.pipeline.recipe import CorpusRecipe, stable_hash
from vidaudio.recipes import check
from vidaudio.shards.store import Store, open_store

CORPUS_FILE = "corpus.json"
MANIFEST_FILE = "manifest.parquet"
FORMAT = 1
ROW_GROUP_CLIPS = 4096
RECORDED_VERSIONS = ("vidaudio", "av", "pillow", "soundfile", "open_clip_torch", "torch", "webdataset", "yt-dlp")


@dataclass(frozen=True)
class Corpus:
    """An opened corpus.

    Attributes:
        store: Its files.
        recipe: The settings it was begun with, dtype resolved.
        plan_hash: Of settings and manifest; every committed table carries it.
        shards: How many.
        clips: How many, over all shards.
    """

    store: Store
    recipe: CorpusRecipe
    plan_hash: str
    shards: int
    clips: int

    @property
    def url(self) -> str:
        return self.store.url

    def rows(self, shard: int) -> list[Clip]:
        """The manifest's rows of one shard."""
        table = _read_manifest(self.store, filters=[("shard", "=", shard)])
        return clips_from_table(table)

    def manifest(self):
        """The whole manifest as an Arrow table."""
        return _read_manifest(self.store)

    def clips_by_shard(self) -> list[int]:
        """How many clips each shard has."""
        shards = _read_manifest(self.store, columns=["shard"])["shard"].to_numpy()
        return np.bincount(shards, minlength=self.shards).tolist()


def open_corpus(url: str) -> Corpus:
    """Open a corpus that exists.

    Raises:
        CorpusError: There is none, or it is of a newer format.
    """
    store = open_store(url)
    if not store.exists(CORPUS_FILE):
        raise CorpusError(f"there is no corpus at {url} (no {CORPUS_FILE}); `vidaudio build` makes one")
    try:
        described = json.loads(store.read(CORPUS_FILE))
    except json.JSONDecodeError as error:
        raise CorpusError(f"{url}/{CORPUS_FILE} is not JSON ({error})") from error
    if described.get("format") != FORMAT:
        raise CorpusError(f"{url} has corpus format {described.get('format')!r}; this version reads {FORMAT}")
    recipe = check(CorpusRecipe, described["recipe"], f"{url}/{CORPUS_FILE}")
    return Corpus(store, recipe, described["plan_hash"], described["shards"], described["clips"])


@functools.lru_cache(maxsize=8)
def cached_corpus(url: str, plan_hash: str) -> Corpus:
    """`open_corpus`, once a process: a worker runs thousands of tasks on the same corpus.

    Raises:
        CorpusError: Another corpus than the task's stands there by now.
    """
    corpus = open_corpus(url)
    if corpus.plan_hash != plan_hash:
        raise CorpusError(f"the corpus at {url} is not the one this task belongs to; was it deleted and begun anew?")
    return corpus


def create_or_continue(url: str, recipe: CorpusRecipe, manifest) -> Corpus:
    """Begin a corpus, or open the one that stands there if it was begun with the same settings and list.

    Args:
        url: Where the corpus is or will be.
        recipe: Settings, dtype resolved.
        manifest: Arrow table of the list.

    Raises:
        CorpusError: It was begun otherwise; names every difference. Nothing is changed.
    """
    store = open_store(url)
    planned = assign_shards(manifest, recipe.shard_clips)
    list_hash = manifest_hash(planned)
    described = {
        "format": FORMAT,
        "plan_hash": stable_hash({"settings": recipe.identity(), "manifest": list_hash}),
        "recipe": recipe.model_dump(mode="json", exclude={"dask", "manifest", "corpus"}),
        "identity": recipe.identity(),
        "manifest_sha256": list_hash,
        "clips": planned.num_rows,
        "shards": planned["shard"][-1].as_py() + 1,
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
        "machine": platform.machine(),
    }
    if not store.exists(CORPUS_FILE):
        sink = io.BytesIO()
        pq.write_table(planned, sink, compression="zstd", row_group_size=ROW_GROUP_CLIPS)
        # The manifest first: a corpus exists once corpus.json does, and must then be whole.
        first = store.create(MANIFEST_FILE, sink.getvalue())
        if not first and manifest_hash(_read_manifest(store)) != list_hash and not store.exists(CORPUS_FILE):
            raise CorpusError(
                f"{url} holds the {MANIFEST_FILE} of another list and no {CORPUS_FILE}: a build has just begun there, "
                f"or was interrupted as it began; name another folder, or delete {MANIFEST_FILE}"
            )
        store.create(CORPUS_FILE, json.dumps(described, indent=2, sort_keys=True).encode() + b"\n")
    standing = json.loads(store.read(CORPUS_FILE))
    if standing.get("plan_hash") != described["plan_hash"]:
        raise CorpusError(_differences(url, standing, described))
    return open_corpus(url)


def _differences(url: str, standing: dict[str, Any], wanted: dict[str, Any]) -> str:
    was, now = _flat(standing.get("identity", {})), _flat(wanted["identity"])
    lines = [f"{key}: {was.get(key)!r} there, {now.get(key)!r} now" for key in sorted(now) if was.get(key) != now[key]]
    if standing.get("manifest_sha256") != wanted["manifest_sha256"]:
        lines.append(f"the list: {standing.get('clips')} clips there, {wanted['clips']} now, or other contents")
    return (
        f"the corpus at {url} was begun with other settings, and committed shards never change: {'; '.join(lines)}. "
        "Name another folder, or take the settings back."
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _read_manifest(store: Store, **options: Any):
    local = store.local_path(MANIFEST_FILE)
    source = local if local is not None else io.BytesIO(store.read(MANIFEST_FILE))
    return pq.read_table(source, **options)
