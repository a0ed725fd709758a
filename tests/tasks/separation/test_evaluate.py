"""Evaluation: seeded pairs, museval's own numbers, oracles in their order, and what cannot be evaluated."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from tests.packed import make_packed
from vidaudio.cli.app import app
from vidaudio.errors import CorpusError, UsageError
from vidaudio.report.listening import make_page, read_items
from vidaudio.separation import mix_sources, mixture_scores
from vidaudio.stream.index import open_index
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Windows, WindowShape
from vidaudio.tasks.separation.evaluate import (
    METHODS,
    EvaluateRequest,
    TestMaterial,
    draw_pairs,
    evaluate,
    write_report,
)
from vidaudio.tasks.separation.evaluation.methods import Estimates
from vidaudio.tasks.separation.evaluation.scorers import MEASURES, SCORERS, score_estimates
from vidaudio.tasks.separation.evaluation.sweep import Sweep, SweepReport
from vidaudio.tasks.separation.evaluation.tables import as_markdown, modality_table, published_lines

runner = CliRunner()


def test_every_test_clip_is_a_target_once_and_never_mixed_with_its_own_source(packed: Path):
    index = open_index(str(packed), "test")
    windows = Windows(index, WindowShape(samples=8191))
    pairs = draw_pairs(index, windows, None)
    assert sorted(pair.target for pair in pairs) == list(range(len(index)))
    sources = index.codes("source")
    assert all(sources[pair.target] != sources[pair.interference] for pair in pairs)
    assert pairs == draw_pairs(index, windows, None)


def test_interference_is_of_another_label_where_asked(packed: Path):
    index = open_index(str(packed), "test")
    labels = [row[0] for row in index.table["labels"].to_pylist()]
    pairs = draw_pairs(index, Windows(index, WindowShape(samples=8191)), labels)
    assert all(labels[pair.target] != labels[pair.interference] for pair in pairs)


def test_the_report_holds_musevals_numbers_and_the_oracles_stand_in_order(trained: Path, packed: Path, tmp_path: Path):
    report = evaluate(
        EvaluateRequest(trained, TestMaterial(str(packed), different_labels=True), methods=METHODS, progress=False)
    )
    assert list(report.sdr) == list(METHODS)
    assert report.mixtures == 6
    assert report.improvement("ideal_binary_mask").mean > report.improvement("text").mean + 3
    # Tones of a fixed pitch are what an equaliser can tell apart.
    assert report.improvement("fixed_filter").mean > 3

    index = open_index(str(packed), "test")
    windows = Windows(index, WindowShape(samples=8191))
    labels = [row[0] for row in index.table["labels"].to_pylist()]
    pair = draw_pairs(index, windows, labels)[2]
    reader = SampleReader(index)
    audio = [reader.window(row, windows.middle(row))[0] for row in (pair.target, pair.interference)]
    sources, mixture = mix_sources(torch.from_numpy(np.stack(audio))[None])
    length = 31 * 256
    expected = mixture_scores(sources[0, :, :length].numpy(), mixture[0, :length].numpy())
    assert report.sdr["mixture"][2] == pytest.approx(expected["sdr"], abs=1e-9)

    written = json.loads(write_report(report, tmp_path).read_text())
    assert written["summaries"]["text"]["sdr"]["count"] == 6
    assert written["incomplete"] is False
    assert (tmp_path / "evaluation.csv").read_text().count("\n") == 1 + 6 * len(METHODS)


def test_processes_do_not_change_the_scores(trained: Path, packed: Path):
    one = evaluate(EvaluateRequest(trained, TestMaterial(str(packed), mixtures=2), methods=("image",), progress=False))
    two = evaluate(
        EvaluateRequest(trained, TestMaterial(str(packed), mixtures=2), methods=("image",), processes=2, progress=False)
    )
    assert one.sdr == two.sdr


def test_what_cannot_be_evaluated_is_said(trained: Path, packed: Path, tmp_path: Path, encoder_fingerprint: dict):
    with pytest.raises(UsageError, match="no method guess"):
        evaluate(EvaluateRequest(trained, str(packed), methods=("guess",), progress=False))
    with pytest.raises(CorpusError, match="no split 'nope'; it has test, train, val"):
        evaluate(EvaluateRequest(trained, TestMaterial(str(packed), split="nope"), progress=False))
    two_kinds = make_packed(tmp_path / "two", encoder_fingerprint, labels=("low", "high"), clips_per_split={"test": 4})
    with pytest.raises(CorpusError, match="only 2 kinds"):
        evaluate(
            EvaluateRequest(
                trained, TestMaterial(str(two_kinds), different_labels=True), methods=("wrong_text",), progress=False
            )
        )
    other = {**encoder_fingerprint, "weights_sha256": "0" * 64}
    foreign = make_packed(tmp_path / "foreign", other, clips_per_split={"test": 4})
    with pytest.raises(
        CorpusError, match=r"vectors of .* weights 0{16}\), and .* was trained with .* dimensions, weights"
    ):
        evaluate(EvaluateRequest(trained, str(foreign), progress=False))
    bare = make_packed(tmp_path / "bare", encoder_fingerprint, clips_per_split={"test": 4}, labelled=False)
    with pytest.raises(CorpusError, match="none of the 4 targets has a label"):
        evaluate(EvaluateRequest(trained, str(bare), methods=("text",), progress=False))
    with pytest.raises(UsageError, match="has no noise heads to keep"):
        evaluate(EvaluateRequest(trained, str(two_kinds), noise_heads="keep", progress=False))
    with pytest.raises(UsageError, match="no scorer 'ear'"):
        evaluate(EvaluateRequest(trained, str(two_kinds), scorer="ear", progress=False))
    with pytest.raises(UsageError, match="no choice 'loudest' of sounds"):
        evaluate(
            EvaluateRequest(
                trained, str(two_kinds), scorer="batched", sounds=tmp_path, sounds_choice="loudest", progress=False
            )
        )


def test_batches_on_the_device_score_as_museval_does(trained: Path, packed: Path):
    methods = ("text", "wrong_image", "ideal_binary_mask")
    reference = evaluate(EvaluateRequest(trained, str(packed), methods=methods, progress=False))
    batched = evaluate(EvaluateRequest(trained, str(packed), methods=methods, scorer="batched", progress=False))
    assert batched.about.scorer == "batched"
    for method in reference.methods:
        for measure in MEASURES:
            if (method, measure) == ("mixture", "sar"):
                continue  # infinite but for rounding
            expected = reference.values(method, measure)
            assert batched.values(method, measure) == pytest.approx(expected, abs=1e-3), (method, measure)


@pytest.mark.parametrize("scorer", SCORERS)
def test_an_estimate_at_half_the_amplitude_is_6_db_too_quiet(scorer: str):
    rng = np.random.default_rng(0)
    references = torch.from_numpy(rng.normal(0, 0.1, (2, 8_000)).astype(np.float32))
    gains = torch.tensor([1.0, 0.5, 2.0])
    sounds = torch.stack([torch.stack([gain * references[0], references[1]]) for gain in gains])
    names = tuple((f"times {gain:g}", 0) for gain in gains)
    scores = score_estimates([Estimates(0, references, references.sum(dim=0), names, sounds)], scorer=scorer)[0]
    levels = [score.level for score in scores.values()]
    assert levels == pytest.approx([0, -6.0206, 6.0206], abs=1e-4)
    assert scores["times 0.5"].sdr < scores["times 1"].sdr - 20


def test_clips_without_a_label_are_asked_for_by_pictures_alone(
    trained: Path, encoder_fingerprint: dict, tmp_path: Path
):
    data = make_packed(tmp_path / "some", encoder_fingerprint, clips_per_split={"test": 5}, unlabelled=(1, 3))
    report = evaluate(EvaluateRequest(trained, str(data), scorer="batched", progress=False))
    assert len(report.sdr["image"]) == 5
    assert len(report.sdr["text"]) == 3
    assert "2 targets have no label and were not asked for in words" in str(report)
    assert set(report.by_label("image")) == {"low", "high", "middle"}
    different = evaluate(
        EvaluateRequest(trained, TestMaterial(str(data), different_labels=True), scorer="batched", progress=False)
    )
    assert different.mixtures == 3


def test_silent_clips_are_left_out_of_the_scores_and_counted(trained: Path, encoder_fingerprint: dict, tmp_path: Path):
    data = make_packed(tmp_path / "quiet", encoder_fingerprint, clips_per_split={"test": 4})
    silence_shard(data, "test-000000.tar", "test001")
    for scorer in SCORERS:
        report = evaluate(
            EvaluateRequest(
                trained, TestMaterial(str(data), mixtures=2), methods=("image",), scorer=scorer, progress=False
            )
        )
        assert report.silent("image") == report.silent("mixture") >= 1
        assert len(report.sdr["image"]) == 2 - report.silent("image")
        assert f"image: {report.silent('image')} of 2 mixtures left out, where a source, the estimate" in str(report)


def test_a_method_that_could_be_scored_nowhere_has_dashes_and_a_reason(trained: Path, packed: Path):
    whole = evaluate(
        EvaluateRequest(
            trained, TestMaterial(str(packed), mixtures=3), methods=("text",), scorer="batched", progress=False
        )
    )
    silent = replace(whole, scores={number: {**row, "text": None} for number, row in whole.scores.items()})
    why = "text: 3 of 3 mixtures left out, where a source, the estimate, or what the estimate leaves of the mixture"
    sweep = SweepReport(Sweep("model.noise.gamma", (0,)), ((0, "keep", silent),), ())
    for text in (str(silent), as_markdown([silent]), modality_table([silent]), str(sweep), sweep.as_csv()):
        assert "nan" not in text
    assert str(silent).splitlines()[3].split() == ["text", *"----------", "0"]
    assert "| clipsep | image | text | - | - | - | - | - | - | - | - | - | 0 |" in as_markdown([silent])
    assert "| 0 | keep | - |" in str(sweep)
    assert why in str(silent)
    assert why in as_markdown([silent])
    assert f"model.noise.gamma=0, noise heads keep, {why}" in str(sweep)
    # Of one mixture there is no standard error.
    one = replace(whole, scores={0: whole.scores[0]})
    assert "nan" not in str(one) + as_markdown([one])


def test_a_folder_of_sounds_holds_what_was_scored_and_suits_a_listening_test(
    trained: Path, packed: Path, tmp_path: Path
):
    # A listening test asks which of two kinds is heard, so the worst two must hold two each.
    choice = {"sounds": tmp_path, "sounds_count": 2, "sounds_choice": "worst"}
    report = evaluate(
        EvaluateRequest(
            trained, TestMaterial(str(packed), different_labels=True), scorer="batched", **choice, progress=False
        )
    )
    scored, mixture = report.values("text", "si_sdr"), report.values("mixture", "si_sdr")
    gains = {n: scored[n] - mixture[n] for n in scored}
    worst = sorted(gains, key=gains.get)[:2]
    for folder in ("mixture", "target", "interference", "text", "image"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == {f"{n:04d}.flac" for n in worst}
    read = {name: soundfile.read(tmp_path / name / f"{worst[0]:04d}.flac")[0] for name in ("target", "text")}
    noise = np.sum((read["target"] - read["text"]) ** 2)
    heard = 10 * np.log10(np.sum(read["target"] ** 2) / noise)
    assert heard == pytest.approx(report.sdr["text"][worst[0]], abs=0.01)
    assert (tmp_path / f"{worst[1]:04d}.png").read_bytes().startswith(b"\x89PNG")
    assert f"text/{worst[0]:04d}.flac" in (tmp_path / "index.html").read_text()

    listed = read_items(tmp_path / "items.csv")
    systems = {name: tmp_path / name for name in ("mixture", "text", "image")}
    assert make_page(systems, tmp_path / "test.html", items=listed, seed=1)
    assert (tmp_path / "test.html").is_file()


def test_tables_have_the_papers_shape(trained: Path, packed: Path):
    report = evaluate(EvaluateRequest(trained, TestMaterial(str(packed), mixtures=3), scorer="batched", progress=False))
    other = replace(report, about=replace(report.about, checkpoint="runs/other"))
    table = as_markdown([report, other])
    assert table.count("| Mixture |") == 1
    for name in (trained.name, "other"):
        assert f"| clipsep, {name} | image | text |" in table
        assert f"| clipsep, {name} | image | image |" in table
    assert "| clipsep | image | text |" in as_markdown([report])
    summary = report.summary("text")
    assert f"| {summary.mean:.2f} ± {summary.standard_error:.2f} | {summary.median:.2f} |" in table
    gain = report.improvement("text", "si_sdr").mean
    last = modality_table([report]).splitlines()[-1]
    assert last.startswith(f"| clipsep | image | {gain:.2f} | {summary.mean:.2f} ±")
    published = published_lines("vggsound-clean-plus")
    assert "not measured here" in published[0]
    assert "| CLIPSep-NIT | image | text | 3.05 ± 0.73 | 3.26 |" in published


def test_the_command_evaluates_and_writes(trained: Path, packed: Path, tmp_path: Path):
    arguments = ["--data", str(packed), "--scorer", "batched", "--mixtures", "2", "--quiet"]
    done = runner.invoke(app, ["evaluate", str(trained), *arguments, "-o", str(tmp_path / "one"), "--sounds", "1"])
    assert done.exit_code == 0, done.output
    assert {"evaluation.json", "evaluation.csv", "evaluation.md", "sounds"} <= names_in(tmp_path / "one")
    two = ["evaluate", str(trained), str(trained), *arguments, "-o", str(tmp_path / "two"), "--json"]
    done = runner.invoke(app, two)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.output)) == 2
    assert {"comparison.md", "comparison.json", "comparison.csv"} <= names_in(tmp_path / "two")
    assert {"1-run", "2-run"} & names_in(tmp_path / "two")
    assert runner.invoke(app, ["evaluate", str(trained)]).exit_code == 2
    assert runner.invoke(app, ["evaluate", str(trained), *arguments, "--sounds", "1"]).exit_code == 2


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def silence_shard(folder: Path, tar: str, key: str) -> None:
    """Overwrite one clip's sound in place by silence of the same length in bytes."""
    index = open_index(str(folder), "test")
    row = index.table["key"].to_pylist().index(key)
    offset, length = (int(index.column(f"audio_{part}")[row]) for part in ("offset", "length"))
    sink = io.BytesIO()
    soundfile.write(sink, np.zeros(int(index.column("samples")[row]), np.int16), 16_000, format="FLAC")
    silent = sink.getvalue()
    assert len(silent) <= length
    with (folder / tar).open("r+b") as file:
        file.seek(offset)
        file.write(silent.ljust(length, b"\0"))
