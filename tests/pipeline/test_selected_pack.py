"""Packs by scores at the command line: what is left out is listed, near-duplicates are kept once, weights go in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tests.pipeline.scored import scores
from vidaudio.cli.app import app
from vidaudio.config.corpus import DedupBlock, PackBlock
from vidaudio.corpus.clip_vectors import picture_vectors, sound_vectors
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import VidaudioError
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.packs.left_out import LEFT_OUT_FILE, LeftOutClip, open_left_out
from vidaudio.packs.weights import clip_weights
from vidaudio.pipeline.build import pack
from vidaudio.shards.commit import encode_table, read_table
from vidaudio.stream.index import open_index


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["pack", *arguments, "--quiet"])
    assert done.exit_code == 0, done.output
    return done.output


def listed(corpus: Corpus, name: str) -> dict[str, LeftOutClip]:
    with open_left_out(corpus.store, f"training/{name}") as file:
        return {row.id: row for row in file.rows()}


def packed(corpus: Corpus, name: str) -> dict[str, dict]:
    tables = sorted(Path(corpus.url, "training", name).glob("*-*.parquet"))
    rows = [read_table(corpus.store, f"training/{name}/{path.name}")[0].to_pylist() for path in tables]
    return {row["id"]: row for shard in rows for row in shard}


def described(corpus: Corpus, name: str) -> dict:
    return json.loads(Path(corpus.url, "training", name, "pack.json").read_text())


def vectors(corpus: Corpus) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    encoder = described(corpus, "default")["encoder"]
    pictures, sounds = picture_vectors(corpus, encoder), sound_vectors(corpus, "default")
    found = [
        {clip: own for part in parts for clip, own in zip(part.ids, part.vectors, strict=True)}
        for parts in (pictures, sounds)
    ]
    return found[0], found[1]


def test_options_choose_the_best_and_the_others_are_listed_with_their_scores(copied: Corpus):
    told = run(copied.url, "--name", "best", "--keep-top", "0.5", "--keep-per-label", "0.1", "--scorer", "default")
    settings = described(copied, "best")["settings"]
    assert (settings["keep_top"], settings["keep_per_label"], settings["scorer"]) == (0.5, 0.1, "default")
    values, rows = scores(copied), listed(copied, "best")
    least = described(copied, "best")["thresholds"]["score"]
    left_out = {clip: row for clip, row in rows.items() if row.reason == "keep_top"}
    assert left_out
    assert values.keys() <= rows.keys() ^ packed(copied, "best").keys()
    for clip, row in left_out.items():
        assert json.loads(row.values)["correspondence"] == values[clip]["correspondence"] < least
    assert f"{len(left_out)} clips left out: not among those that correspond best" in told
    assert f"listed in training/best/{LEFT_OUT_FILE}" in told


class TestNearDuplicates:
    def test_of_near_duplicates_one_is_kept_and_the_others_name_it(self, copied: Corpus):
        run(copied.url, "--name", "few", "--dedup", "--set", "dedup.picture=0.9", "--set", "dedup.sound=0.8")
        assert described(copied, "few")["settings"]["dedup"] == {"picture": 0.9, "sound": 0.8}
        assert described(copied, "few")["settings"]["scorer"] == "default"
        rows, samples = listed(copied, "few"), packed(copied, "few")
        (pictures, sounds), values = vectors(copied), scores(copied)
        copies = {clip: row for clip, row in rows.items() if row.reason == "near_duplicate"}
        assert copies
        assert described(copied, "few")["left_out"]["near_duplicate"] == len(copies)
        assert len(samples) == described(copied, "few")["clips"]
        assert values.keys() <= rows.keys() ^ samples.keys()
        for clip, row in copies.items():
            told = json.loads(row.values)
            assert told["kept"] in samples
            assert told["picture_cosine"] == pytest.approx(pictures[clip] @ pictures[told["kept"]], abs=1e-4)
            assert told["sound_cosine"] == pytest.approx(sounds[clip] @ sounds[told["kept"]], abs=2e-3)
            assert told["picture_cosine"] >= 0.9
            assert told["sound_cosine"] >= 0.8
        # No two that are kept are near-duplicates.
        kept = sorted(samples)
        near = np.stack([pictures[clip] for clip in kept]) @ np.stack([pictures[clip] for clip in kept]).T >= 0.901
        near &= np.stack([sounds[clip] for clip in kept]) @ np.stack([sounds[clip] for clip in kept]).T >= 0.802
        assert (near == np.eye(len(kept), dtype=bool)).all()
        assert verify_corpus(copied.url, progress=False).problems == ()
        assert "near-duplicates of clips that are kept" in Path(copied.url, "training/few/CARD.md").read_text()

    def test_test_clips_stay_and_inside_a_split_those_that_correspond_best(self, copied: Corpus):
        pack(copied.url, PackBlock(name="all"), progress=False)
        run(copied.url, "--name", "few", "--dedup", "--set", "dedup.picture=0.8", "--set", "dedup.sound=0.5")
        splits = {clip: row["split"] for clip, row in packed(copied, "all").items()}
        values = scores(copied)
        copies = [row for row in listed(copied, "few").values() if row.reason == "near_duplicate"]
        order = ["test", "val", "train"]
        crossed = 0
        for row in copies:
            kept = json.loads(row.values)["kept"]
            assert order.index(splits[kept]) <= order.index(splits[row.id])
            crossed += splits[kept] != splits[row.id]
            if splits[kept] == splits[row.id]:
                assert values[kept]["correspondence"] >= values[row.id]["correspondence"]
        assert crossed
        assert {clip: row["split"] for clip, row in packed(copied, "few").items()}.items() <= splits.items()

    def test_without_scores_pictures_decide_and_later_scores_change_nothing(self, copied: Corpus, tmp_path: Path):
        Path(copied.url, "scores").rename(tmp_path / "scores")
        block = PackBlock(name="seen", dedup=DedupBlock(picture=0.9))
        pack(copied.url, block, progress=False)
        assert "scorer" not in described(copied, "seen")["settings"]
        copies = [row for row in listed(copied, "seen").values() if row.reason == "near_duplicate"]
        assert copies
        assert all(json.loads(row.values)["sound_cosine"] is None for row in copies)
        before = {path.name: path.read_bytes() for path in Path(copied.url, "training/seen").iterdir()}
        (tmp_path / "scores").rename(Path(copied.url, "scores"))
        pack(copied.url, block, progress=False)
        assert {path.name: path.read_bytes() for path in Path(copied.url, "training/seen").iterdir()} == before

    def test_a_removed_clip_is_not_named_as_the_one_that_was_kept(self, copied: Corpus):
        run(copied.url, "--name", "few", "--dedup", "--set", "dedup.picture=0.9", "--set", "dedup.sound=0.8")
        rows = listed(copied, "few")
        copy = next(row for row in rows.values() if row.reason == "near_duplicate")
        kept = json.loads(copy.values)["kept"]
        remove(copied.url, [kept], progress=False)
        after = listed(copied, "few")
        assert after.keys() == rows.keys()
        assert json.loads(after[copy.id].values) == json.loads(copy.values) | {"kept": None}
        assert verify_corpus(copied.url, progress=False).problems == ()
        assert kept.encode() not in Path(copied.url, "training/few", LEFT_OUT_FILE).read_bytes()


class TestWeights:
    def test_samples_carry_the_probabilities_of_their_clips(self, copied: Corpus):
        run(copied.url, "--name", "weighted", "--weight", "p_corresponds")
        values, samples = scores(copied), packed(copied, "weighted")
        assert {clip: row["weight"] for clip, row in samples.items()} == {
            clip: values[clip]["p_corresponds"] for clip in samples
        }
        index = open_index(f"{copied.url}/training/weighted")
        assert index.weight == "p_corresponds"
        assert index.column("weight").tolist() == [samples[clip]["weight"] for clip in index.table["id"].to_pylist()]
        assert described(copied, "weighted")["settings"]["scorer"] == "default"
        assert verify_corpus(copied.url, progress=False).problems == ()
        assert "draws samples by `p_corresponds`" in Path(copied.url, "training/weighted/CARD.md").read_text()
        before = Path(copied.url, "training/weighted/index.arrow").read_bytes()
        Path(copied.url, "training/weighted/index.arrow").unlink()
        run(copied.url, "--name", "weighted", "--weight", "p_corresponds")
        assert Path(copied.url, "training/weighted/index.arrow").read_bytes() == before

    def test_a_removal_keeps_the_weights_of_the_others(self, copied: Corpus):
        run(copied.url, "--name", "weighted", "--weight", "p_corresponds")
        before = packed(copied, "weighted")
        gone = next(iter(before))
        remove(copied.url, [gone], progress=False)
        after = packed(copied, "weighted")
        assert {clip: row["weight"] for clip, row in after.items()} == {
            clip: row["weight"] for clip, row in before.items() if clip != gone
        }
        assert len(open_index(f"{copied.url}/training/weighted")) == len(after)
        assert verify_corpus(copied.url, progress=False).problems == ()

    def test_changed_weights_are_found(self, copied: Corpus):
        run(copied.url, "--name", "weighted", "--weight", "p_corresponds")
        path = sorted(Path(copied.url, "training/weighted").glob("train-*.parquet"))[0]
        table, record = read_table(copied.store, f"training/weighted/{path.name}")
        other = pa.array(np.full(len(table), 0.123), pa.float32())
        path.write_bytes(encode_table(table.set_column(table.column_names.index("weight"), "weight", other), record))
        problems = verify_corpus(copied.url, progress=False).problems
        assert any("does not hold the samples that the plan gives it" in problem.what for problem in problems)

    @pytest.mark.parametrize(
        ("column", "told"),
        [
            ("labels", "'labels' is no column of numbers"),
            ("nosuch", "'nosuch' is no column of numbers"),
            ("motion", "motion of the clip .* and a weight is between 0 and 1"),
        ],
    )
    def test_a_column_that_is_no_weight_is_refused(self, copied: Corpus, column: str, told: str):
        with pytest.raises(VidaudioError, match=told):
            pack(copied.url, PackBlock(name="wrong", weight=column), progress=False)
        assert not Path(copied.url, "training/wrong").exists()


def test_clips_without_a_value_have_no_weight():
    clips = pd.DataFrame({"id": ["a", "b", "c"], "p_in_sync": [0.25, None, 1.0]})
    assert clip_weights(clips, "p_in_sync").tolist() == [0.25, 0.0, 1.0]


def test_packs_without_the_settings_are_described_as_before():
    assert not {"dedup", "weight"} & set(PackBlock().identity())
    assert PackBlock(dedup=False) == PackBlock()
    assert PackBlock(dedup=True).dedup == DedupBlock(picture=0.97, sound=0.9)
