"""Status: counted once and remembered, right whatever became of the memory, and cheap on stores that answer slowly."""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.media_world import MediaWorld, world_recipe
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.corpus.listing import _prefixes, list_stages
from vidaudio.corpus.superseded import superseded
from vidaudio.errors import CorpusError
from vidaudio.maintenance.outcome_counts import EXAMPLE_TABLES, SNAPSHOT_FILE
from vidaudio.maintenance.status import CorpusStatus, StageStatus, corpus_status
from vidaudio.manifest import Clip, table_from_clips
from vidaudio.media.outcomes import Reason
from vidaudio.pipeline.build import build
from vidaudio.pipeline.retry import plan_retry
from vidaudio.pipeline.task_loop import chain_outcomes, progress_text
from vidaudio.shards.commit import commit
from vidaudio.shards.open import open_store
from vidaudio.shards.parallel_read import in_parallel
from vidaudio.shards.store import LocalStore, Store

SHARD_CLIPS = 4


def begun(url: str, clips: int = 40) -> Corpus:
    """A corpus of a list, with nothing in it."""
    listed = [Clip(f"c{n:03d}", f"web:{n}", "d", f"https://example.org/{n}") for n in range(clips)]
    recipe = load_corpus_recipe("folder", [f"shard_clips={SHARD_CLIPS}", "embed.encoder.precision=float32"])
    return create_or_open(url, recipe, table_from_clips(listed))


def commit_outcomes(corpus: Corpus, shard: int, folder: str = "clips", **failed: str) -> None:
    """Commit a shard's table; `failed` names reasons, and `unknown` its message, by clip."""
    rows = []
    for clip in corpus.rows(shard):
        reason, _, message = failed.get(clip.id, "").partition(" ")
        rows.append({"id": clip.id, "state": "failed" if reason else "done", "reason": reason or None})
        rows[-1] |= {"message": message, "sha256": ""}
    names = ("id", "state", "reason", "message", "sha256")
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))
    stage = {"clips": "download", "av": "extract"}[folder]
    commit(corpus.store, folder, shard, stage=stage, plan_hash=corpus.plan_hash, table=table)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Ten shards downloaded, six extracted; some clips failed."""
    corpus = begun(str(tmp_path / "corpus"))
    for shard in range(10):
        commit_outcomes(corpus, shard, c001="private", c002="timeout", c017="unknown what is this")
    for shard in range(6):
        commit_outcomes(corpus, shard, "av", c010="no_audio")
    return corpus


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of a local store was read."""
    counted: Counter[str] = Counter()
    read = LocalStore.read

    def counting(self: LocalStore, name: str) -> bytes:
        counted[name] += 1
        return read(self, name)

    monkeypatch.setattr(LocalStore, "read", counting)
    return counted


def tables(reads: Counter[str]) -> int:
    return sum(times for name, times in reads.items() if name.startswith(("clips/", "av/")))


def outcome_of(corpus: Corpus) -> dict:
    return corpus_status(corpus.url).as_dict()["stages"]


EXPECTED = {
    "download": {
        "shards": 10,
        "done": 37,
        "others": [
            {"state": "failed", "reason": "private", "clips": 1, "may_pass_later": False},
            {"state": "failed", "reason": "timeout", "clips": 1, "may_pass_later": True},
            {"state": "failed", "reason": "unknown", "clips": 1, "may_pass_later": True, "example": "what is this"},
        ],
        "unknown_share": 0.3333,
        "unknown_messages": ["what is this"],
    },
    "extract": {
        "shards": 6,
        "done": 23,
        "others": [{"state": "failed", "reason": "no_audio", "clips": 1, "may_pass_later": False}],
    },
    "facts": {"shards": 0, "done": 0, "others": []},
}


def ordered(stages: dict) -> dict:
    for stage in stages.values():
        stage["others"].sort(key=lambda other: other["reason"])
    return stages


