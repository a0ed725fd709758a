"""The facts of a shard's clips as a table, which the extract stage writes, and the facts stage where it is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.corpus.columns import FACTS, FACTS_SCHEMA
from vidaudio.corpus.corpus import Corpus
from vidaudio.shards.commit import CommitRecord, encode_table, table_name

# Still, silent: in more than this share of pairs of pictures (Sphere360), or of the time.
STILL_SHARE = 0.85
SILENT_SHARE = 0.9


def facts_row(clip_id: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a clip.

    Args:
        clip_id: Of the clip.
        measured: What was measured, by field; see `vidaudio.media.facts.measure`. The envelopes are float16 arrays or
            their bytes; motion may be missing.
    """
    envelopes = {n: np.frombuffer(values, np.float16) for n, values in measured.items() if isinstance(values, bytes)}
    judged = {"still": measured["still_share"] > STILL_SHARE, "mostly_silent": measured["silent_share"] > SILENT_SHARE}
    return dict.fromkeys(FACTS_SCHEMA.names) | {"id": clip_id} | {**measured, **envelopes} | judged


def facts_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the table of some rows."""
    return pa.table({name: [row[name] for row in rows] for name in FACTS_SCHEMA.names}, schema=FACTS_SCHEMA)


def replace_facts(corpus: Corpus, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the facts of a shard that is not extracted yet, over those of an attempt that was killed."""
    table = facts_table(rows)
    record = CommitRecord(FACTS.stage, shard, corpus.plan_hash, table.num_rows)
    name, data = table_name(FACTS.folder, shard), encode_table(table, record)
    if not corpus.store.create(name, data) and corpus.store.read(name) != data:
        corpus.store.replace(name, data)
