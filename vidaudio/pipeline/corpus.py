"""A corpus: the folder, the settings it was begun with, and its list. Opened by the driver and by every worker.

The list grows in parts. The first is `manifest.parquet`; rows that a later list adds, and failed clips that are to be
tried again, become a further part with shards of its own. A part is created exclusively and never changes, so what a
shard holds is settled for good the moment its part appears.
"""

from __future__ import annotations

import functools
import io
import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidaudio.errors import CorpusError
from vidaudio.manifest import SCHEMA, Clip, clips_from_table
from vidaudio.pipeline.plan import assign_shards, manifest_hash
from vidaudio.pipeline.recipe import CorpusRecipe, stable_hash
from vidaudio.recipes import check
from vidaudio.shards.store import Store, open_store

CORPUS_FILE = "corpus.json"
MANIFEST_FILE = "manifest.parquet"
PART_FILE = "manifest-{:06d}.parquet"
_PART_KEY = b"vidaudio"
FORMAT = 1
ROW_GROUP_CLIPS = 4096
# Where a run takes place and how it reaches the sites is its own affair; cookies and proxies may hold passwords.
NOT_KEPT = {"dask": True, "manifest": True, "corpus": True, "download": {"ytdlp", "rate"}}
RECORDED_VERSIONS = ("vidaudio", "av", "pillow", "soundfile", "open_clip_torch", "torch", "webdataset", "yt-dlp")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the list: its file, why it was made (`list`, `added` or `retry`), and its shards."""

    name: str
    kind: str
    first_shard: int
    shards: int
    clips: int


@dataclass(frozen=True)
class Corpus:
    """An opened corpus.

    Attributes:
        store: Its files.
        recipe: The settings it was begun with, dtype resolved.
        plan_hash: Of settings and first list; every committed table carries it.
        parts: Of the list, in order.
    """

    store: Store
    recipe: CorpusRecipe
    plan_hash: str
    parts: tuple[Part, ...]

    @property
    def shards(self) -> int:
        """Shards over all parts, numbered from 0."""
        return self.parts[-1].first_shard + self.parts[-1].shards

    @property
    def clips(self) -> int:
        """Clips; those that are tried again count once."""
        return sum(part.clips for part in self.parts if part.kind != "retry")

    @property
    def url(self) -> str:
        return self.store.url

    def rows(self, shard: int) -> list[Clip]:
        """The list's rows of one shard."""
        part = next(p for p in self.parts if p.first_shard <= shard < p.first_shard + p.shards)
        return clips_from_table(_read_part(self.store, part.name, filters=[("shard", "=", shard)]))

    def manifest(self) -> pa.Table:
        """Every clip once, in the shard that speaks for it: the newest, where it was tried again."""
        table = pa.concat_tables(_read_part(self.store, part.name) for part in self.parts)
        if all(part.kind != "retry" for part in self.parts):
            return table
        ids = table["id"].to_pandas()
        return table.filter(pa.array(~ids.duplicated(keep="last")))

    def superseded(self) -> dict[str, int]:
        """For clips that were tried again: the shard that speaks for each."""
        newest: dict[str, int] = {}
        for part in self.parts:
            if part.kind == "retry":
                table = _read_part(self.store, part.name, columns=["id", "shard"])
                newest.update(zip(table["id"].to_pylist(), table["shard"].to_pylist(), strict=True))
        return newest

    def clips_by_shard(self) -> list[int]:
        """How many rows each shard has."""
        columns = [_read_part(self.store, part.name, columns=["shard"])["shard"].to_numpy() for part in self.parts]
        return np.bincount(np.concatenate(columns), minlength=self.shards).tolist()

    def grown(self, rows: pa.Table, kind: str) -> Corpus:
        """The corpus with one more part, holding `rows` in new shards.

        Another build may add a part at the same moment: then nothing is written, and the corpus is as that one left it.
        """
        planned = assign_shards(rows, self.recipe.shard_clips)
        shards = planned["shard"][-1].as_py() + 1
        moved = pc.add(planned["shard"], self.shards).cast(pa.int32())
        planned = planned.set_column(planned.schema.get_field_index("shard"), planned.schema.field("shard"), moved)
        part = Part(PART_FILE.format(len(self.parts)), kind, self.shards, shards, rows.num_rows)
        self.store.create(part.name, _encode_part(planned, part))
        return open_corpus(self.url)


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(f"{url}/{CORPUS_FILE} is not JSON ({error})") from error
    if not isinstance(described, dict):
        raise CorpusError(f"{url}/{CORPUS_FILE} does not describe a corpus")
    if described.get("format") != FORMAT:
        raise CorpusError(f"{url} has corpus format {described.get('format')!r}; this version reads {FORMAT}")
    if not {"recipe", "plan_hash", "shards", "clips"} <= described.keys():
        raise CorpusError(f"{url}/{CORPUS_FILE} does not describe a corpus")
    recipe = check(CorpusRecipe, described["recipe"], f"{url}/{CORPUS_FILE}")
    parts = [Part(MANIFEST_FILE, "list", 0, described["shards"], described["clips"])]
    further = [name for name in store.list("") if name.startswith("manifest-") and name.endswith(".parquet")]
    for name in sorted(further):
        schema = pq.read_schema(_opened(store, name))
        parts.append(Part(**json.loads(schema.metadata[_PART_KEY])))
    return Corpus(store, recipe, described["plan_hash"], tuple(parts))


