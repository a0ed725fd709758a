"""Search among many clips: time of a search, and how many of the ten nearest clips the cells find.

    python -m benchmarks.search [--clips 1000000] [--dimensions 512] [--queries 100] [--quick]

The vectors are synthetic: kinds of things around centres, in one cone, as CLIP's pictures are. Queries are like the
pictures, or of another cone, like CLIP's words. The index is built by the code of `vidaudio search`, written, and
opened as a search opens it. The time is that of one search, one at a time, without encoding the query; the time of the
processor is beside it, since the machine may be busy. The clips that are found are compared with the exact ten nearest,
found by comparing all vectors.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np

from benchmarks.common import write_result
from vidaudio.clip_search import index as clip_index
from vidaudio.clip_search.index import CellIndex, index_of
from vidaudio.clip_search.vectors import centred_query
from vidaudio.corpus.clip_vectors import ClipVectors
from vidaudio.correspondence.windows import unit

SHARD_CLIPS = 1000
KINDS = 1500
NEAREST = 10
PARTS = (32, 16, 8, 4)
BAR_SECONDS, BAR_RECALL = 0.2, 0.9


class World:
    """Synthetic vectors of clips: always the same for a seed.

    Args:
        clips: Number of clips.
        dimensions: Dimensions of the vectors.
        seed: Seed of everything.
    """

    def __init__(self, clips: int, dimensions: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.clips, self.dimensions, self.seed = clips, dimensions, seed
        self.cone, self.words_cone = unit(rng.standard_normal((2, dimensions), np.float32))
        self.kinds = unit(rng.standard_normal((KINDS, dimensions), np.float32))

    def parts(self, title: str = "") -> Iterator[ClipVectors]:
        """Yield the vectors, shard by shard."""
        print(f"  {title or 'comparing all'} ...", flush=True)
        for shard, first in enumerate(range(0, self.clips, SHARD_CLIPS)):
            rng = np.random.default_rng((self.seed, 1, shard))
            count = min(SHARD_CLIPS, self.clips - first)
            yield ClipVectors(shard, [f"clip{first + n:08d}" for n in range(count)], self._drawn(rng, count, self.cone))

    def queries(self, count: int, *, is_text: bool) -> np.ndarray:
        """Return queries like pictures or like words, float32 `[count, D]`."""
        rng = np.random.default_rng((self.seed, 2, int(is_text)))
        return self._drawn(rng, count, self.words_cone if is_text else self.cone)

    def _drawn(self, rng: np.random.Generator, count: int, cone: np.ndarray) -> np.ndarray:
        # Cosines of about 0.5 between any two pictures, and 0.75 within a kind.
        own = unit(rng.standard_normal((count, self.dimensions), np.float32))
        return unit(0.7 * cone + 0.5 * self.kinds[rng.integers(KINDS, size=count)] + 0.5 * own)


def exact_rows(world: World, index: CellIndex, asked: np.ndarray) -> np.ndarray:
    """Return the rows nearest to centred queries, int64 `[queries, NEAREST]`, by comparing all vectors."""
    best = np.full((len(asked), NEAREST), -np.inf, np.float32)
    rows = np.zeros(best.shape, np.int64)
    first = 0
    for part in world.parts():
        similarity = asked @ unit(part.vectors - index.mean).T
        together = np.concatenate([best, similarity], axis=1)
        numbers = np.concatenate([rows, np.tile(np.arange(first, first + len(part.ids)), (len(asked), 1))], axis=1)
        places = np.argpartition(-together, NEAREST, axis=1)[:, :NEAREST]
        best, rows = np.take_along_axis(together, places, 1), np.take_along_axis(numbers, places, 1)
        first += len(part.ids)
    return rows


def measured(index: CellIndex, queries: np.ndarray, exact: np.ndarray, probed: int, *, is_text: bool) -> dict:
    """Return times and recall of searches that look into so many cells."""
    # Another number of cells than that of `vidaudio search` is only measured, and no setting.
    clip_index.probed_cells = lambda _: probed  # type: ignore[assignment]
    shown = np.ones(len(index.ids), bool)
    seconds, cpu_seconds, recalls = [], [], []
    for query, wanted in zip(queries, exact, strict=True):
        began, cpu_began = time.perf_counter(), time.process_time()
        found = index.nearest(query, NEAREST, shown, is_text=is_text)
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - cpu_began)
        recalls.append(len(set(found.rows.tolist()) & set(wanted.tolist())) / NEAREST)
    row = {
        "queries": "words" if is_text else "pictures",
        "probed_cells": probed,
        "median_seconds": round(statistics.median(seconds), 4),
        "slowest_seconds": round(max(seconds), 4),
        "median_cpu_seconds": round(statistics.median(cpu_seconds), 4),
        "recall_at_10": round(statistics.mean(recalls), 4),
    }
    print("  " + ", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="Only try it: no result is written.")
    asked = parser.parse_args()
    world, number_probed = World(asked.clips, asked.dimensions), clip_index.probed_cells
    began = time.perf_counter()
    index = index_of(world.parts, world.clips)
    if index is None:
        raise SystemExit(f"{world.clips:,} vectors are compared one by one; ask for more with --clips")
    build_seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        faiss.write_index(index.cells, str(path))
        size = path.stat().st_size
        began = time.perf_counter()
        index = replace(index, cells=faiss.read_index(str(path), faiss.IO_FLAG_MMAP))
        open_seconds = time.perf_counter() - began
        queries = {is_text: world.queries(asked.queries, is_text=is_text) for is_text in (False, True)}
        centred = [centred_query(q, index.mean, is_text=is_text) for is_text, some in queries.items() for q in some]
        exact = exact_rows(world, index, np.stack(centred)).reshape(2, asked.queries, NEAREST)
        cells = index.cells.nlist
        default = number_probed(cells)
        rows = [
            measured(index, queries[is_text], exact[int(is_text)], probed, is_text=is_text)
            for is_text in (False, True)
            for probed in sorted({default, *(cells // part for part in PARTS)})
        ]
    used = [row for row in rows if row["probed_cells"] == default]
    results = {
        "build_seconds": round(build_seconds, 1),
        "open_seconds": round(open_seconds, 3),
        "index_bytes": size,
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "cells": cells,
        "probed_cells": default,
        "searches": rows,
        "meets_bars": all(r["median_seconds"] < BAR_SECONDS and r["recall_at_10"] >= BAR_RECALL for r in used),
    }
    settings = vars(asked) | {"threads": faiss.omp_get_max_threads()}
    write_result("search", settings, results)
    print(results)


if __name__ == "__main__":
    main()
