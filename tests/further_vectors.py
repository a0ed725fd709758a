"""Vectors of further encoders in a built corpus, made by hand: of pictures, of windows of time, and of texts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.corpus.columns import embedding_schema
from vidaudio.corpus.corpus import Corpus
from vidaudio.encoders.naming import description_bytes
from vidaudio.shards.commit import commit, read_table, table_name
from vidaudio.stream.index import INDEX_FILE, read_index, write_index
from vidaudio.stream.vector_columns import VectorInput, encoder_name

WINDOW_SECONDS, HOP_SECONDS = 1.0, 0.5
# The clip of the fixtures that has no vector of a text.
WITHOUT_TEXT = "clock"
_DIMENSIONS: dict[VectorInput, int] = {"frames": 16, "sound": 8, "text": 12}
FINGERPRINTS: dict[VectorInput, dict[str, Any]] = {
    kind: {
        "architecture": f"made-of-{kind}",
        "pretrained": None,
        "weights_sha256": f"{number}" * 64,
        "precision": "float32",
        "dimensions": _DIMENSIONS[kind],
    }
    for number, kind in enumerate(_DIMENSIONS)
}
FINGERPRINTS["sound"] |= {"input": "sound", "sample_rate": 16_000}
FINGERPRINTS["sound"] |= {"window_seconds": WINDOW_SECONDS, "hop_seconds": HOP_SECONDS}
FINGERPRINTS["text"] |= {"input": "text"}
PICTURES, SOUND, TEXT = (
    encoder_name(made["architecture"], made["precision"], made["weights_sha256"]) for made in FINGERPRINTS.values()
)


def add_vectors(corpus: Corpus, *, without_text: Collection[str] = ()) -> None:
    """Write all three into `embeddings/`, a table a shard; clips `without_text` have no vector of a text."""
    for kind, fingerprint in FINGERPRINTS.items():
        folder = f"embeddings/{(PICTURES, SOUND, TEXT)[list(FINGERPRINTS).index(kind)]}"
        assert corpus.store.create(f"{folder}/encoder.json", description_bytes(fingerprint))
        for shard in range(corpus.shards):
            labels = {clip.id: clip.labels for clip in corpus.rows(shard)}
            rows = []
            for fact in read_table(corpus.store, table_name("av", shard))[0].to_pylist():
                if fact["state"] == "done":
                    texts = () if fact["id"] in without_text else labels[fact["id"]]
                    rows += [(fact["id"], told) for told in _told(kind, fact, texts)]
            schema = embedding_schema(kind, fingerprint["dimensions"])
            columns = [[row[0] for row in rows], [row[1] for row in rows]]
            vectors = [vector_of(kind, *row).tolist() for row in rows]
            table = pa.table([*map(pa.array, columns), pa.array(vectors, schema.types[2])], schema.names).cast(schema)
            commit(corpus.store, folder, shard, stage="embed", plan_hash=corpus.plan_hash, table=table)


def own_encoder(corpus: Corpus) -> str:
    """The name of the encoder that the build used."""
    return next(name for name in corpus.store.folders("embeddings") if name not in (PICTURES, SOUND, TEXT))


def vector_of(kind: VectorInput, clip: str, told: float | str) -> np.ndarray:
    """The vector of a picture or window of time at some second, or of a text: always the same numbers."""
    draw = np.random.default_rng(zlib.crc32(f"{kind} {clip} {told}".encode()))
    return draw.normal(size=_DIMENSIONS[kind]).astype(np.float16)


def as_before(packed: Path) -> None:
    """Write index and pack.json as they were written before packs could hold vectors of several encoders."""
    table, described, _ = read_index(pa.BufferReader((packed / INDEX_FILE).read_bytes()))
    del described["vectors"]
    (packed / INDEX_FILE).unlink()
    write_index(packed / INDEX_FILE, table.replace_schema_metadata(None), described)
    described = json.loads((packed / "pack.json").read_text())
    del described["vectors"]
    (packed / "pack.json").write_bytes(json.dumps(described, indent=2, sort_keys=True).encode() + b"\n")


def _told(kind: VectorInput, fact: dict[str, Any], labels: Collection[str]) -> list[Any]:
    """What each vector of a clip is of."""
    if kind == "frames":
        return fact["frame_seconds"]
    if kind == "text":
        return [text for label in labels for text in (label, f"a sound of {label}", f"{label}, far away")]
    last = fact["samples"] / 16_000 - WINDOW_SECONDS
    return [fact["audio_start_seconds"] + HOP_SECONDS * n for n in range(max(1, 1 + int(last / HOP_SECONDS)))]