def test_a_table_is_read_once_ever(corpus: Corpus, reads: Counter[str]):
    assert ordered(outcome_of(corpus)) == EXPECTED
    assert tables(reads) == 16
    reads.clear()
    assert ordered(outcome_of(corpus)) == EXPECTED
    assert tables(reads) == 0
    commit_outcomes(corpus, 6, "av")
    assert outcome_of(corpus)["extract"]["done"] == 27
    assert tables(reads) == 1


@pytest.mark.parametrize("damage", ["missing", "cut", "noise", "foreign", "of another version", "other columns"])
def test_a_memory_that_is_no_use_is_made_anew(corpus: Corpus, damage: str, tmp_path: Path, reads: Counter[str]):
    corpus_status(corpus.url)
    path = Path(corpus.url) / SNAPSHOT_FILE
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "noise":
        path.write_bytes(b"\0" * 100)
    elif damage == "foreign":
        other = begun(str(tmp_path / "other"), clips=44)
        for shard in range(10):
            commit_outcomes(other, shard, c001="disk", c002="disk", c017="disk")
        corpus_status(other.url)
        shutil.copy(Path(other.url) / SNAPSHOT_FILE, path)
    elif damage == "of another version":
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({b"vidaudio": b'{"format": 99}'}), path)
    else:
        pq.write_table(pa.table({"a": [1]}, metadata=pq.read_schema(path).metadata), path)
    reads.clear()
    assert ordered(outcome_of(corpus)) == EXPECTED
    assert tables(reads) == 16
    reads.clear()
    assert ordered(outcome_of(corpus)) == EXPECTED
    assert tables(reads) == 0


def test_a_table_that_was_replaced_is_counted_again(corpus: Corpus, reads: Counter[str]):
    corpus_status(corpus.url)
    (Path(corpus.url) / "clips/000000.parquet").unlink()
    assert outcome_of(corpus)["download"]["shards"] == 9
    commit_outcomes(corpus, 0, c000="geo_blocked", c001="geo_blocked", c002="geo_blocked", c003="geo_blocked")
    reads.clear()
    told = outcome_of(corpus)["download"]
    assert {"state": "failed", "reason": "geo_blocked", "clips": 4, "may_pass_later": False} in told["others"]
    assert told["done"] == 35
    assert tables(reads) == 1


def test_a_clip_that_was_tried_again_counts_once_with_and_without_memory(corpus: Corpus, reads: Counter[str]):
    corpus_status(corpus.url)
    grown = plan_retry(corpus, {Reason.PRIVATE, Reason.TIMEOUT})
    assert [clip.id for clip in grown.rows(10)] == ["c001", "c002"]
    assert superseded(grown).ids(0) == {"c001", "c002"}
    # Both are waiting: their old failures count no more.
    unknown = {"state": "failed", "reason": "unknown", "clips": 1, "may_pass_later": True, "example": "what is this"}
    expected = [unknown]
    reads.clear()
    waiting = corpus_status(corpus.url).as_dict()
    assert (waiting["clips"], waiting["stages"]["download"]["done"]) == (40, 37)
    assert waiting["stages"]["download"]["others"] == expected
    # Only the shard that they came from was read again, in both columns.
    assert tables(reads) == 2
    commit_outcomes(grown, 10, c002="private")
    remembered = outcome_of(corpus)
    again = plan_retry(open_corpus(corpus.url), {Reason.PRIVATE})
    commit_outcomes(again, 11)
    newest = outcome_of(corpus)
    (Path(corpus.url) / SNAPSHOT_FILE).unlink()
    assert outcome_of(corpus) == newest
    assert (remembered["download"]["done"], newest["download"]["done"]) == (38, 39)
    assert newest["download"]["others"] == expected
    assert superseded(again).ids(10) == {"c002"}
    assert superseded(again, since=2).shards.tolist() == [0, 10]


