"""What expressions mean: the same as plain Python says row by row, and the same as pandas said before."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.expressions.slow_language import TYPES, Writer, random_table
from vidaudio.expressions import Expression, kind_of

COLUMNS = {field.name: kind_of(field.type) for field in TYPES}


def held(text: str, table: pa.Table) -> list[bool]:
    expression = Expression.parse(text, COLUMNS)
    return expression.evaluate({name: table[name] for name in expression.columns}).tolist()


@pytest.mark.parametrize("seed", range(40))
def test_random_expressions_mean_what_python_says_of_every_row(seed: int):
    rng = random.Random(seed)
    table = random_table(rng, 50)
    rows = table.to_pylist()
    writer = Writer(rng)
    for _ in range(40):
        meant = writer.condition(rng.randrange(4))
        assert held(meant.text, table) == [bool(meant.value(row)) for row in rows], meant.text


def test_no_row_and_chunks_and_slices_give_the_same():
    table = random_table(random.Random(1), 60)
    whole = held("'dog' in labels or seconds > 1 or max(frame_seconds) > 2", table)
    pieces = pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)])
    assert held("'dog' in labels or seconds > 1 or max(frame_seconds) > 2", pieces) == whole
    assert held("'dog' in labels or seconds > 1 or max(frame_seconds) > 2", table.slice(13, 20)) == whole[13:33]
    assert held("silent and seconds > 1", table.slice(0, 0)) == []


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("seconds > 1 & decode_errors > 0 | silent", "((seconds > 1) and (decode_errors > 0)) or silent"),
        ("silent or silent and seconds > 1", "silent or (silent and (seconds > 1))"),
        ("not silent and seconds > 1", "(not silent) and (seconds > 1)"),
        ("not seconds > 1", "not (seconds > 1)"),
        ("~silent & seconds > 1", "(~silent) and (seconds > 1)"),
        ("1 + seconds * 2 > 3", "(1 + (seconds * 2)) > 3"),
        ("seconds - 1 - 1 > 0", "((seconds - 1) - 1) > 0"),
        ("-seconds + 3 > 0", "((-seconds) + 3) > 0"),
        ("seconds / 2 / 2 > 1", "((seconds / 2) / 2) > 1"),
        ("0 < seconds <= 3", "(0 < seconds) and (seconds <= 3)"),
        ("split not in ['dog'] and not silent", "(not (split in ['dog'])) and (not silent)"),
        ("not split in ['dog']", "split not in ['dog']"),
        ("seconds.between(1, 3)", "(1 <= seconds) and (seconds <= 3)"),
        ("split.isin(['dog', 'cat'])", "split in ('dog', 'cat')"),
        ("split == ['dog', 'cat']", "split in ['dog', 'cat']"),
        ("id\n  == 'dog'\n", "id == 'dog'"),
        ("id == '\\x64og'", 'id == "dog"'),
        ("seconds > 1_00.0e-2", "seconds > 1"),
        ("not not silent", "silent"),
        ("`seconds` > 1", "seconds > 1"),
    ],
)
def test_two_ways_to_write_the_same(text: str, same: str):
    table = random_table(random.Random(2), 200)
    assert held(text, table) == held(same, table)


@pytest.mark.parametrize(
    "text",
    [
        *("silent", "not silent", "~silent", "silent == True", "silent == 1", "silent != False", "(silent)"),
        *("seconds > 1", "not seconds > 1", "seconds != 1", "seconds == 1", "1 < seconds <= 3", "seconds >= -1"),
        *("split == 'dog'", "split != 'dog'", "not split == 'dog'", "split in ['dog', 'cat']", "split not in ['dog']"),
        *("split == ['dog', 'cat']", "id in ('dog',)", "split > 'cat'", "id <= 'dog'", "split.str.len() > 2"),
        *("labels.str.len() == 0", "frame_seconds.str.len() >= 2 & (seconds < 3)", "id.str.startswith('Do')"),
        *("labels.str.join(',').str.contains('dog')", "split.str.contains('o$')", "id.str.lower() == 'dog barking'"),
        *("seconds > 1 & decode_errors > 0", "seconds > 1 | not silent & decode_errors < 1", "split.isna()"),
        *("seconds + decode_errors * 2 > 1", "seconds / 0 > 1", "decode_errors // 2 == 1", "decode_errors % 2 == 1"),
        *("seconds in [1, 2.5]", "seconds not in [1, 2.5]", "seconds.notna() and split.notnull()", "sqrt(seconds) > 1"),
        *("id.str.endswith('g')", "id.str.upper() != 'DOG'", "abs(seconds) > 1", "seconds.abs() > 1", "-seconds > 0"),
    ],
)
def test_what_pandas_evaluated_before_means_the_same(text: str):
    table = random_table(random.Random(3), 300)
    # As the selection gave clips to pandas: no null where the extract stage never leaves one, no list is an empty one.
    filled = {
        "silent": pa.array([bool(value) for value in table["silent"].to_pylist()]),
        "decode_errors": pa.array([value or 0 for value in table["decode_errors"].to_pylist()], pa.int32()),
        "labels": pa.array([value or [] for value in table["labels"].to_pylist()], TYPES.field("labels").type),
        "frame_seconds": pa.array(
            [value or [] for value in table["frame_seconds"].to_pylist()], pa.list_(pa.float64())
        ),
    }
    for name, column in filled.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    clips = table.to_pandas()
    before = clips.eval(text, engine="python", local_dict={}, global_dict={})
    assert isinstance(before, pd.Series)
    assert held(text, table) == before.fillna(value=False).astype(bool).tolist()


def test_a_large_table_and_a_large_list_are_asked_at_once():
    rows = 20_000
    ids = [f"clip_{n}" for n in range(rows)]
    table = pa.table({"id": ids, "seconds": np.arange(rows, dtype=float)})
    wanted = ids[::25][:800]
    text = f"id in {wanted!r} and seconds >= 25"
    assert len(text) <= 15_000
    kinds = {name: COLUMNS[name] for name in ("id", "seconds")}
    few = Expression.parse(f"id in {wanted[:500]!r} and seconds >= 25", kinds)
    assert few.evaluate({name: table[name] for name in few.columns}).sum() == 499
