"""Steps on a GPU are measured by training's own step, kept variant by variant, and read by whoever wants the rate."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks import tables
from benchmarks.gpu_steps import GENERATORS, SEPARATORS, loader_processes, main, measure, recipe_of
from benchmarks.gpu_steps_file import StepsFile, Variant
from benchmarks.loader_waiting import GPU_STEPS, wanted_rate
from vidaudio.config.recipes import load_values, recipe_names
from vidaudio.tasks.registry import TASKS

PLACE = {"machine": "a GPU, a processor", "commit": "abc1234", "cores": 4}
FIGURES = {
    "mixtures_per_second": 900.0, "slowest": 890.0, "fastest": 910.0, "sources": 2, "precision": "bf16-mixed",
    "teraflops": 400.0, "matrix_share": 0.5, "first_step_seconds": 30.0,
    "loader_windows_per_second": 1000.0, "loader_processes": 2,
    "fed_mixtures_per_second": 880.0,
}  # fmt: skip


def wanted(*systems: str, again: bool = False) -> argparse.Namespace:
    return argparse.Namespace(systems=systems, batch_size=None, quick=False, again=again)


def test_every_separator_but_the_demos_is_measured_as_it_stands():
    systems = {name: load_values(name, "train").get("system", name) for name in recipe_names("train")}
    separators = {name for name, system in systems.items() if "separation" in TASKS[system]}
    from_mixtures = {name for name, system in systems.items() if system.startswith(("bimodal", "mixit"))}
    assert set(SEPARATORS) == separators - {"demo"} - from_mixtures
    for system in SEPARATORS:
        recipe = recipe_of(system, True, batch_size=None, quick=False)
        assert recipe.compile
        assert (recipe.model.unet.levels, recipe.model.unet.width, recipe.model.front_end.frames) == (7, 64, 256)
        assert recipe.data.batch_size == (80 if system == "sop_original" else 32)
    assert recipe_of("pit", False, batch_size=5, quick=False).data.batch_size == 5


def test_a_generator_is_measured_as_it_stands():
    (system,) = GENERATORS
    recipe = recipe_of(system, True, batch_size=None, quick=False)
    assert (recipe.compile, recipe.channels_last, recipe.precision) == (True, True, "auto")
    assert (recipe.model.unet.channels, recipe.model.mel.bands, recipe.frames) == (160, 64, 320)
    assert recipe.data.batch_size == 32


def test_as_many_loaders_as_read_faster_than_is_trained():
    assert [loader_processes(rate, 2, 1000.0) for rate in (1.0, 500.0, 501.0, 2000.0)] == [1, 1, 2, 4]


def test_tried_on_a_processor_it_leaves_rows_that_the_loaders_benchmark_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    # `--device cpu` hides GPUs from the process: not from the tests after this one.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    output = tmp_path / "steps.json"
    systems = ("clipsep_hybrid", "labelsep", "clipsonic_iq")
    command = ["--device", "cpu", "--quick", "--systems", *systems, "--output", str(output)]
    before = GPU_STEPS.stat().st_mtime_ns if GPU_STEPS.is_file() else None
    main(command)
    assert before == (GPU_STEPS.stat().st_mtime_ns if GPU_STEPS.is_file() else None)
    written = json.loads(output.read_text())
    rows = {(row["system"], row["compiled"]): row for row in written["results"]}
    assert set(rows) == {(system, compiled) for system in systems for compiled in (False, True)}
    assert written["failed"] == []
    for row in rows.values():
        assert 0 < row["slowest"] <= row["mixtures_per_second"] <= row["fastest"]
        assert row["loader_processes"] == loader_processes(
            row["mixtures_per_second"], row["sources"], row["loader_windows_per_second"]
        )
        assert row["torch"] == torch.__version__
        assert row["quick"]
        assert 0 < row["matrix_share"] < 1
    assert {row["sources"] for row in rows.values() if row["system"] == "clipsonic_iq"} == {1}
    rate, origin = wanted_rate(output)
    assert rate == max(row["sources"] * row["mixtures_per_second"] for row in rows.values())
    assert origin.endswith("in steps.json")
    capsys.readouterr()
    main(command)
    assert capsys.readouterr().out.count("measured already") == 6
    assert json.loads(output.read_text()) == written


def test_a_variant_that_fails_is_noted_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "gpu_steps.json"
    asked: list[tuple[str, bool]] = []

    def short_of_memory(recipe) -> dict:
        asked.append((recipe.system, recipe.compile))
        if recipe.system == "clipsep":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the documentation")
        return FIGURES

    assert measure(StepsFile(path, {}), wanted("clipsep", "pit"), PLACE, short_of_memory) == 2
    assert asked == [("clipsep", False), ("clipsep", True), ("pit", False), ("pit", True)]
    written = json.loads(path.read_text())
    assert [row["system"] for row in written["results"]] == ["pit", "pit"]
    assert {row["sentence"] for row in written["failed"]} == {
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."
    }
    assert wanted_rate(path) == (1800.0, "pit in gpu_steps.json")
    # Now there is room: the file itself makes the tree dirty, and is no reason to measure anew.
    place = {**PLACE, "commit": "abc1234-dirty"}
    assert measure(StepsFile(path, {}), wanted("clipsep", "pit"), place, lambda recipe: FIGURES) == 0
    assert "pit, batches of 32: measured already" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["failed"] == []
    assert len(written["results"]) == 4


def test_another_commit_takes_a_rows_place_and_another_machine_does_not(tmp_path: Path):
    path = tmp_path / "gpu_steps.json"
    for place in (PLACE, {**PLACE, "commit": "fff0000"}, {**PLACE, "machine": "another GPU"}):
        measure(StepsFile(path, {}), wanted("pit"), place, lambda recipe: FIGURES)
    rows = json.loads(path.read_text())["results"]
    assert [(row["commit"], row["machine"], row["compiled"]) for row in rows] == [
        ("fff0000", PLACE["machine"], False), ("fff0000", PLACE["machine"], True),
        ("abc1234", "another GPU", False), ("abc1234", "another GPU", True),
    ]  # fmt: skip


def test_the_fastest_of_a_systems_variants_is_wanted(tmp_path: Path):
    path = tmp_path / "gpu_steps.json"
    rows = [{"system": "pit", "mixtures_per_second": rate} for rate in (700.0, 900.0, 800.0)]
    path.write_text(json.dumps({"results": rows}))
    assert wanted_rate(path) == (1800.0, "pit in gpu_steps.json")


def test_tables_are_printed_where_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    assert tables.newest() == {}
    described = {"cpu": "a processor", "cores": 4, "memory_gb": 8.0, "features": []}
    file = StepsFile(tmp_path / "gpu_steps.json", described)
    when = {"commit": "abc1234", "date": "2026-01-02"}
    file.add(Variant("pit", False, 32, "a GPU", quick=True), {**FIGURES, **when})
    assert tables.newest() == {}
    file.add(Variant("pit", False, 32, "a GPU", quick=False), {**FIGURES, **when})
    file.note_failure(Variant("pit", True, 32, "a GPU", quick=False), {"sentence": "no compiler", **when})
    printed = tables.tables_of(["gpu_steps"], tables.newest())
    assert "| pit | False | 32 | 900 |" in printed
    assert "| pit | True | 32 | no compiler |" in printed


def test_what_cannot_be_measured_or_read_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        main([])
    other = tmp_path / "other.json"
    for wrong in ("[]", '{"results": [{"system": "pit"}]}', "no JSON"):
        other.write_text(wrong)
        with pytest.raises(SystemExit, match=r"other\.json is no file of gpu_steps"):
            StepsFile(other, {})
