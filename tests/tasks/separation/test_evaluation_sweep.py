"""Several runs over one test set: sweeps over a setting, noise heads kept or dropped, phrasings, sounds in files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from tests.trained import TINY
from vidaudio.cli.app import app
from vidaudio.errors import CheckpointError, MediaError, RecipeError
from vidaudio.separation import museval_scores
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate, plan
from vidaudio.tasks.separation.evaluation.methods import Estimator
from vidaudio.tasks.separation.evaluation.phrasings import Phrasing, load_phrasings
from vidaudio.tasks.separation.evaluation.score_files import score_files
from vidaudio.tasks.separation.evaluation.scorers import MEASURES
from vidaudio.tasks.separation.evaluation.sweep import Sweep, find_runs, run_sweep, write_sweep
from vidaudio.tasks.separation.evaluation.tables import as_markdown

runner = CliRunner()
GAMMAS = (0, 0.25)
SHORT = "schedule={steps: 2, warmup_steps: 1, decay_until_step: 2}"


@pytest.fixture(scope="module")
def nit_runs(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    folder = tmp_path_factory.mktemp("nit")
    for gamma in GAMMAS:
        recipe = load_train_recipe("clipsep_nit", (*TINY, SHORT, f"model.noise.gamma={gamma}"))
        train(recipe, str(packed), folder / f"gamma-{gamma}", progress=False)
    return folder


def test_a_sweep_finds_its_runs_by_what_they_were_trained_with(nit_runs: Path, trained: Path):
    sweep = Sweep.parse("gamma=0.25,0,1")
    assert sweep.key == "model.noise.gamma"
    # A folder of runs stands for them; a run without noise heads is none of them.
    found, missing, left_out = find_runs([nit_runs, trained], sweep)
    assert found == [(0.25, nit_runs / "gamma-0.25"), (0, nit_runs / "gamma-0")]
    assert missing == [1]
    assert left_out == [f"{trained} has no model.noise.gamma"]
    assert find_runs([nit_runs], Sweep.parse("gamma=0"))[2] == [f"{nit_runs / 'gamma-0.25'} has model.noise.gamma=0.25"]
    with pytest.raises(CheckpointError, match="none of the runs has model"):
        find_runs([trained], sweep)
    with pytest.raises(CheckpointError, match="both have"):
        find_runs([nit_runs / "gamma-0", nit_runs / "gamma-0"], sweep)
    with pytest.raises(RecipeError, match="KEY=VALUE"):
        Sweep.parse("gamma")
    with pytest.raises(RecipeError, match=r"no setting 'gama'; did you mean gamma\?"):
        Sweep.parse("gama=0,0.1")
    with pytest.raises(RecipeError, match=r"did you mean data\.batch_size\?"):
        Sweep.parse("data.batch_sizes=1")


def test_a_sweep_tabulates_and_draws(nit_runs: Path, trained: Path, packed: Path, tmp_path: Path):
    def evaluated(run: Path, heads: str):
        return evaluate(
            EvaluateRequest(
                run, TestMaterial(str(packed), mixtures=2), noise_heads=heads, scorer="batched", progress=False
            )
        )

    report = run_sweep([nit_runs, trained], Sweep.parse("gamma=0,0.25,0.5"), evaluated, ("drop", "keep"))
    assert [(value, heads) for value, heads, _ in report.points] == [
        (value, heads) for value in GAMMAS for heads in ("drop", "keep")
    ]
    write_sweep(report, tmp_path)
    table = (tmp_path / "sweep.md").read_text()
    kept = report.points[1][2].summary("text")
    gain = report.points[1][2].improvement("text", "si_sdr").mean
    assert f"| 0 | keep | {gain:.2f} / {kept.mean:.2f} ± {kept.standard_error:.2f} / {kept.median:.2f} * |" in table
    assert "No run was given for: 0.5." in table
    assert f"Runs left out: {trained} has no model.noise.gamma." in table
    assert (tmp_path / "sweep.svg").read_text().count("noise heads: keep") == 2
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert len(rows) == 4 * 5 * len(MEASURES)
    assert json.loads((tmp_path / "sweep.json").read_text())["missing"] == [0.5]


def test_kept_noise_heads_are_united_with_the_mask_as_in_training(nit_runs: Path, packed: Path):
    loaded = load_checkpoint(nit_runs / "gamma-0.25")
    _, tests = plan(loaded, TestMaterial(str(packed)))
    dropped = Estimator(loaded, tests, ["image"])
    kept = Estimator(loaded, tests, ["image"], noise_heads="keep")
    spectrum = loaded.model.front_end.stft(torch.rand(1, 8191))
    query = dropped._image(tests.items[0].target)[None, None]
    with torch.no_grad():
        united = kept._asked(spectrum, query)[0]
        mask = dropped._asked(spectrum, query)[0]
        noise = loaded.model.noise_masks(spectrum, query)[0]
    assert mask.shape[0] == 1
    assert united.shape[0] == noise.shape[0] == 2
    assert torch.allclose(united, torch.minimum(mask + noise, torch.ones(())), atol=1e-6)
    assert kept.estimate(tests.items[0]).names == (("image", 0), ("image", 1))


def test_phrasings_become_rows_and_the_papers_templates_give_the_papers_query(trained: Path, packed: Path):
    phrasings = load_phrasings("default")
    report = evaluate(
        EvaluateRequest(
            trained, TestMaterial(str(packed), mixtures=3), phrasings="default", scorer="batched", progress=False
        )
    )
    assert list(report.methods) == [
        "mixture",
        "text",
        "image",
        "wrong_text",
        "wrong_image",
        *(f"text: {p.name}" for p in phrasings),
    ]
    assert report.sdr["text: four templates"] == pytest.approx(report.sdr["text"], abs=1e-4)
    for text in (str(report), as_markdown([report])):
        assert "a wish: please let me hear {} and nothing else\n" in text
        assert "four templates: a photo of {} / a photo of the small {} / " in text
    assert report.as_dict()["phrasings"]["a scene"] == ("somewhere outside there is {}",)
    assert report.sdr["text: the bare label"] != pytest.approx(report.sdr["text"], abs=1e-4)
    with pytest.raises(ValueError, match="for the label, and there is at least one"):
        Phrasing(name="none", sentences=("hello",))


def test_the_command_sweeps(nit_runs: Path, packed: Path, tmp_path: Path):
    arguments = ["--data", str(packed), "--scorer", "batched", "--mixtures", "1", "--quiet", "--noise-heads", "both"]
    done = runner.invoke(app, ["evaluate", str(nit_runs), *arguments, "--sweep", "gamma=0,0.25", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "| 0.25 | keep |" in done.output
    assert (tmp_path / "sweep.svg").is_file()
    assert runner.invoke(app, ["evaluate", str(nit_runs / "gamma-0"), *arguments]).exit_code == 2


@pytest.fixture
def sounds(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    target, interference = rng.normal(0, 0.1, (2, 8000))
    made = {
        "mixture": target + interference,
        "target": target,
        "interference": interference,
        "estimate": target + 0.1 * interference,
        "swapped": interference + 0.1 * target,
    }
    for name, samples in made.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="FLOAT")
    return {name: tmp_path / f"{name}.wav" for name in made}


def test_files_are_scored_like_everything_else(sounds: dict[str, Path]):
    references = [sounds["mixture"], sounds["target"], sounds["interference"]]
    found = score_files(*references, [sounds["estimate"]])
    mixture, target, interference, estimate = (
        soundfile.read(sounds[name])[0] for name in ("mixture", "target", "interference", "estimate")
    )
    expected = museval_scores(np.stack([target, interference]), np.stack([estimate, mixture - estimate]))
    score = found.estimates[str(sounds["estimate"])]
    assert (score.sdr, score.sir, score.si_sdr) == (expected["sdr"], expected["sir"], expected["si_sdr"])
    assert score.sdr == pytest.approx(20, abs=0.5)
    assert found.mixture.sdr == pytest.approx(0, abs=0.5)
    assert found.residual_db < -100

    fast = score_files(*references, [sounds["swapped"]], or_rest=[sounds["swapped"]], scorer="batched")
    swapped = fast.estimates[str(sounds["swapped"])]
    assert swapped.candidate == 1
    assert swapped.sdr > 15


def test_the_command_scores_files(sounds: dict[str, Path], tmp_path: Path):
    paths = [str(sounds[name]) for name in ("mixture", "target", "interference", "estimate")]
    done = runner.invoke(app, ["evaluate", "--files", *paths, "--scorer", "batched", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["estimates"][paths[3]]["sdr"] == pytest.approx(20, abs=0.5)
    assert runner.invoke(app, ["evaluate", "--files", *paths[:3]]).exit_code == 2
    soundfile.write(tmp_path / "other.wav", np.zeros(100), 8000)
    with pytest.raises(MediaError, match="8000 Hz"):
        score_files(tmp_path / "other.wav", paths[1], paths[2], [paths[3]])
