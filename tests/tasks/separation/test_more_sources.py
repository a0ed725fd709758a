"""Test mixtures of more than two sounds, every source asked for, and how far an absent sound is suppressed."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.packed import make_packed
from tests.tasks.separation.test_evaluation_protocols import name_sources
from vidaudio.cli.app import app
from vidaudio.errors import PackError, UsageError
from vidaudio.separation import museval_scores
from vidaudio.stream.index import open_index
from vidaudio.stream.windows import Windows, WindowShape
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, draw_pairs, evaluate, plan, write_report
from vidaudio.tasks.separation.evaluation.eval_mixtures import EvalMixture, TestSet
from vidaudio.tasks.separation.evaluation.methods import Estimates, mixed
from vidaudio.tasks.separation.evaluation.pairs import chosen_numbers
from vidaudio.tasks.separation.evaluation.scorers import SCORERS, Score
from vidaudio.tasks.separation.evaluation.suppression import (
    CAP_DB,
    of_counted_candidates,
    suppression_db,
    suppression_of,
)
from vidaudio.tasks.separation.evaluation.tables import as_markdown
from vidaudio.tasks.separation.query_factory import make_query_encoder

FIVE_KINDS = ("a", "b", "c", "d", "e")
SHAPE = WindowShape(samples=8191)
# Interference of targets 0 to 11 of the corpus below, as drawn before mixtures could hold more than two sounds.
ANY_LABEL = (7, 3, 0, 4, 3, 10, 10, 5, 3, 7, 9, 7)
OTHER_LABEL = (8, 3, 0, 4, 3, 6, 2, 6, 4, 8, 1, 9)


@pytest.fixture(scope="module")
def five_kinds(encoder_fingerprint: dict, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("five") / "data"
    return str(make_packed(folder, encoder_fingerprint, labels=FIVE_KINDS, clips_per_split={"test": 12}))


def planned(trained: Path, data: str, **options) -> TestSet:
    return plan(load_checkpoint(trained), TestMaterial(data, **options))[1]


def keys(item: EvalMixture) -> list[str]:
    return [sound.key for sound in item.sounds]


def labels_of(data: str) -> list[str]:
    return [row[0] for row in open_index(data, "test").table["labels"].to_pylist()]


@pytest.mark.parametrize(("different", "stored"), [(False, ANY_LABEL), (True, OTHER_LABEL)])
def test_pairs_are_drawn_as_before(five_kinds: str, different: bool, stored: tuple[int, ...]):
    index = open_index(five_kinds, "test")
    pairs = draw_pairs(index, Windows(index, SHAPE), labels_of(five_kinds) if different else None)
    assert [(pair.target, pair.interference, pair.others) for pair in pairs] == [
        (target, partner, ()) for target, partner in enumerate(stored)
    ]


def test_fewer_mixtures_are_of_all_kinds_and_part_of_more(trained: Path, five_kinds: str):
    every = {item.number: keys(item) for item in planned(trained, five_kinds, different_labels=True).items}
    before: set[int] = set()
    for count in range(1, len(every) + 1):
        chosen = {i.number: keys(i) for i in planned(trained, five_kinds, different_labels=True, mixtures=count).items}
        assert len(chosen) == count
        assert before < set(chosen)
        assert all(every[number] == held for number, held in chosen.items())
        before = set(chosen)
    # In a list of many kinds in succession, a tenth of the targets has nearly all of them.
    assert len({number // 100 for number in chosen_numbers(1000, 100)}) == 10
    assert chosen_numbers(5, None) == list(range(5)) == chosen_numbers(5, 9)


def test_the_report_says_which_targets_are_tested(trained: Path, five_kinds: str):
    material = TestMaterial(five_kinds, different_labels=True, mixtures=3)
    report = evaluate(EvaluateRequest(trained, material, methods=("text",), scorer="batched", progress=False))
    for text in (str(report), as_markdown([report])):
        assert "split test, different labels" in text
        assert "3 of 12 targets are chosen" in text
    assert report.as_dict()["different_labels"] is True


def test_further_partners_are_drawn_by_their_place_and_the_targets_number(five_kinds: str):
    index, labels = open_index(five_kinds, "test"), labels_of(five_kinds)
    pairs = draw_pairs(index, Windows(index, SHAPE), labels, sources=4)
    for number, pair in enumerate(pairs):
        chosen = [number]
        for seed in (number, f"source 2 {number}", f"source 3 {number}"):
            # Every clip of this corpus is a source of its own.
            others = [row for row in range(12) if labels[row] not in {labels[held] for held in chosen}]
            chosen.append(random.Random(seed).choice(others))
        assert list(pair.rows) == chosen


def test_a_mixture_begins_with_that_of_one_sound_less(trained: Path, five_kinds: str):
    by_count = [planned(trained, five_kinds, different_labels=True, sources=n).items for n in (2, 3, 4, 5)]
    for fewer, more in itertools.pairwise(by_count):
        assert [keys(item) for item in fewer] == [keys(item)[:-1] for item in more]
    for item in by_count[-1]:
        assert len({sound.source for sound in item.sounds}) == 5
        assert {sound.label for sound in item.sounds} == set(FIVE_KINDS)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_mixture_is_the_mean_of_its_windows(trained: Path, five_kinds: str, count: int):
    item = planned(trained, five_kinds, sources=count).items[3]
    windows = [sound.corpus.reader.window_sound(sound.place.row, sound.place.window) for sound in item.sounds]
    samples = np.stack(windows).astype(np.float64) / 32768
    sources, mixture = mixed(item)
    assert np.allclose(mixture[0].numpy(), samples.mean(axis=0), atol=1e-7)
    assert np.allclose(sources[0, 0].numpy(), samples[0] / count, atol=1e-7)
    assert np.allclose(sources[0, 1].numpy(), samples[1:].sum(axis=0) / count, atol=1e-7)


def test_every_source_is_the_target_once_among_the_same_others(trained: Path, five_kinds: str):
    once = planned(trained, five_kinds, sources=3, mixtures=4).items
    each = planned(trained, five_kinds, sources=3, mixtures=4, every_source=True).items
    assert [item.number for item in each] == [3 * item.number + place for item in once for place in range(3)]
    for place, item in enumerate(once):
        asked = each[3 * place : 3 * place + 3]
        assert [other.target.key for other in asked] == keys(item)
        assert all(set(keys(other)) == set(keys(item)) for other in asked)
        assert torch.allclose(mixed(asked[1])[1], mixed(item)[1], atol=1e-6)


def test_every_source_of_pairs_is_both_directions(trained: Path, five_kinds: str):
    by_protocol = planned(trained, five_kinds, protocol="esc")
    by_option = planned(trained, five_kinds, different_labels=True, every_source=True)
    listed = [(item.number, *keys(item)) for item in by_protocol.items]
    assert listed == [(item.number, *keys(item)) for item in by_option.items]
    expected = []
    for row, partner in enumerate(OTHER_LABEL):
        pair = f"test{row:03d}", f"test{partner:03d}"
        expected += [(2 * row, *pair), (2 * row + 1, *pair[::-1])]
    assert listed == expected


@pytest.mark.parametrize("scorer", SCORERS)
def test_means_are_averages_over_every_source(trained: Path, packed: Path, scorer: str):
    material = TestMaterial(str(packed), different_labels=True, sources=3, every_source=True, mixtures=2)
    report = evaluate(EvaluateRequest(trained, material, methods=("text",), scorer=scorer, progress=False))
    assert report.mixtures == 6
    loaded = load_checkpoint(trained)
    front_end = loaded.model.front_end
    asker = make_query_encoder(loaded.recipe, encoder=loaded.encoder, labels=loaded.labels, trained=True)
    index, labels = open_index(str(packed), "test"), labels_of(str(packed))
    found = []
    for item in planned(trained, str(packed), different_labels=True, sources=3).items[:2]:
        windows = [s.corpus.reader.window_sound(s.place.row, s.place.window) for s in item.sounds]
        sounds = torch.from_numpy(np.stack(windows).astype(np.float32) / 32768) / 3
        mixture = sounds.sum(dim=0)
        spectrum = front_end.stft(mixture[None])
        samples = front_end.config.output_samples
        for place, sound in enumerate(item.sounds):
            query = asker.encode_text(labels[index.table["key"].to_pylist().index(sound.key)])
            with torch.no_grad():
                mask = loaded.model.masks(spectrum, query[None, None])[0]
                estimate = front_end.istft(spectrum * mask).clamp(-1, 1)[0]
                rest = front_end.istft(spectrum * (1 - mask)).clamp(-1, 1)[0]
            references = torch.stack([sounds[place], mixture - sounds[place]])[:, :samples]
            found.append(museval_scores(references.numpy(), torch.stack([estimate, rest]).numpy()))
    for measure in ("sdr", "sir", "sar", "si_sdr"):
        mean = np.mean([scores[measure] for scores in found])
        assert report.summary("text", measure).mean == pytest.approx(mean, abs=2e-3), measure


def test_wrong_queries_leaks_and_a_sound_from_off_screen_know_all_sounds(trained: Path, five_kinds: str):
    tests = planned(trained, five_kinds, different_labels=True, sources=3, offscreen_db=0)
    for item in tests.items:
        held = {sound.label for sound in item.sounds}
        assert len(item.sounds) == len(held) == 4
        assert tests.absent_label(item) not in held
        assert tests.absent_sound(item).label not in held
        sources, mixture = mixed(item)
        assert torch.allclose(sources.sum(dim=1), mixture)
    with pytest.raises(PackError, match="the test clips have no further kind"):
        planned(trained, five_kinds, different_labels=True, sources=5, offscreen_db=0)


def test_the_report_says_what_was_tested_and_names_all_sounds(trained: Path, five_kinds: str, tmp_path: Path):
    material = TestMaterial(five_kinds, different_labels=True, sources=3, every_source=True, mixtures=2)
    request = EvaluateRequest(trained, material, scorer="batched", sounds=tmp_path / "sounds", progress=False)
    report = evaluate(request)
    for text in (str(report), as_markdown([report])):
        assert "split test, mixtures of 3 sources, different labels, every source is asked for" in text.splitlines()[0]
        assert "averages over sources" in text
        assert "suppression" in text
    assert report.about.protocol == "split test"
    written = json.loads(write_report(report, tmp_path).read_text())
    assert (written["sources"], written["every_source"], written["mixtures"]) == (3, True, 6)
    rows = list(csv.DictReader((tmp_path / "evaluation.csv").open()))
    for row in rows:
        names = report.names[int(row["mixture"])]
        assert (row["target"], row["interference"], row["others"]) == names
        assert written["scores"][row["mixture"]]["others"] == [row["others"]]
        absent = row["method"].startswith("wrong_")
        assert absent == (row["suppression_db"] != "")
        if absent:
            assert float(row["suppression_db"]) == written["suppression"][row["method"]][row["mixture"]]
    item = planned(trained, five_kinds, different_labels=True, sources=3, mixtures=2).items[0]
    listed = list(csv.DictReader((tmp_path / "sounds" / "items.csv").open()))
    assert listed[0]["other"] == f"{item.interference.label} and {item.others[0].label}"
    pairs = evaluate(EvaluateRequest(trained, TestMaterial(five_kinds, mixtures=2), scorer="batched", progress=False))
    assert pairs.about.tested == "split test"
    assert not any("others" in row for row in pairs.as_dict()["scores"].values())


@pytest.mark.parametrize(("gain", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0), (0.0, CAP_DB)])
def test_a_constant_mask_suppresses_by_its_gain(
    trained: Path, five_kinds: str, monkeypatch: pytest.MonkeyPatch, gain: float, decibels: float
):
    def masks(self, spectrum: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        return torch.full((1, queries.shape[1], *spectrum.shape[1:]), gain)

    monkeypatch.setattr(type(load_checkpoint(trained).model), "masks", masks)
    material = TestMaterial(five_kinds, different_labels=True, sources=3, mixtures=3)
    report = evaluate(EvaluateRequest(trained, material, scorer="batched", progress=False))
    for method in ("wrong_text", "wrong_image"):
        summary = report.summary(method, "suppression")
        assert summary.count == 3
        assert summary.mean == pytest.approx(decibels, abs=1e-3)
        assert report.as_dict()["summaries"][method]["suppression"]["mean"] == pytest.approx(decibels, abs=1e-3)
    for method in ("mixture", "text", "image"):
        assert report.summary(method, "suppression").count == 0
        assert report.as_dict()["summaries"][method]["suppression"] is None
    # Where the estimate or what it leaves of the mixture is silent, there is no other score.
    assert report.silent("wrong_text") == (3 if gain in (0, 1) else 0)
    line = next(line for line in str(report).splitlines() if line.strip().startswith("wrong text"))
    row = next(line for line in as_markdown([report]).splitlines() if "wrong text" in line)
    for cell in (line.split()[-1], row.split("|")[-2]):
        assert float(cell) == pytest.approx(decibels, abs=0.006)


def test_suppression_is_a_ratio_of_powers():
    rng = np.random.default_rng(0)
    mixture, estimates = rng.normal(size=500), rng.normal(size=(3, 500))
    expected = [10 * math.log10(sum(x * x for x in mixture) / sum(x * x for x in each)) for each in estimates]
    found = suppression_db(torch.from_numpy(mixture), torch.from_numpy(estimates))
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    silent = suppression_db(torch.from_numpy(mixture), torch.zeros(1, 500))
    assert silent.tolist() == [CAP_DB]


def test_of_several_candidates_the_one_that_counts_for_the_scores_is_taken():
    mixture = torch.ones(10)
    sounds = torch.stack([torch.stack([gain * mixture, mixture]) for gain in (1.0, 0.1, 0.01, 0.5)])
    names = (("text", 0), ("wrong_text", 0), ("wrong_text", 1), ("wrong_image", 0))
    made = Estimates(7, torch.ones(2, 10), mixture, names, sounds)
    found = {7: suppression_of(made)}
    score = Score(0, 0, 0, 0, level=0, candidate=1)
    counted = of_counted_candidates(found, {7: {"wrong_text": score, "wrong_image": None}})
    assert counted == {7: {"wrong_text": pytest.approx(40), "wrong_image": pytest.approx(20 * math.log10(2))}}
    assert suppression_of(replace(made, mixture=torch.zeros(10))) == {}


def test_what_cannot_be_mixed_is_refused_with_the_numbers(trained: Path, five_kinds: str, packed: Path, tmp_path: Path):
    with pytest.raises(PackError, match="it takes 6 different sources and labels, and the clips have 12 sources and 5"):
        planned(trained, five_kinds, different_labels=True, sources=6)
    with pytest.raises(
        PackError, match=r"no mixture of 7 sounds .* 6 usable .* 7 different sources, .* have 6 sources;"
    ):
        planned(trained, str(packed), sources=7)
    with pytest.raises(UsageError, match="--sources is 1; a mixture has 2 sounds or more"):
        planned(trained, five_kinds, sources=1)
    with pytest.raises(UsageError, match="--sources 3 cannot be used with the protocol music, which mixes"):
        planned(trained, five_kinds, protocol="music", list_dir=tmp_path, sources=3)
    with pytest.raises(UsageError, match="--sources 4 and --every-source cannot be used with the protocol manifest"):
        planned(trained, five_kinds, protocol="manifest", sources=4, every_source=True)


def test_targets_with_too_few_partners_are_left_out_and_counted(
    trained: Path, encoder_fingerprint: dict, tmp_path: Path
):
    data = make_packed(tmp_path / "shared", encoder_fingerprint, labels=("a", "b", "c"), clips_per_split={"test": 4})
    # Clips 0 (a) and 2 (c) are of one video: only 1 (b) and 3 (a) go with 2, and no mixture of three holds clip 0.
    name_sources(data, lambda key: "x:shared" if key in ("test000", "test002") else f"x:{key}")
    material = TestMaterial(str(data), different_labels=True, sources=3)
    tests = planned(trained, str(data), different_labels=True, sources=3)
    assert {frozenset(keys(item)) for item in tests.items} == {frozenset({"test001", "test002", "test003"})}
    assert tests.few_partners == 4 - len(tests.items) >= 1
    report = evaluate(EvaluateRequest(trained, material, methods=("image",), scorer="batched", progress=False))
    assert "left out: too few partners of other sources and labels" in str(report)


def test_the_command_takes_the_options(trained: Path, five_kinds: str):
    options = ["--data", five_kinds, "--scorer", "batched", "--mixtures", "2", "--sources", "3", "--every-source"]
    done = CliRunner().invoke(app, ["evaluate", str(trained), *options, "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert (answer["sources"], answer["every_source"], answer["mixtures"]) == (3, True, 6)
    assert CliRunner().invoke(app, ["evaluate", str(trained), "--data", five_kinds, "--sources", "1"]).exit_code == 2