def changed(table: pa.Table, name: str, value: object) -> pa.Table:
    """The same table with one value throughout a column."""
    place = table.schema.get_field_index(name)
    kind = table.schema.field(name).type
    return table.set_column(place, table.schema.field(name), pa.array([value] * table.num_rows, kind))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("example", "evil \x1b[2J\x1b[31mPWNED"),
        ("example", "x" * 10_000),
        ("reason", "private\x1b]0;pwned\x07"),
        ("state", "\u202e"),
        ("clips", -1),
        ("clips", None),
        ("filled_seconds", float("inf")),
    ],
)
def test_a_memory_with_values_that_no_status_writes_is_made_anew(corpus: Corpus, name: str, value: object):
    corpus_status(corpus.url)
    path = Path(corpus.url) / SNAPSHOT_FILE
    pq.write_table(changed(pq.read_table(path), name, value), path)
    assert ordered(outcome_of(corpus)) == EXPECTED


def test_a_memory_that_unpacks_to_more_than_any_of_ours_is_not_unpacked(corpus: Corpus):
    corpus_status(corpus.url)
    path = Path(corpus.url) / SNAPSHOT_FILE
    table = pq.read_table(path)
    pq.write_table(table.take([0] * 500_000), path, compression="zstd")
    before = pa.total_allocated_bytes()
    assert ordered(outcome_of(corpus)) == EXPECTED
    assert pa.total_allocated_bytes() - before < 10 << 20
    pq.write_table(table.replace_schema_metadata({b"vidaudio": b"[" * 100_000}), path)
    assert ordered(outcome_of(corpus)) == EXPECTED


def test_a_reason_that_is_no_word_is_damage_and_not_printed(tmp_path: Path):
    corpus = begun(str(tmp_path / "corpus"), clips=4)
    commit_outcomes(corpus, 0, c001="private\x1b]0;pwned\x07")
    with pytest.raises(CorpusError, match=r"clips/000000\.parquet is damaged \(its column reason holds"):
        corpus_status(corpus.url)


def test_statuses_at_once_agree(corpus: Corpus):
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: ordered(outcome_of(corpus)), range(16)))
    assert all(one == EXPECTED for one in told)
    assert [name for name in os.listdir(corpus.url) if name.startswith(".tmp")] == []


