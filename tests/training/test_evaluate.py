"""Evaluation: seeded pairs, museval's own numbers, oracles in their order, and what cannot be evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.packed import make_packed
from vidaudio.errors import CorpusError
from vidaudio.separation import mix_sources, mixture_scores
from vidaudio.stream.index import open_index
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Windows, WindowShape
from vidaudio.training.evaluate import METHODS, draw_pairs, evaluate, write_report


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
    report = evaluate(trained, str(packed), methods=METHODS, different_labels=True, progress=False)
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
    assert written["sdr"]["text"]["count"] == 6
    assert (tmp_path / "evaluation.csv").read_text().count("\n") == 1 + 6 * len(METHODS)


def test_processes_do_not_change_the_scores(trained: Path, packed: Path):
    one = evaluate(trained, str(packed), methods=("image",), mixtures=2, progress=False)
    two = evaluate(trained, str(packed), methods=("image",), mixtures=2, processes=2, progress=False)
    assert one.sdr == two.sdr


def test_what_cannot_be_evaluated_is_said(trained: Path, packed: Path, tmp_path: Path, encoder_fingerprint: dict):
    with pytest.raises(CorpusError, match="no method guess"):
        evaluate(trained, str(packed), methods=("guess",), progress=False)
    with pytest.raises(CorpusError, match="no split 'nope'; it has test, train, val"):
        evaluate(trained, str(packed), split="nope", progress=False)
    two_kinds = make_packed(tmp_path / "two", encoder_fingerprint, labels=("low", "high"), clips_per_split={"test": 4})
    with pytest.raises(CorpusError, match="only two kinds"):
        evaluate(trained, str(two_kinds), methods=("wrong_text",), different_labels=True, progress=False)
    other = {**encoder_fingerprint, "weights_sha256": "0" * 64}
    foreign = make_packed(tmp_path / "foreign", other, clips_per_split={"test": 4})
    with pytest.raises(CorpusError, match="another encoder"):
        evaluate(trained, str(foreign), progress=False)
    bare = make_packed(tmp_path / "bare", encoder_fingerprint, clips_per_split={"test": 4}, labelled=False)
    with pytest.raises(CorpusError, match="have no label"):
        evaluate(trained, str(bare), progress=False)