@functools.lru_cache(maxsize=8)
def cached_corpus(url: str, plan_hash: str, parts: int) -> Corpus:
    """`open_corpus`, once a process: a worker runs thousands of tasks on the same corpus.

    Args:
        url: Of the corpus.
        plan_hash: That the task was made for.
        parts: That the corpus had then; one that has grown since is opened anew.

    Raises:
        CorpusError: Another corpus than the task's stands there by now.
    """
    corpus = open_corpus(url)
    if corpus.plan_hash != plan_hash:
        raise CorpusError(f"the corpus at {url} is not the one this task belongs to; was it deleted and begun anew?")
    return corpus


def create_or_continue(url: str, recipe: CorpusRecipe, manifest) -> Corpus:
    """Begin a corpus, or open the one that stands there if it was begun with the same settings.

    Rows that the list has and the corpus has not become new shards at the end.

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
        "recipe": recipe.model_dump(mode="json", exclude=NOT_KEPT),
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
        if not first and manifest_hash(_read_part(store, MANIFEST_FILE)) != list_hash and not store.exists(CORPUS_FILE):
            raise CorpusError(
                f"{url} holds the {MANIFEST_FILE} of another list and no {CORPUS_FILE}: a build has just begun there, "
                f"or was interrupted as it began; name another folder, or delete {MANIFEST_FILE}"
            )
        store.create(CORPUS_FILE, json.dumps(described, indent=2, sort_keys=True).encode() + b"\n")
    standing = json.loads(store.read(CORPUS_FILE))
    was, now = _flat(standing.get("identity", {})), _flat(described["identity"])
    lines = [f"{key}: {was.get(key)!r} there, {now.get(key)!r} now" for key in sorted(now) if was.get(key) != now[key]]
    if lines:
        raise CorpusError(
            f"the corpus at {url} was begun with other settings, and committed shards never change: "
            f"{'; '.join(lines)}. Name another folder, or take the settings back."
        )
    corpus = open_corpus(url)
    if standing.get("manifest_sha256") == list_hash:
        return corpus
    while (added := _added_rows(corpus, manifest)) is not None:
        corpus = corpus.grown(added, "added")
    return corpus


def _added_rows(corpus: Corpus, manifest: pa.Table) -> pa.Table | None:
    """Rows of a list that the corpus has not; None where it has them all.

    Raises:
        CorpusError: Rows that it has are missing from the list or changed.
    """
    columns = [name for name in SCHEMA.names if name != "shard"]

    def contents(table: pa.Table) -> dict[str, tuple]:
        rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
        return {row[0]: tuple(map(repr, row)) for row in rows}

    there, now = contents(corpus.manifest()), contents(manifest)
    changed = [clip_id for clip_id, row in there.items() if now.get(clip_id) != row]
    if changed:
        missing = sum(clip_id not in now for clip_id in changed)
        raise CorpusError(
            f"the corpus at {corpus.url} was begun with another list, and committed shards never change: of its "
            f"{len(there)} clips {missing} are not in this list and {len(changed) - missing} differ, such as "
            f"{changed[0]}. Rows may only be added; name another folder, or take the list back."
        )
    added = pc.invert(pc.is_in(manifest["id"], pa.array(list(there))))
    rows = manifest.filter(added)
    return rows if rows.num_rows else None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _encode_part(planned: pa.Table, part: Part) -> bytes:
    sink = io.BytesIO()
    described = planned.replace_schema_metadata({_PART_KEY: json.dumps(asdict(part), sort_keys=True).encode()})
    pq.write_table(described, sink, compression="zstd", row_group_size=ROW_GROUP_CLIPS)
    return sink.getvalue()


def _read_part(store: Store, name: str, **options: Any) -> pa.Table:
    # The schema's metadata says what the part is, and tables that differ in it would not concatenate.
    try:
        return pq.read_table(_opened(store, name), use_threads=False, **options).replace_schema_metadata(None)
    except (pa.ArrowException, FileNotFoundError) as error:
        raise CorpusError(f"the list {store.url}/{name} is damaged ({str(error).splitlines()[0]})") from error


def _opened(store: Store, name: str) -> Any:
    local = store.local_path(name)
    return local if local is not None else io.BytesIO(store.read(name))
