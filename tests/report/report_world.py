"""What tests of the report of a corpus share: hostile texts in a corpus's tables, and clips made by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.hostile_text import HOSTILE
from vidaudio.report.corpus import tables, vectors
from vidaudio.shards.commit import encode_table, read_table, table_name

SCRIPT = '</script><img src=x onerror="window.got=1"><script>window.got=1</script>\'"><svg onload=window.got=1>'
# Arrow's strings hold no lone surrogates.
TEXTS = [
    SCRIPT,
    "\0\x1b[31mred \u202egnp.exe\u2066 & &amp; <b> {{ 7 * 7 }}",
    HOSTILE.encode("utf-8", "ignore").decode(),
]


def copy_of(url: str, folder: Path) -> Path:
    """Copy a corpus without the logs of its runs."""
    return Path(shutil.copytree(url, folder / "corpus", ignore=shutil.ignore_patterns("runs")))


def rewrite(corpus: Path, folder: str, shard: int, change: Callable[[pa.Table], pa.Table]) -> None:
    """Commit another table in the place of a shard's, as somebody else's corpus may have it."""
    from vidaudio.shards.open import open_store

    store = open_store(str(corpus))
    name = table_name(folder, shard)
    table, record = read_table(store, name)
    (corpus / name).write_bytes(encode_table(change(table), record))


def hostile_pages(corpus: Path, shards: int) -> None:
    """Put hostile titles, uploaders and licences into the pages of all clips."""

    def change(table: pa.Table) -> pa.Table:
        infos = [
            json.dumps({"title": text, "uploader": text, "licence": text, "channel": 5})
            for text in (TEXTS[row % len(TEXTS)] for row in range(table.num_rows))
        ]
        return table.set_column(table.column_names.index("info"), "info", pa.array(infos, pa.string()))

    for shard in range(shards):
        rewrite(corpus, "clips", shard, change)


def hostile_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every clip of a list hostile labels and a hostile split while the list is read."""

    def changed(listed: pa.Table) -> pa.Table:
        labels = pa.array(
            [[TEXTS[row % len(TEXTS)], "a label"] for row in range(listed.num_rows)], pa.list_(pa.string())
        )
        listed = listed.set_column(listed.column_names.index("labels"), "labels", labels)
        if "split" not in listed.column_names:
            return listed
        splits = pa.array([TEXTS[0]] * listed.num_rows, pa.string())
        return listed.set_column(listed.column_names.index("split"), "split", splits)

    rows, by_shard = tables._rows, vectors.rows_by_shard
    monkeypatch.setattr(tables, "_rows", lambda shard, listed, *others: rows(shard, changed(listed), *others))
    monkeypatch.setattr(
        vectors, "rows_by_shard", lambda *asked: ((n, changed(listed)) for n, listed in by_shard(*asked))
    )
