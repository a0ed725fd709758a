"""The list of clips that a pack leaves out: complete, the same bytes again, without removed clips, and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.media_world import MediaWorld, pack_here
from tests.packs.plans import planned
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.packs import left_out, selection
from vidaudio.packs.left_out import LEFT_OUT_FILE, LeftOutClip, left_out_clips, open_left_out

WHERE = "id != 'bars' and motion >= 0"


@pytest.fixture
def copied(built_corpus: Corpus, tmp_path: Path) -> Corpus:
    return open_corpus(str(shutil.copytree(built_corpus.url, tmp_path / "corpus")))


def packed(corpus: Corpus) -> str:
    """Pack the corpus so that clips are left out for every cause that needs no scores."""
    return pack_here(corpus, corpus.pack.model_copy(update={"name": "few", "where": WHERE, "window": "middle"}))


def rows(corpus: Corpus, name: str = "few") -> list[LeftOutClip]:
    with open_left_out(corpus.store, f"training/{name}") as file:
        return list(file.rows())


def test_every_clip_is_packed_or_listed_with_its_cause_and_the_values_behind_it(
    copied: Corpus, media_world: MediaWorld
):
    folder = packed(copied)
    found = {row.id: row for row in rows(copied)}
    described = json.loads(Path(folder, "pack.json").read_text())
    assert described["left_out"] == {"not_extracted": len(media_world.reasons), "where": 1, "too_short": 1}
    assert len(found) == len(rows(copied)) == sum(described["left_out"].values())
    assert {row.id for row in found.values() if row.reason == "not_extracted"} == set(media_world.reasons)
    for clip_id, reason in media_world.reasons.items():
        assert json.loads(found[clip_id].values)["reason"] == reason
    bars, brief = found["bars"], found["brief"]
    assert (bars.reason, set(json.loads(bars.values))) == ("where", {"id", "motion"})
    assert json.loads(bars.values)["id"] == "bars"
    assert (brief.reason, set(json.loads(brief.values))) == ("too_short", {"samples"})
    listed = [row["id"] for shard in range(copied.shards) for row in copied.table(shard).to_pylist()]
    assert list(found) == [clip_id for clip_id in listed if clip_id in found]


def test_packing_again_and_reading_in_small_pieces_write_the_same_bytes(
    copied: Corpus, monkeypatch: pytest.MonkeyPatch
):
    path = Path(packed(copied), LEFT_OUT_FILE)
    before = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(selection, "BATCH_CLIPS", 1)
    packed(copied)
    assert path.read_bytes() == before
    path.unlink()
    monkeypatch.setattr(left_out, "ROWS_A_GROUP", 2)
    packed(copied)
    with open_left_out(copied.store, "training/few") as file:
        assert len(list(file.rows())) > 2


def test_a_selection_that_leaves_nothing_out_by_itself_lists_only_what_failed(
    built_corpus: Corpus, media_world: MediaWorld
):
    plan = planned(built_corpus, name="x", where=None)
    assert {row.id for row in left_out_clips(built_corpus, plan)} == set(media_world.reasons)


def test_status_names_the_file(copied: Corpus):
    packed(copied)
    status = corpus_status(copied.url)
    assert f"listed in training/few/{LEFT_OUT_FILE}" in str(status)
    assert status.as_dict()["packs"]["few"]["left_out_file"] == f"training/few/{LEFT_OUT_FILE}"


def test_a_removed_clip_leaves_the_list_and_the_others_stay(copied: Corpus, media_world: MediaWorld):
    packed(copied)
    before = rows(copied)
    (failed, *_) = media_world.reasons
    remove(copied.url, ["bars", failed], progress=False)
    assert rows(copied) == [row for row in before if row.id not in ("bars", failed)]
    assert b"bars" not in Path(copied.url, "training/few", LEFT_OUT_FILE).read_bytes()
    report = verify_corpus(copied.url, progress=False)
    assert report.problems == ()
    # A list that is written after the removal has no row of a removed clip, either.
    after = rows(copied)
    Path(copied.url, "training/few", LEFT_OUT_FILE).unlink()
    packed(copied)
    assert rows(copied) == after


def test_a_list_that_was_changed_is_found_and_comes_back(copied: Corpus, built_corpus: Corpus):
    path = Path(packed(copied), LEFT_OUT_FILE)
    assert verify_corpus(copied.url, progress=False).ok
    before = path.read_bytes()
    path.write_bytes(before[:-9])
    (problem,) = verify_corpus(copied.url, progress=False).problems
    assert problem.file == f"training/few/{LEFT_OUT_FILE}"
    assert "delete it and run the same pack command again" in problem.remedy
    path.unlink()
    report = verify_corpus(copied.url, progress=False)
    assert report.ok
    assert any(f"has no {LEFT_OUT_FILE}" in note for note in report.notes)
    packed(copied)
    assert path.read_bytes() == before


def test_a_list_of_another_plan_is_found(copied: Corpus):
    path = Path(packed(copied), LEFT_OUT_FILE)
    shutil.copy(Path(copied.url, "training/default", LEFT_OUT_FILE), path)
    (problem,) = verify_corpus(copied.url, progress=False).problems
    assert "does not hold the clips that the plan leaves out" in problem.what
    plan = planned(copied, name="few", where=WHERE, window="middle")
    kept = [row for row in left_out_clips(copied, plan) if row.id != "bars"]
    left_out._write(path, kept, plan.plan_hash)
    (problem,) = verify_corpus(copied.url, progress=False).problems
    assert "does not hold the clips that the plan leaves out" in problem.what
