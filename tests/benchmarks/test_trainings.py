"""Benchmark trainings: budgets that fit their systems, runs that stop and go on, tables of trained rows alone."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks import common, tables, training_tables, trainings
from benchmarks.trainings import (
    OutOfTime,
    TrainingJob,
    interrupted_after,
    load_budget,
    recipe_of,
    run_jobs,
    validation_curve,
)
from tests.packed import make_packed
from tests.trained import TINY
from vidaudio.stream.index import NO_VECTORS
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate

FACTS = {"trained_on": "drawings", "steps": 10, "weights_sha256": "abc", "measured": {"accuracy": 0.9}}
EIGHT = ["clipsep", "clipsep_nit", "clipsep_text", "clipsep_hybrid", "labelsep", "bertsep", "sop", "pit"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    """LabelSep at a tiny size, with a folder of results of its own."""
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    data = make_packed(tmp_path / "data", NO_VECTORS, clips_per_split={"train": 9, "val": 6, "test": 6})
    recipe = load_train_recipe("labelsep", (*TINY, "data={batch_size: 2, workers: 0}"))
    return TrainingJob("systems", recipe, data, tmp_path / "run", recipe.schedule.steps, told={"world_seed": 0})


def _score(job: TrainingJob) -> dict:
    return trainings.summaries(
        evaluate(EvaluateRequest(job.run, TestMaterial(str(job.data), mixtures=2), progress=False))
    )


def test_every_system_has_one_budget():
    budgets = [load_budget(table) for table in ("gap", "systems")]
    owners = {system: budget for budget in budgets for system in budget.systems if "+" not in system}
    assert sorted(owners) == sorted(EIGHT)
    recipes = [recipe_of(owners[system], system, 3) for system in EIGHT]
    assert [recipe.system for recipe in recipes] == EIGHT
    for part in ("schedule", "data", "optimiser", "validation", "seed"):
        assert (
            len({getattr(recipe, part) if part == "seed" else repr(getattr(recipe, part)) for recipe in recipes}) == 1
        )
    assert {(repr(recipe.model.unet), repr(recipe.model.front_end)) for recipe in recipes} == {
        (repr(recipes[0].model.unet), repr(recipes[0].model.front_end))
    }
    assert recipes[0].seed == 3
    # The demo asks through retrieval; systems of a table are asked in words as they are, unless a row says otherwise.
    assert load_train_recipe("demo").query.gap.ask == "retrieval"
    assert {recipe.query.gap.ask for recipe in recipes} == {"none"}


def test_every_table_is_of_recipes_that_hold():
    assert load_budget("noisy").seeds == (0, 1, 2)
    for table in ("noisy", "selection", "esc10", "esc10_words"):
        budget = load_budget(table)
        for system in budget.systems:
            vectors = {"vectors": "table.npz"} if system == "clipsep_text" else {}
            recipe = recipe_of(budget, system, 0, steps=7, **vectors)
            assert (recipe.schedule.steps, recipe.schedule.decay_until_step) == (7, 7)
    assert set(training_tables.TITLES) == {path.stem for path in trainings.RECIPES.glob("*.yaml")}


def test_a_run_is_trained_measured_and_written_once(job: TrainingJob):
    assert run_jobs([job], _score)
    (path,) = common.RESULTS.glob("*.json")
    written = json.loads(path.read_text())
    settings = written["settings"]
    assert written["benchmark"] == job.name == "systems_labelsep_seed1234_8steps"
    assert (settings["steps"], settings["mixtures"], settings["train_query"]) == (8, 16, "label")
    assert settings["seconds"] > 0
    assert written["machine"]["cores"] >= 1
    assert written["results"]["summaries"]["text"]["sdr"]["count"] == 2
    stamp = path.stat().st_mtime_ns
    assert run_jobs([job], _score)
    assert path.stat().st_mtime_ns == stamp


def test_a_run_that_is_stopped_goes_on_and_ends_as_if_it_had_not_been(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, stopped = trainings.train, []

    def stops_once(recipe, data, run, **options):
        if not stopped:
            stopped.append(run)
            half = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"steps": 4})})
            real(half, data, run, progress=False, **options)
            raise KeyboardInterrupt
        return real(recipe, data, run, progress=False, **options)

    monkeypatch.setattr(trainings, "train", stops_once)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], _score)
    assert not common.RESULTS.exists()
    assert run_jobs([job], _score)
    parts = json.loads((job.run / trainings.PARTS_FILE).read_text())
    assert [part["finished"] for part in parts] == [False, True]

    straight = dataclasses.replace(job, run=tmp_path / "straight")
    assert run_jobs([straight], _score)
    whole, resumed = (load_checkpoint(run.run).model.state_dict() for run in (straight, job))
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_when_time_is_over_nothing_is_begun(job: TrainingJob, capsys: pytest.CaptureFixture):
    assert not run_jobs([job], _score, until=time.monotonic())
    assert not job.run.exists()
    assert f"goes on with {job.name}" in capsys.readouterr().out


def test_the_time_that_is_over_is_not_ctrl_c():
    with pytest.raises(OutOfTime), interrupted_after(0.01):
        signal.sigtimedwait([], 60)
    with pytest.raises(KeyboardInterrupt), interrupted_after(600):
        os.kill(os.getpid(), signal.SIGINT)
    with interrupted_after(None):
        pass


def test_time_is_over_in_the_background_too_where_a_shell_has_ctrl_c_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(OutOfTime), interrupted_after(0.01):
            signal.sigtimedwait([], 60)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_mere_try_leaves_no_result(job: TrainingJob):
    assert run_jobs([dataclasses.replace(job, budget_steps=100)], _score)
    assert not list(common.RESULTS.glob("*.json"))


def _result(system: str, seed: int, mean: float, encoder: dict | None, **settings) -> dict:
    summary = {"mean": mean, "standard_error": 0.5, "median": mean, "count": 9}
    settings = {
        "kind": "training", "table": "systems", "system": system, "seed": seed, "steps": 100, "batch_size": 16,
        "mixtures": 1600, "train_query": "image", "encoder": encoder, "quick": False, "seconds": 60.0,
        "commits": ["abc1234"], **settings,
    }  # fmt: skip
    asked = {"sdr": summary, "sdr_improvement": {**summary, "mean": mean - 1}}
    mixture = {"sdr": {**summary, "mean": 1.0}, "sdr_improvement": {**summary, "mean": 0.0}}
    return {
        "benchmark": f"systems_{system}_seed{seed}_{settings['steps']}steps", "commit": "abc1234",
        "date": "2026-01-01T00:00:00Z", "machine": common.machine(), "settings": settings,
        "results": {"summaries": {"mixture": mixture, "text": asked}, "mixtures": 9, "protocol": "split test"},
    }  # fmt: skip


def _write(results: list[dict]) -> None:
    common.RESULTS.mkdir(exist_ok=True)
    for number, result in enumerate(results):
        (common.RESULTS / f"{number}.json").write_text(json.dumps(result))


def test_no_row_with_an_untrained_encoder_is_printed(job: TrainingJob):
    untrained = [None, {}, FACTS | {"steps": 0}, FACTS | {"measured": {}}, FACTS | {"weights_sha256": ""}]
    for encoder in untrained:
        _write([_result("bertsep", 0, 5.0, encoder)])
        assert training_tables.training_markdown(training_tables.training_results()) == ""
    _write([_result("bertsep", 0, 5.0, FACTS), _result("labelsep", 0, 4.0, None)])
    page = training_tables.training_markdown(training_tables.training_results())
    assert "| BERTSep | image | 1,600 | 1 | 5.00 ± 0.50 (+4.00) |" in page
    assert "| LabelSep | image |" in page
    assert "| BERTSep | drawings | 10 | accuracy 0.9 |" in page


def test_seeds_make_one_row_and_budgets_rows_of_their_own(job: TrainingJob):
    seeds = [_result("clipsep", seed, mean, FACTS) for seed, mean in enumerate((4.0, 5.0, 6.0))]
    longer = _result("clipsep", 0, 9.0, FACTS, steps=200, mixtures=3200)
    tried = _result("clipsep_nit", 0, 9.0, FACTS, quick=True)
    _write([*seeds, longer, tried])
    page = training_tables.training_markdown(training_tables.training_results())
    assert "| CLIPSep | image | 1,600 | 3 | 5.00 ± 0.58 (+4.00) |" in page
    assert "| CLIPSep | image | 3,200 | 1 | 9.00 ± 0.50 (+8.00) |" in page
    assert "CLIPSep-NIT" not in page


def test_a_cell_has_si_sdr_first_and_what_asking_brings(job: TrainingJob):
    result = _result("clipsep", 0, 5.0, FACTS)
    asked = result["results"]["summaries"]["text"]
    asked |= {"si_sdr_improvement": {"mean": 0.1}, "over_wrong": {"mean": 0.05}, "gain_of_asking": False}
    _write([result])
    page = training_tables.training_markdown(training_tables.training_results())
    assert "| +0.10; 5.00 ± 0.50 (none (+4.00), +0.05 over wrong) |" in page
    assert "the gain over a query for a sound that is not there" in page


def test_the_page_is_written_with_and_without_results(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["tables", "--write", str(tmp_path / "page.md")])
    tables.main()
    assert "No run is finished yet." in (tmp_path / "page.md").read_text()
    _write([_result("labelsep", 0, 4.0, None)])
    tables.main()
    assert "| LabelSep |" in (tmp_path / "page.md").read_text()


def test_the_validation_curve_is_that_of_the_log_and_the_table_says_what_its_end_did(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    rows = ["step,train/loss,validation/si_sdr_improvement", "10,1.0,", "80,0.9,4.0", "90,0.9,", "100,0.8,4.25"]
    (tmp_path / "logs" / "metrics.csv").write_text("\n".join(rows))
    curve = validation_curve(tmp_path)
    assert curve == {"80": 4.0, "100": 4.25}
    known = {"settings": {"steps": 100}, "results": {"validation_curve": curve}}
    unknown = {"settings": {"steps": 100}, "results": {}}
    assert "changed by +0.25 dB on average (+0.25 to +0.25, 1 run)" in training_tables._flatness([known, unknown])
    assert training_tables._flatness([unknown]) == ""
