"""The list as `verify` looks things up in it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vidaudio.maintenance.verify import manifest_lookup
from vidaudio.maintenance.verify.manifest_lookup import ListedClips

ROWS = [{"id": f"c{n}", "split": None if n % 2 else "val", "labels": [str(n)] if n % 3 else None} for n in range(50)]


@pytest.mark.parametrize("hashes", [50, 7, 1])
def test_rows_are_found_by_id_whatever_their_hashes(monkeypatch: pytest.MonkeyPatch, hashes: int):
    def few(texts: pa.ChunkedArray) -> np.ndarray:
        return np.array([sum(map(ord, text)) % hashes for text in texts.to_pylist()], np.uint64)

    monkeypatch.setattr(manifest_lookup, "hashed", few)
    clips = ListedClips(pa.concat_tables(pa.Table.from_pylist(ROWS[n : n + 10]) for n in range(0, 50, 10)))
    assert clips.of(["c7", "nobody", "c49", "c7"]) == {"c7": ROWS[7], "c49": ROWS[49]}
    assert clips.of(row["id"] for row in ROWS) == {row["id"]: row for row in ROWS}
    assert clips.of([]) == clips.of(["nobody"]) == {}
