"""Memory of `vidaudio verify`, over corpora of growing size.

    python -m benchmarks.verify_memory [--clips 100000 1000000]

The corpora are those of `benchmarks.pack_memory` with every table whole: 10-s clips in shards of 256, ten vectors a
clip, one pack with its index. They hold no media: the corpus is opened by a URL, as an object store would be, where no
tar outside the share is opened, and the share is too small for any. Each size is verified in a process of its own, and
must be found fine; its memory is what the process holds at most beside the pages of files that it has mapped, and the
same with them. `bytes_a_clip` is the growth between the smallest and the largest corpus; below 100,000 clips it says
nothing, since the shards at work take a few hundred megabytes at any size. A million clips take 0.5 GB of disk and, to
write and verify them, some minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from benchmarks.common import write_result
from benchmarks.pack_memory import (
    ENCODER,
    SECONDS,
    SHARD_CLIPS,
    SOUND_BYTES,
    bytes_a_clip,
    sizes,
    sizes_parser,
    watched,
    write_corpus,
)
from vidaudio.corpus.corpus import open_corpus
from vidaudio.errors import EncoderError
from vidaudio.maintenance.verify import VerifyReport, verify_corpus
from vidaudio.packs.write import write_pack_index
from vidaudio.pipeline.stages import embed
from vidaudio.shards.commit import CommitRecord, encode_table, read_table, table_name

DIMENSIONS = 512
TAR_SHA256 = "0" * 64
# Not 0, with which no vectors would be held to compare samples with.
NO_TAR = 1e-9


class FilesAsRemote(LocalFileSystem):
    """Files of this machine under `as-remote://`, for a store that takes them for another machine's."""

    protocol = "as-remote"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return LocalFileSystem._strip_protocol(str(path).removeprefix(f"{cls.protocol}://"))


fsspec.register_implementation(FilesAsRemote.protocol, FilesAsRemote)


def write_whole_corpus(folder: Path, clips: int) -> str:
    """A corpus of so many clips in which nothing is wrong, but that its tars are empty; returns its URL."""
    write_corpus(folder, clips)
    root = folder / "corpus"
    corpus = open_corpus(str(root))
    for shard in range(corpus.shards):
        facts, _ = read_table(corpus.store, table_name("av", shard))
        tar = f"{shard:06d}.{TAR_SHA256[:8]}.tar"
        record = CommitRecord("extract", shard, corpus.plan_hash, facts.num_rows, tar, TAR_SHA256, 0)
        (root / table_name("av", shard)).write_bytes(encode_table(facts, record))
        (root / "av" / tar).touch()
        vectors = _vectors(facts)
        record = CommitRecord("embed", shard, corpus.plan_hash, vectors.num_rows)
        (root / table_name(f"embeddings/{ENCODER}", shard)).write_bytes(encode_table(vectors, record))
    pack = f"training/{corpus.pack.name}"
    for table in (root / pack).glob("*-*.parquet"):
        table.with_suffix(".tar").write_bytes(bytes(SOUND_BYTES))
    write_pack_index(corpus, pack)
    return f"{FilesAsRemote.protocol}://{root}"


def _vectors(facts: pa.Table) -> pa.Table:
    """Vectors of zeros for every picture."""
    rows = facts.num_rows * SECONDS
    flat = pa.array(np.zeros(rows * DIMENSIONS, np.float16))
    return pa.table(
        {
            "id": facts["id"].take(pa.array(np.repeat(np.arange(facts.num_rows), SECONDS))),
            "frame_seconds": facts["frame_seconds"].combine_chunks().flatten(),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS),
        }
    )


def verify_alone(url: str) -> dict[str, float]:
    """Verify in this process, without the encoder, whose size has nothing to do with the corpus."""

    def out_of_reach(*_: object) -> None:
        raise EncoderError("left out of the measurement")

    embed.cached_encoder = out_of_reach
    reports: list[VerifyReport] = []
    found = watched(lambda: reports.append(verify_corpus(url, sample=NO_TAR, progress=False)))
    if not reports[0].ok:
        raise SystemExit(f"the measured corpus is to be found fine, and was not: {reports[0].problems[0]}")
    return found


def measure(clips: int) -> dict[str, float]:
    """What verifying takes for a corpus of so many clips."""
    with tempfile.TemporaryDirectory() as folder:
        url = write_whole_corpus(Path(folder), clips)
        command = [sys.executable, "-m", "benchmarks.verify_memory", "--verify", url]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(answer.splitlines()[-1])
    print(
        f"  {clips:>10,} clips {found['own_mb']:8.1f} MB, with mapped pages {found['with_mapped_mb']:8.1f} MB, "
        f"{found['seconds']:6.1f} s",
        flush=True,
    )
    return found


def main() -> None:
    parser = sizes_parser(__doc__)
    parser.add_argument("--verify", metavar="CORPUS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.verify:
        print(json.dumps(verify_alone(given.verify)))
        return
    found = {clips: measure(clips) for clips in sizes(given)}
    growth = bytes_a_clip({clips: took["own_mb"] for clips, took in found.items()})
    if growth is not None:
        print(f"  {growth} bytes a clip")
    results = {"rows": [{"clips": clips, **took} for clips, took in found.items()], "bytes_a_clip": growth}
    write_result("verify_memory", {"shard_clips": SHARD_CLIPS, "seconds": SECONDS, "quick": given.quick}, results)


if __name__ == "__main__":
    main()
