"""Re-encoding of sampled pictures: checks that stored vectors belong to the stored pictures."""

from __future__ import annotations

import random
from collections.abc import Collection

import numpy as np

from vidaudio.corpus.columns import EMBED, EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import EncoderError, MediaError
from vidaudio.maintenance.verify.encoders import load_own_encoder
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.media.pictures import read_frame
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.read import TarReader

# Equal machines give equal bits; on other machines vectors have at least this cosine similarity.
LEAST_COSINE = 0.999
SHARDS = 8
PICTURES_A_SHARD = 8


def encode_again(
    corpus: Corpus,
    encoders: Collection[str],
    shards: dict[str, list[int]],
    findings: Findings,
    *,
    seed: int = 0,
    trusted: bool = False,
) -> None:
    """Encode pictures of a few shards again and compare the vectors.

    Args:
        corpus: Corpus to check.
        encoders: Names of the encoders whose vectors the corpus contains; only the recipe's own can be loaded.
        shards: By encoder, the shards whose pictures and vectors were found undamaged.
        findings: Findings that problems, notes and counts are added to.
        seed: Seed of the random choice of shards and pictures.
        trusted: Whether the encoder may be fetched, or read from any location that the corpus names.
    """
    if not encoders:
        return
    try:
        encoder = load_own_encoder(corpus, trusted=trusted)
    except EncoderError as error:
        findings.notes.append(f"no picture was encoded again: {error}")
        return
    if encoder.name not in encoders:
        findings.notes.append(f"no picture was encoded again: the encoder here is {encoder.name}, an other")
        return
    choice = random.Random(seed)
    sound = shards.get(encoder.name, [])
    for shard in sorted(choice.sample(sound, min(SHARDS, len(sound)))):
        _compare_shard(corpus, encoder, shard, choice, findings)


def _compare_shard(corpus: Corpus, encoder, shard: int, choice: random.Random, findings: Findings) -> None:
    name = table_name(EMBED.model_folder(encoder.name), shard)
    remedy = "delete it and build again"
    av, record = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    embedded, _ = read_table(corpus.store, name)
    tar_at = f"{EXTRACT.folder}/{record.tar}"
    rows = [row for row in av.to_pylist() if row["state"] == "done"]
    spans = [span for row in rows for span in zip(row["frame_offsets"], row["frame_lengths"], strict=True)]
    places = sorted(choice.sample(range(len(spans)), min(PICTURES_A_SHARD, len(spans))))
    squares = []
    with TarReader(corpus.store, tar_at, whole=False) as tar:
        for place in places:
            try:
                squares.append(encoder.square(read_frame(tar.read(*spans[place]), name="a picture")))
            except (MediaError, OSError, ValueError) as error:
                what = f"has a picture that does not decode ({error})"
                findings.add_problem(tar_at, what, "delete it and its table and build again")
                return
    if not places:
        return
    stored = np.stack(embedded["embedding"].take(places).to_numpy(zero_copy_only=False)).astype(np.float64)
    again = encoder.embed_squares(squares).astype(np.float64)
    norms = np.linalg.norm(stored, axis=1) * np.linalg.norm(again, axis=1)
    cosines = np.divide((stored * again).sum(1), norms, out=np.zeros(len(places)), where=norms > 0)
    findings.counts["frames_encoded_again"] += len(places)
    if cosines.min() < LEAST_COSINE:
        clip = embedded["id"][places[int(cosines.argmin())]].as_py()
        what = f"holds vectors of other pictures: one of {clip} agrees to {cosines.min():.4f} with its picture's"
        findings.add_problem(name, what, remedy)