def test_a_corpus_that_may_only_be_read_is_counted_each_time(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    def refused(self: Store, *_: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(LocalStore, "put", refused)
    monkeypatch.setattr(LocalStore, "workspace", refused)
    for _ in range(2):
        assert ordered(outcome_of(corpus)) == EXPECTED
    assert not (Path(corpus.url) / SNAPSHOT_FILE).exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_no_error(corpus: Corpus):
    folder = Path(corpus.url)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert ordered(outcome_of(corpus)) == EXPECTED
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_damaged_table_is_named(corpus: Corpus):
    (Path(corpus.url) / "clips/000003.parquet").write_bytes(b"no table")
    with pytest.raises(CorpusError, match=r"the table .*clips/000003\.parquet is damaged"):
        corpus_status(corpus.url)


class TestUnknown:
    def told(self, tmp_path: Path, unknown: int, private: int) -> str:
        corpus = begun(str(tmp_path / f"{unknown}-{private}"), clips=100)
        failed = {f"c{n:03d}": f"unknown cause {n // SHARD_CLIPS}" for n in range(unknown)}
        failed |= {f"c{n:03d}": "private" for n in range(unknown, unknown + private)}
        for shard in range(25):
            commit_outcomes(corpus, shard, **failed)
        return str(corpus_status(corpus.url))

    def test_more_than_a_twentieth_of_the_failures_is_a_warning_with_their_words(self, tmp_path: Path):
        text = self.told(tmp_path, 5, 75)
        assert "5 failed: unknown  (may pass later: --retry-failed=unknown)  (6% of the failures)" in text
        assert "warning: download: 6% of the failures have no known cause (5 of 80)" in text
        assert text.endswith("cause 0\n  cause 1")

    def test_fewer_are_only_counted(self, tmp_path: Path):
        text = self.told(tmp_path, 4, 76)
        assert "4 failed: unknown" in text
        assert "(5% of the failures)" in text
        assert "warning" not in text

    def test_without_failures_there_is_nothing_to_warn_of(self, tmp_path: Path):
        assert "warning" not in self.told(tmp_path, 0, 0)


class TestCauses:
    def test_every_reason_has_one_of_its_messages_and_what_may_pass_says_how_to_ask_again(self, tmp_path: Path):
        corpus = begun(str(tmp_path / "corpus"), clips=12)
        closed = "unsupported 10.0.0.1 is a private address; download.allow_private_addresses lets such through"
        failed = dict.fromkeys(("c000", "c001", "c004"), closed)
        failed |= {"c002": "unsupported something else", "c003": "private"}
        failed |= {"c005": "timeout " + "x" * 500, "c006": "timeout " + "x" * 500, "c007": "unknown what is this"}
        for shard in range(3):
            commit_outcomes(corpus, shard, **failed)
        for _ in ("counted", "remembered"):
            status = corpus_status(corpus.url)
            others = {other["reason"]: other for other in status.as_dict()["stages"]["download"]["others"]}
            assert others["unsupported"] == {
                "state": "failed", "reason": "unsupported", "clips": 4, "may_pass_later": False,
                "example": closed.partition(" ")[2],
            }  # fmt: skip
            assert "example" not in others["private"]
            assert others["timeout"]["example"] == "x" * 199 + "…"
            assert others["unknown"]["example"] == "what is this"
            assert {reason for reason, other in others.items() if other["may_pass_later"]} == {"timeout", "unknown"}
            lines = str(status).splitlines()
            at = lines.index(f"  {'':<10}{4:>9,} failed: unsupported")
            assert lines[at + 1].strip() == f"e.g. {closed.partition(' ')[2]}"
            assert any(line.endswith("failed: timeout  (may pass later: --retry-failed=timeout)") for line in lines)

    def test_what_is_remembered_of_a_reason_has_a_bound_whenever_it_was_counted(self, tmp_path: Path):
        told = []
        for counted_at in ((40,), (5, 20, 40)):
            corpus = begun(str(tmp_path / f"corpus{len(counted_at)}"), clips=160)
            failed = {f"c{n:03d}": f"private this is said of clip {n}" for n in range(0, 160, 2)}
            for shard in range(40):
                commit_outcomes(corpus, shard, **failed)
                if shard + 1 in counted_at:
                    told.append(corpus_status(corpus.url).as_dict()["stages"])
            remembered = pq.read_table(Path(corpus.url) / SNAPSHOT_FILE)["example"].drop_null()
            assert len(remembered) == EXAMPLE_TABLES
        assert told[0] == told[-1]


def test_packs_say_what_they_left_out(built_corpus: Corpus, tmp_path: Path):
    """What pack.json says of clips that did not go in."""
    (pack,) = (pack for pack in corpus_status(built_corpus.url).packs if pack.name == "default")
    assert pack.left_out["where"] == 1
    assert "1 clip left out: not selected" in str(corpus_status(built_corpus.url))


class CountingFileSystem(fsspec.get_filesystem_class("memory")):
    """Memory, on which the operations of an object store are counted."""

    protocol = "counted"
    cachable = True
    counts: ClassVar[Counter[str]] = Counter()
    # Not shared with other file systems in memory.
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("counted://", "memory://", 1))

    def cat_file(self, path: str, **options: object) -> bytes:
        self.counts["read"] += 1
        return super().cat_file(path, **options)

    def ls(self, path: str, **options: object) -> list:
        self.counts["list"] += 1
        return super().ls(path, **options)

    def exists(self, path: str, **options: object) -> bool:
        self.counts["exists"] += 1
        return super().exists(path, **options)

    def open(self, path: str, mode: str = "rb", **options: object) -> object:
        self.counts["write" if "w" in mode or "x" in mode else "open"] += 1
        return super().open(path, mode, **options)


@pytest.fixture
def counted() -> Iterator[Counter[str]]:
    fsspec.register_implementation("counted", CountingFileSystem, clobber=True)
    CountingFileSystem.counts.clear()
    yield CountingFileSystem.counts
    CountingFileSystem.store.clear()


def test_a_finished_build_asks_as_little_of_a_large_corpus_as_of_a_small_one(
    counted: Counter[str], built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path
):
    recipe = world_recipe(tiny_clip)
    asked = {}
    for name, shards in (("small", 0), ("large", 30)):
        url = f"counted://{name}/corpus"
        fs = fsspec.filesystem("counted")
        fs.put(built_corpus.url + "/", f"/{name}/corpus/", recursive=True)
        # More tables than the list has shards: only how many files are looked at is of interest here.
        for number in range(100, 100 + shards):
            for folder in ("clips", "av"):
                fs.pipe_file(
                    f"/{name}/corpus/{folder}/{number:06d}.parquet", fs.cat(f"/{name}/corpus/{folder}/000000.parquet")
                )
        first = build(recipe, str(media_world.manifest), url, progress=False)
        counted.clear()
        again = build(recipe, str(media_world.manifest), url, progress=False)
        assert again == first
        asked[name] = dict(counted)
        assert counted["write"] == 0
    assert asked["large"] == asked["small"]
    assert sum(asked["small"].values()) < 50


def test_in_parallel_keeps_the_order_and_holds_few(tmp_path: Path):
    store = open_store(tmp_path)
    asked: list[int] = []
    answers = in_parallel(store, lambda n: asked.append(n) or n * n, iter(range(1000)))
    assert [next(answers) for _ in range(3)] == [0, 1, 4]
    assert len(asked) < 100
    assert list(answers) == [n * n for n in range(3, 1000)]

    def failing(number: int) -> int:
        if number == 5:
            raise CorpusError("five")
        return number

    with pytest.raises(CorpusError, match="five"):
        list(in_parallel(store, failing, range(1000)))


def test_a_large_folder_is_listed_by_stretches(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    assert _prefixes(1000) == [""]
    assert _prefixes(2001) == ["000", "001", "002"]
    assert _prefixes(2_000_000) == [""]
    whole = list_stages(corpus)
    monkeypatch.setattr("vidaudio.corpus.listing._prefixes", lambda shards: ["00000", "00001"])
    assert list_stages(corpus) == whole


def test_the_bar_says_what_came_of_the_clips():
    records = [{"outcomes": {"done": 10, "private": 2}}, {"outcomes": {"done": 9, "no_audio": 1}}, {"outcomes": {}}]
    assert chain_outcomes(records) == {"done": 9, "private": 2, "no_audio": 1}
    # A chain that only embeds knows of no outcomes; one in which nothing came through does.
    assert chain_outcomes([{"outcomes": {}}]) == {}
    assert progress_text(12, 40, {"done": 231, "private": 14, "no_audio": 3}, 0) == (
        "12/40 shards, 231 done, 14 private, 3 no_audio"
    )
    many = dict(zip("abcdef", range(9, 3, -1), strict=True))
    assert progress_text(1, 2, many, 3) == "1/2 shards, 9 a, 8 b, 7 c, 6 d, 9 others, 3 tasks failed"


def test_stages_of_several_encoders_are_told_apart():
    stages = (
        StageStatus("extract", 2, 8),
        StageStatus("embed", 2, 8, of="clip-float32-aaaa"),
        StageStatus("embed", 1, 4, of="clip-float32-bbbb"),
    )
    told = str(CorpusStatus("corpus", 8, 2, stages, ())).splitlines()
    assert told[1].split() == ["extract", "8", "done"]
    assert told[2].endswith("8 done: clip-float32-aaaa")
    assert told[3].endswith("4 done: clip-float32-bbbb  (1 of 2 shards)")
