"""What becomes of measurements: nothing that was only tried counts, tables find their documents, costs their rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import common, cost, tables
from benchmarks.build import shares
from benchmarks.tables import PAGE
from benchmarks.training_tables import training_markdown, training_results

EXTRACTION = {"bare loop": [4.0, 5.0, 3.0], "stage": [3.6, 4.6, 2.8], "stage, fast": [5.0, 6.0, 4.0]}


@pytest.fixture
def results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (common, cost, tables):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_what_was_only_tried_leaves_nothing(results_folder: Path):
    assert common.report("extraction", EXTRACTION, "bare loop", {"quick": True}) is None
    assert not results_folder.exists()


def test_ratios_are_taken_inside_rounds(results_folder: Path):
    path = common.report("extraction", EXTRACTION, "bare loop", {"quick": False})
    rows = {row["name"]: row for row in json.loads(path.read_text())["results"]["contestants"]}
    assert rows["stage"] == {"name": "stage", "per_second": 3.6, "slowest": 2.8, "fastest": 4.6, "ratio": 0.92}
    assert rows["bare loop"]["ratio"] == 1


def test_costs_find_the_rates_that_benchmarks_leave(results_folder: Path):
    common.report("extraction", EXTRACTION, "bare loop", {"quick": False})
    common.report("embedding", {"model": [150.0], "stage": [140.0]}, "model", {"quick": False, "threads": 2})
    weights = {"media_bytes_per_clip": 900_000, "av_bytes_per_clip": 400_000}
    common.report("build", {"1 worker, 1 core": [2.0]}, "1 worker, 1 core", {"quick": False}, **weights)
    rates = cost.measured_rates(cost.newest_results())
    assert {name: rate.value for name, rate in rates.items()} == {
        "extract": 3.6,
        "embed": 140.0,
        "embed_cores": 2,
        "media_bytes": 900_000,
        "av_bytes": 400_000,
    }
    assert "?" not in cost.table(cost.newest_results())


def test_a_document_is_filled_between_its_marks_and_nowhere_else(results_folder: Path):
    common.report("extraction", EXTRACTION, "bare loop", {"quick": False})
    document = "before\n\n<!-- results: extraction -->\nold\n<!-- end of results -->\n\nafter\n"
    once = tables.filled(document, tables.newest(), "a.md")
    assert once.startswith("before\n\n<!-- results: extraction -->\n\n**extraction**")
    assert once.endswith("<!-- end of results -->\n\nafter\n")
    assert "| stage | 3.6 | 2.8 | 4.6 | 0.92 |" in once
    assert "old" not in once
    assert tables.filled(once, tables.newest(), "a.md") == once


def test_a_document_without_marks_or_results_is_named(results_folder: Path):
    with pytest.raises(SystemExit, match=r"a\.md has no"):
        tables.filled("nothing", {}, "a.md")
    with pytest.raises(SystemExit, match=r"no result of loader .* benchmarks\.loader"):
        tables.filled("<!-- results: loader -->\n<!-- end of results -->", {}, "a.md")


def test_rows_of_different_columns_stand_under_their_own():
    table = tables.rows_table([{"a": 1, "b": "x"}, {"b": "y", "c_d": 2.5}])
    assert table.splitlines() == ["| a | b | c d |", "| ---: | --- | ---: |", "| 1 | x |  |", "|  | y | 2.5 |"]


def test_shares_of_a_build_are_all_of_it():
    tasks = [["extract", 5.0], ["embed", 3.0], ["extract", 2.0], ["embed", 1.0], ["extract", 2.0], ["embed", 1.0]]
    rows = shares([{"wall": {"shards": 15.0, "packs": 1.0}, "tasks": tasks, "clips": 10}])
    assert {row["part"]: row["seconds"] for row in rows} == {
        "extract": 6.0,
        "embed": 3.0,
        "once a worker": 5.0,
        "between tasks": 2.0,
    }
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_the_page_of_results_is_made_of_the_committed_ones():
    page = Path(__file__).resolve().parents[2] / "docs" / "results.md"
    assert page.read_text() == PAGE + training_markdown(training_results()) + "\n"
