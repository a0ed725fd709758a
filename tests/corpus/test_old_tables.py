"""Corpora whose av tables were written before there were further columns are read as they were."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidaudio.config.corpus import CorpusRecipe
from vidaudio.corpus.columns import AV_SCHEMA, EXTRACT
from vidaudio.maintenance import notices
from vidaudio.media.outcomes import State

ADDED = ("time_jumps", "filled_seconds", "held_seconds", "audio_channel", "tone_mapped")


def row(clip: str, **facts: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(AV_SCHEMA.names) | {"id": clip, "state": State.DONE.value}
    zeros: Mapping[str, Any] = {"time_jumps": 0, "filled_seconds": 0.0, "held_seconds": 0.0, "tone_mapped": False}
    return values | zeros | {"audio_channel": "mix"} | facts


def parquet(table: pa.Table) -> pq.ParquetFile:
    file = io.BytesIO()
    pq.write_table(table, file)
    return pq.ParquetFile(file)


def counted(*rows: dict[str, Any], now: list[bool] | None = None) -> dict[str, Any]:
    table = pa.Table.from_pylist(list(rows), schema=AV_SCHEMA)
    states = table["state"].to_pylist()
    return notices.count_notices(parquet(table), states, now or [True] * len(rows))


def test_columns_were_added_at_the_end():
    assert tuple(AV_SCHEMA.names[-len(ADDED) :]) == ADDED


def test_an_older_table_is_completed():
    table = pa.Table.from_pylist([row("a"), row("b")], schema=AV_SCHEMA)
    older = table.drop_columns(list(ADDED))
    whole = EXTRACT.completed(older)
    assert whole.schema == AV_SCHEMA
    assert whole["time_jumps"].null_count == 2
    assert EXTRACT.completed(table) is table
    assert EXTRACT.completed(older.select(["id"]), ["id", "time_jumps"]).column_names == ["id", "time_jumps"]
    assert pa.concat_tables([whole, table]).num_rows == 4
    assert notices.count_notices(parquet(older), ["done", "done"], [True, True]) == notices.NONE


def test_what_was_mended_is_counted():
    assert counted(row("a"), row("b")) == notices.NONE
    found = counted(
        row("a", time_jumps=2, filled_seconds=1.5),
        row("b", audio_channel="1", tone_mapped=True),
        row("c", audio_channel="W", held_seconds=7.0),
        row("d", time_jumps=1, state=State.REMOVED.value),
    )
    assert found == {"time_jumps": 1, "filled_seconds": 1.5, "held_seconds": 7.0, "one_channel": 2, "tone_mapped": 1}
    assert counted(row("a", time_jumps=1), row("b"), now=[False, True])["time_jumps"] == 0


def test_nothing_is_read_where_there_is_nothing(monkeypatch: pytest.MonkeyPatch):
    file = parquet(pa.Table.from_pylist([row("a")], schema=AV_SCHEMA))
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("a column was read"))
    assert notices.count_notices(file, ["done"], [True]) == notices.NONE


def test_the_default_channel_leaves_a_corpus_what_it_was():
    assert "channel" not in CorpusRecipe().corpus_settings().identity()["extract"]
    chosen = CorpusRecipe.model_validate({"extract": {"channel": "left"}})
    assert chosen.corpus_settings().identity()["extract"]["channel"] == "left"
    assert CorpusRecipe.model_validate({"extract": {"channel": 3}}).extract.channel == 3
