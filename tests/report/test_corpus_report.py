"""The report of a corpus: its numbers are those of slow counts, and nothing in a corpus can break or grow the page."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tests.hostile_text import problem_of
from tests.report.report_world import SCRIPT, copy_of, hostile_lists, hostile_pages, rewrite
from vidaudio.cli.app import app
from vidaudio.corpus.clip_vectors import picture_vectors, sound_vectors
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, ScorerError, UsageError
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.pipeline.stages.scorer_files import load_scorer
from vidaudio.report.corpus import CorpusReport, report
from vidaudio.report.corpus.choice import Choice, ClipRef, Lowest
from vidaudio.report.corpus.clips import SOUND_SECONDS
from vidaudio.report.corpus.duplicates import LEAST_PICTURES, LEAST_SOUND, find_duplicates
from vidaudio.report.corpus.facts import CLIPS, FIRST_KEPT, SCORED, SECONDS
from vidaudio.report.corpus.histogram import Histogram
from vidaudio.report.corpus.map import MOST_POINTS, Point, VectorMap, draw_map
from vidaudio.report.corpus.measures import KEPT_ABOVE, MEASURES
from vidaudio.report.corpus.page import PageContent, fill_page, human_bytes, short_number
from vidaudio.report.corpus.report import CLIPS_SHOWN, LARGE_PAGE_BYTES
from vidaudio.report.corpus.tables import ShardRows
from vidaudio.report.corpus.totals import Totals
from vidaudio.report.corpus.vectors import DrawnVectors, draw_vectors
from vidaudio.shards.commit import read_table, table_name

MEASURE = {measure.name: measure for measure in MEASURES}


@pytest.fixture
def made(scored_report: CorpusReport) -> CorpusReport:
    return scored_report


@pytest.fixture(scope="module")
def corpus(scored_corpus: str) -> Corpus:
    return open_corpus(scored_corpus)


def rows_of(corpus: Corpus) -> list[dict]:
    """Every extracted clip with everything that the tables say of it, joined in plain Python."""
    found = []
    for shard in range(corpus.shards):
        listed = {row["id"]: row for row in corpus.table(shard).to_pylist()}
        beside = [
            {row["id"]: row for row in read_table(corpus.store, table_name(folder, shard))[0].to_pylist()}
            for folder in ("facts", "scores/default")
        ]
        for row in read_table(corpus.store, table_name("av", shard))[0].to_pylist():
            if row["state"] == "done":
                joined = listed[row["id"]] | row
                for table in beside:
                    joined |= table.get(row["id"], {})
                found.append(joined)
    return found


def test_counts_and_hours_are_those_of_a_slow_count(made: CorpusReport, corpus: Corpus):
    rows = rows_of(corpus)
    facts = made.facts
    assert facts.clips == len(rows)
    assert facts.seconds == pytest.approx(sum(row["seconds"] for row in rows))
    assert facts.scored == sum(row["p_corresponds"] is not None for row in rows)
    for group, names in (
        ("label", lambda row: set(row["labels"]) or {"no label"}),
        ("split", lambda row: {row["split"]}),
        ("uploader", lambda row: {"not stated"}),
    ):
        clips: Counter[str] = Counter()
        seconds: Counter[str] = Counter()
        for row in rows:
            for name in names(row):
                clips[name] += 1
                seconds[name] += row["seconds"]
        totals = facts.groups[group].largest(100)
        assert {total.name: total.sums[CLIPS] for total in totals} == dict(clips)
        assert {total.name: total.sums[SECONDS] for total in totals} == pytest.approx(dict(seconds))
        assert [total.sums[CLIPS] for total in totals] == sorted(clips.values(), reverse=True)


def test_every_histogram_is_that_of_all_values(made: CorpusReport, corpus: Corpus):
    rows = rows_of(corpus)
    assert {histogram.measure.name for histogram in made.facts.histograms} == set(MEASURE)
    for histogram in made.facts.histograms:
        measure = histogram.measure
        values = [row[measure.name] for row in rows if row[measure.name] is not None]
        clipped = np.clip(values, measure.edges[0], measure.edges[-1])
        assert histogram.counts.tolist() == np.histogram(clipped, measure.edges)[0].tolist()
        assert histogram.missing == len(rows) - len(values)
        assert histogram.mean == pytest.approx(np.mean(values))
        assert (histogram.lowest, histogram.highest) == (min(values), max(values))
        for threshold, beyond in zip(measure.thresholds, histogram.beyond, strict=True):
            far = (value > threshold.value if threshold.above else value < threshold.value for value in values)
            assert beyond == sum(far)


def test_what_a_threshold_keeps_of_each_label(made: CorpusReport, corpus: Corpus):
    rows = rows_of(corpus)
    for total in made.facts.groups["label"].largest(100):
        own = [row["p_corresponds"] for row in rows if total.name in row["labels"]]
        assert total.sums[SCORED] == len(own)
        assert list(total.sums[FIRST_KEPT:]) == [sum(p > least for p in own) for least in KEPT_ABOVE]


def test_the_funnel_is_that_of_status(made: CorpusReport, corpus: Corpus):
    status = corpus_status(corpus.url)
    assert made.facts.status == status
    html = made.page.read_text()
    extract = next(stage for stage in status.stages if stage.name == "extract")
    for state, reason, clips in extract.others:
        assert f'<span class="count">{clips}</span> {state}: {reason}' in html
    facts = json.loads(Path(corpus.url, "scorers/default/facts.json").read_text())
    assert made.facts.scorer.mismatched_share == facts["mismatched_share"]
    assert f"{facts['auc']['other_source']['score']:.3f}" in html


def test_best_undecided_and_worst_are_thirds_without_overlap(made: CorpusReport, corpus: Corpus):
    rows = rows_of(corpus)
    choice = Choice(12)
    for shard in range(corpus.shards):
        own = [row for row in rows if row["shard"] == shard]
        columns = ("id", "correspondence", "p_corresponds")
        choice.add(ShardRows(shard, pa.table({name: [row[name] for row in own] for name in columns}), None))
    groups = choice.groups()
    assert {name: len(clips) for name, clips in groups.items()} == {"best": 4, "undecided": 4, "worst": 4}
    assert len({clip for clips in groups.values() for clip in clips}) == 12
    ranked = sorted(rows, key=lambda row: row["correspondence"])
    assert [clip.id for clip in groups["worst"]] == [row["id"] for row in ranked[:4]]
    assert [clip.id for clip in groups["best"]] == [row["id"] for row in ranked[:-5:-1]]
    assert sum(made.shown.values()) == len(rows)


def test_only_as_many_clips_are_held_as_can_be_shown():
    kept, rng = Lowest(10), np.random.default_rng(0)
    keys = rng.standard_normal((50, 100))
    for shard, own in enumerate(keys):
        kept.add(own, pa.chunked_array([[f"c{shard:02d}{place:02d}" for place in range(100)]]), shard)
        assert len(kept._kept) == 10
    lowest = np.argsort(keys.ravel())[:10]
    assert kept.clips() == [ClipRef(int(place) // 100, f"c{place // 100:02d}{place % 100:02d}") for place in lowest]
    none = Lowest(0)
    none.add(np.zeros(3), pa.chunked_array([["a", "b", "c"]]), 0)
    assert none.clips() == []


def test_near_duplicates_are_those_of_all_pairs(made: CorpusReport, corpus: Corpus):
    encoder = load_scorer(corpus, "default").facts["encoder"]
    pictures = {
        clip: vector
        for part in picture_vectors(corpus, encoder)
        for clip, vector in zip(part.ids, part.vectors, strict=True)
    }
    sounds = {
        clip: vector
        for part in sound_vectors(corpus, "default")
        for clip, vector in zip(part.ids, part.vectors, strict=True)
    }
    drawn = draw_vectors(corpus, encoder)
    # All neighbours of every clip, so that none is missed.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidaudio.report.corpus.duplicates.NEIGHBOURS", len(pictures))
        found = find_duplicates(corpus, drawn, "default")
    near = [
        pair
        for pair in itertools.combinations(sorted(pictures), 2)
        if pictures[pair[0]] @ pictures[pair[1]] > LEAST_PICTURES
    ]
    assert found.pictures_alike == len(near)
    assert found.sounds_too == sum(sounds[one] @ sounds[other] > LEAST_SOUND for one, other in near)
    shown = [clip for pair in found.shown for clip in (pair.first, pair.second)]
    assert len(shown) == len(set(shown))
    assert made.duplicates.compared == made.duplicates.embedded == len(pictures)


def test_near_duplicates_among_many_clips_are_found(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vidaudio.vector_index.EXACT_VECTORS", 1_000)
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((4_000, 32)).astype(np.float32)
    vectors[2_000:2_050] = vectors[:50] + 0.1 * rng.standard_normal((50, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    clips = [ClipRef(row // 256, f"c{row:04d}") for row in range(len(vectors))]
    hashes = np.arange(len(vectors), dtype=np.uint64)
    found = find_duplicates(corpus, DrawnVectors(clips, hashes, hashes, [None] * 4_000, vectors, 4_000), None)
    near = (vectors[:50] * vectors[2_000:2_050]).sum(axis=1) > LEAST_PICTURES
    assert near.sum() > 40
    assert found.pictures_alike >= 0.9 * near.sum()
    assert len(found.shown) == 12


def test_clips_of_one_source_are_no_near_duplicates(corpus: Corpus):
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1]]
    clips = [ClipRef(0, name) for name in "abcd"]
    drawn = DrawnVectors(clips, np.arange(4, dtype=np.uint64), np.array([1, 1, 2, 2]), [None] * 4, vectors, 9)
    found = find_duplicates(corpus, drawn, None)
    assert found.pictures_alike == 2
    assert [(pair.first.id, pair.second.id, pair.pictures, pair.sound) for pair in found.shown] == [
        ("a", "c", 1.0, None)
    ]
    assert (found.compared, found.embedded, found.sounds_too) == (4, 9, None)


def test_the_map_is_of_the_principal_components_and_bounded():
    rng = np.random.default_rng(1)
    vectors = (rng.standard_normal((MOST_POINTS + 500, 16)) * np.linspace(3, 0.1, 16) + 5).astype(np.float32)
    clips = [ClipRef(0, f"c{row}") for row in range(len(vectors))]
    labels = [f"label {row % 20}" for row in range(len(vectors))]
    hashes = rng.permutation(len(vectors)).astype(np.uint64)
    drawn = DrawnVectors(clips, hashes, hashes, labels, vectors, len(vectors))
    found = draw_map(drawn)
    assert len(found.points) == MOST_POINTS
    assert {point.clip for point in found.points} == {clips[row] for row in np.flatnonzero(hashes < MOST_POINTS)}
    centred = vectors - vectors.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    assert found.explained == pytest.approx(tuple(np.square(sizes[:2]) / np.square(sizes).sum()), rel=1e-3)
    expected = centred[np.flatnonzero(hashes < MOST_POINTS)] @ axes[0]
    assert abs(np.corrcoef(expected, [point.x for point in found.points])[0, 1]) > 0.9999
    assert len(found.legend) == 8
    assert found.others == MOST_POINTS - sum(count for _, count in found.legend)
    same = DrawnVectors(clips[:5], hashes[:5], hashes[:5], labels[:5], np.ones((5, 4), np.float32), 5)
    assert draw_map(same) is None


def test_vectors_of_many_clips_are_drawn_by_their_hashes(corpus: Corpus):
    encoder = load_scorer(corpus, "default").facts["encoder"]
    everything, some = draw_vectors(corpus, encoder), draw_vectors(corpus, encoder, most=12)
    assert 2 <= len(some.clips) < len(everything.clips)
    assert set(some.clips) < set(everything.clips)
    assert some.embedded == everything.embedded
    sources = {row["id"]: row["labels"][0] for row in rows_of(corpus)}
    assert some.labels == [sources[clip.id] for clip in some.clips]


def test_the_same_corpus_gives_the_same_bytes(scored_corpus: str, tmp_path: Path):
    first, again = (
        report(scored_corpus, tmp_path / f"{n}.html", clips=6, croissant=tmp_path / f"{n}.json", progress=False)
        for n in range(2)
    )
    assert again.page.read_bytes() == first.page.read_bytes()
    assert again.croissant.read_bytes() == first.croissant.read_bytes()
    assert again.as_dict() | {"page": "", "croissant": ""} == first.as_dict() | {"page": "", "croissant": ""}


def test_the_page_requests_nothing_and_names_no_path(made: CorpusReport, scored_corpus: str):
    html = made.page.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert set(re.findall(r'\ssrc="(data:[a-z/]+|[^"]{1,9})', html)) == {"data:image/jpeg", "data:audio/mpeg"}
    assert str(Path(scored_corpus).parent) not in html
    assert " style=" not in html
    assert "onclick" not in html


def test_media_are_small_and_a_large_page_stays_below_20_mb(made: CorpusReport):
    html = made.page.read_text()
    cards = re.findall(r"<article.*?</article>", html, re.DOTALL)
    assert len(cards) == sum(made.shown.values()) + 2 * len(made.duplicates.shown)
    largest = max(map(len, cards))
    points = tuple(Point(ClipRef(0, "i" * 100), 0.123, 0.456, "l" * 100, 3) for _ in range(MOST_POINTS))
    content = PageContent(made.facts, {}, {}, None, VectorMap(points, (("l" * 100, 5),), (0.2, 0.1), 10**6))
    assert len(fill_page(content)) + largest * (CLIPS_SHOWN + 24) < LARGE_PAGE_BYTES
    assert SOUND_SECONDS == 4.0


def test_hostile_texts_are_shown_and_harmless(scored_corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = copy_of(scored_corpus, tmp_path)
    hostile_pages(copy, open_corpus(str(copy)).shards)
    hostile_lists(monkeypatch)
    made = report(str(copy), tmp_path / "r.html", clips=9, croissant=tmp_path / "c.json", progress=False)
    html = made.page.read_text("utf-8")
    assert problem_of(re.sub(r'"data:[^"]+"', "", html)[:131_000]) is None
    assert problem_of(re.sub(r'"data:[^"]+"', "", html)[131_000:262_000]) is None
    assert "window.got" in html
    assert "<img src=x" not in html
    assert html.count("<script>") == html.count("</script>") == 1
    assert "<svg onload" not in html
    assert "{{ 7" in html
    assert SCRIPT.split()[0] not in html
    described = json.loads(made.croissant.read_text())
    assert all(problem_of(licence) is None for licence in described["license"])


def test_info_that_is_no_object_states_nothing(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)

    def change(table: pa.Table) -> pa.Table:
        infos = itertools.islice(
            itertools.cycle(["[1]", "{", '{"title": ["x"], "uploader": {}}', None]), table.num_rows
        )
        return table.set_column(table.column_names.index("info"), "info", pa.array(list(infos), pa.string()))

    rewrite(copy, "clips", 0, change)
    made = report(str(copy), tmp_path / "r.html", clips=3, progress=False)
    assert [total.name for total in made.facts.groups["uploader"].largest(5)] == ["not stated"]


def test_a_corpus_without_scores_shows_a_drawn_sample(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    shutil.rmtree(copy / "scores")
    made = report(str(copy), tmp_path / "r.html", clips=2, progress=False)
    assert made.shown == {"drawn": 2}
    html = made.page.read_text()
    assert "There are no scores" in html
    assert 'id="scorer"' not in html
    assert 'id="kept"' not in html
    assert made.facts.histogram("loudness_lufs").known == made.facts.clips
    assert "p_corresponds" not in made.as_dict()["measures"]


def test_missing_stages_are_told_and_left_out(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    for folder in ("scores", "facts", "embeddings", "scorers"):
        shutil.rmtree(copy / folder)
        made = report(str(copy), tmp_path / "r.html", clips=2, croissant=copy / "croissant.json", progress=False)
    assert len(made.notes) == 3
    assert made.duplicates is None
    html = made.page.read_text()
    assert "There are no facts" in html
    assert 'id="map"' not in html
    shutil.rmtree(copy / "av")
    bare = report(str(copy), tmp_path / "r.html", croissant=copy / "croissant.json", progress=False)
    assert bare.facts.clips == 0
    assert bare.shown == {}
    assert "No clip is extracted yet" in bare.page.read_text()


def test_shards_that_are_not_scored_yet_leave_their_clips_without_a_score(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    (copy / "scores/default/000000.parquet").unlink()
    made = report(str(copy), tmp_path / "r.html", clips=6, progress=False)
    histogram = made.facts.histogram("p_corresponds")
    assert histogram.missing > 0
    assert histogram.known + histogram.missing == made.facts.clips
    assert f"{histogram.missing:,} without a value" in made.page.read_text()


def test_removed_clips_are_neither_counted_nor_shown(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    before = report(str(copy), tmp_path / "r.html", clips=0, progress=False)
    gone = rows_of(open_corpus(str(copy)))[0]["id"]
    remove(str(copy), [gone], progress=False)
    after = report(str(copy), tmp_path / "r.html", clips=6, progress=False)
    assert after.facts.clips == before.facts.clips - 1
    assert gone not in after.page.read_text()
    assert "removed for good" in after.page.read_text()


def test_mistakes_are_sentences(scored_corpus: str, tmp_path: Path):
    with pytest.raises(CorpusError, match="there is no corpus at"):
        report(str(tmp_path / "none"), tmp_path / "r.html", progress=False)
    with pytest.raises(ScorerError, match="has no scores by mine; it has some by default"):
        report(scored_corpus, tmp_path / "r.html", scorer="mine", progress=False)
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        report(scored_corpus, tmp_path, progress=False)
    with pytest.raises(UsageError, match="-1 clips cannot be shown"):
        report(scored_corpus, tmp_path / "r.html", clips=-1, progress=False)
    with pytest.raises(UsageError, match="is a URL"):
        report(scored_corpus, "s3://bucket/report.html", progress=False)
    assert not list(tmp_path.iterdir())


def test_scores_of_two_scorers_are_chosen_by_name(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    shutil.copytree(copy / "scores/default", copy / "scores/other")
    with pytest.raises(ScorerError, match="scores by default, other; name one with --scorer"):
        report(str(copy), tmp_path / "r.html", progress=False)
    made = report(str(copy), tmp_path / "r.html", scorer="other", clips=3, progress=False)
    assert made.facts.scorer is None
    assert "The scorer itself is missing" in made.page.read_text()


def test_damage_is_named(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    facts = copy / "scorers/default/facts.json"
    facts.write_text('{"clips": "many"}')
    with pytest.raises(ScorerError, match=r"facts\.json does not describe a scorer"):
        report(str(copy), tmp_path / "r.html", progress=False)
    facts.unlink()
    tar = next((copy / "av").glob("000000.*.tar"))
    tar.write_bytes(b"\0" * tar.stat().st_size)
    with pytest.raises(CorpusError, match=r"cannot be shown.*vidaudio verify"):
        report(str(copy), tmp_path / "r.html", progress=False)
    (copy / "facts/000000.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(CorpusError, match=r"facts/000000\.parquet is damaged"):
        report(str(copy), tmp_path / "r.html", progress=False)


def test_logs_of_runs_that_cannot_be_read_are_counted(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    (copy / "runs/20260101T000000.000000").mkdir(parents=True)
    (copy / "runs/20260101T000000.000000/tasks.parquet").write_bytes(b"nothing")
    made = report(str(copy), tmp_path / "r.html", clips=0, progress=False)
    assert made.facts.costs.unreadable == 1
    assert "Logs of runs that cannot be read and are not counted: 1." in made.page.read_text()


def test_the_costs_of_runs_are_summed_by_stage(made: CorpusReport):
    costs = {cost.stage: cost for cost in made.facts.costs.stages}
    assert {"download", "extract", "embed", "score"} <= set(costs)
    assert costs["extract"].rows == made.facts.status.clips
    assert costs["extract"].seconds > 0


def test_totals_hold_the_sums_of_any_number_of_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vidaudio.report.corpus.totals.PENDING_NAMES", 10)
    rng = np.random.default_rng(0)
    totals, slow = Totals(2), Counter()
    for _ in range(30):
        names = [f"n{number}" for number in rng.integers(0, 40, 25)]
        totals.add(names, np.stack([np.ones(25), np.full(25, 0.5)], axis=1))
        slow.update(names)
    totals.add([], np.zeros((0, 2)))
    ranked = sorted(slow.items(), key=lambda pair: (-pair[1], pair[0]))
    assert [(total.name, total.sums) for total in totals.largest(7)] == [(n, (c, c / 2)) for n, c in ranked[:7]]
    assert totals.rest(7).sums[0] == sum(slow.values()) - sum(count for _, count in ranked[:7])
    assert totals.rest(7).name == f"{len(slow) - 7} others"
    assert totals.rest(100) is None
    assert len(totals) == len(slow)
    assert "n0" in totals
    assert Totals(2).largest(3) == []


def test_a_histogram_counts_what_is_beyond_its_edges_and_what_is_missing():
    histogram = Histogram(MEASURE["offset_seconds"])
    histogram.add(np.array([-9.0, 0.01, 9.0, np.nan, np.inf]))
    assert histogram.counts[0] == histogram.counts[-1] == 1
    assert (histogram.known, histogram.missing) == (3, 2)
    assert Histogram(MEASURE["cuts"]).mean is None


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.0, "0"), (-0.0, "0"), (12345.6, "12,346"), (0.01234, "0.0123"), (-70.0, "-70")]
)
def test_numbers_are_short(value: float | None, shown: str):
    assert short_number(value) == shown


def test_sizes_have_units():
    assert [human_bytes(size) for size in (0, 999, 1500, 2.5e9, 7.77e15)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 GB",
        "7,770.0 TB",
    ]


def test_the_command_writes_and_tells(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    shutil.rmtree(copy / "scores")
    page = tmp_path / "new" / "r.html"
    line = ["report", str(copy), "-o", str(page), "--clips", "1", "--quiet"]
    told = CliRunner().invoke(app, line)
    assert told.exit_code == 0
    assert told.stdout.startswith(f"{page}: ")
    assert "note: There are no scores" in told.stdout
    as_json = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    assert as_json["bytes"] == page.stat().st_size
    assert as_json["shown"] == {"drawn": 1}
