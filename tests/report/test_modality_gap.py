"""`vidaudio gap`: what it measures, fits and writes; its page in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.packed import make_packed
from vidaudio import gap
from vidaudio.cli.app import app
from vidaudio.errors import GapError, PackError
from vidaudio.modality_gap import load_method
from vidaudio.report.modality_gap import AS_IT_IS

QUICK = ("mean_shift", "ridge")


@pytest.fixture(scope="module")
def report_folder(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gap")
    gap(packed, fit=QUICK, output=folder)
    return folder


def test_methods_are_fitted_to_train_and_measured_on_val(packed: Path, encoder_fingerprint: dict):
    report = gap(packed, fit=QUICK)
    assert (report.split, report.pictures, report.texts) == ("val", 6, ("high", "low", "middle"))
    assert list(report.rows) == [AS_IT_IS, *QUICK]
    assert report.rows["mean_shift"].centroid_distance < 0.5 * report.rows[AS_IT_IS].centroid_distance
    # Texts of an untrained encoder say nothing about a label; pairs do.
    assert report.rows["ridge"].text_recall == 1


def test_the_files_are_of_the_packs_encoder(report_folder: Path, encoder_fingerprint: dict):
    assert sorted(path.name for path in report_folder.iterdir()) == [
        "gap.html",
        "mean_shift.safetensors",
        "ridge.safetensors",
    ]
    for name in QUICK:
        method = load_method(report_folder / f"{name}.safetensors", encoder=encoder_fingerprint["weights_sha256"])
        assert method.name == name


def test_the_command_says_what_the_function_returns(packed: Path, tmp_path: Path):
    done = CliRunner().invoke(app, ["gap", str(packed), "--fit", "mean_shift", "-o", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert list(told["measures"]) == [AS_IT_IS, "mean_shift"]
    assert told["files"] == {"mean_shift": str(tmp_path / "mean_shift.safetensors")}
    plain = CliRunner().invoke(app, ["gap", str(packed)])
    assert "6 pictures, 3 texts" in plain.stdout
    assert "| texts as they are |" in plain.stdout


def test_without_labels_or_val_it_says_what_it_did(tmp_path: Path, encoder_fingerprint: dict):
    folder = make_packed(tmp_path / "p", encoder_fingerprint, clips_per_split={"train": 6}, labelled=False)
    report = gap(folder, fit=["mean_shift"])
    assert [note.split(":")[0] for note in report.notes] == [
        "there is no split val",
        "no clip has a label or a caption",
    ]
    assert report.as_dict()["measures"][AS_IT_IS]["text_recall"] is None
    with pytest.raises(GapError, match="ridge is fitted to pairs, and there are none"):
        gap(folder, fit=["ridge"])


def test_what_cannot_be_fitted_is_refused(packed: Path, tmp_path: Path):
    with pytest.raises(GapError, match=r"dropout cannot be fitted here; methods are mean_shift, .*, or all"):
        gap(packed, fit=["dropout"])
    with pytest.raises(PackError):
        gap(tmp_path / "nothing")


def test_the_page_opens_without_errors_on_a_phone(report_folder: Path, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(report_folder.joinpath("gap.html").as_uri())
    assert page.locator("tbody tr").count() == 1 + len(QUICK)
    assert page.evaluate("document.images[0].naturalWidth") > 300
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert errors == []
    page.close()
