"""Manifests on disk."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import vidaudio.manifest.store as store
from vidaudio.errors import ManifestError
from vidaudio.manifest import (
    SCHEMA,
    Clip,
    clips_from_table,
    describe_manifest,
    read_manifest,
    table_from_clips,
    write_manifest,
)
from vidaudio.manifest.source import open_manifest

CLIPS = [
    Clip(id="a", source="youtube:a", dataset="d", url="https://a", start_seconds=1.5, end_seconds=3.0, split="train"),
    Clip(
        id="A", source="file:A", dataset="d", url="/A.mp4", media_start_seconds=0.0, labels=("x", "é"), captions=("y",)
    ),
    Clip(id="-b", source="file:A", dataset="e", url="/b.mp4", labels=("x",), shard=3),
]


def test_clips_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "er" / "m.parquet"
    write_manifest(iter(CLIPS), path)
    table = read_manifest(path)
    assert table.schema == SCHEMA
    assert clips_from_table(table) == CLIPS
    assert [entry.name for entry in path.parent.iterdir()] == ["m.parquet"]


def test_rows_are_written_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROW_GROUP", 2)
    write_manifest(CLIPS, tmp_path / "m.parquet")
    assert parquet.ParquetFile(tmp_path / "m.parquet").metadata.num_row_groups == 2
    assert clips_from_table(read_manifest(tmp_path / "m.parquet")) == CLIPS


def test_equal_clips_give_equal_bytes(tmp_path):
    for name in ("1", "2"):
        write_manifest(CLIPS, tmp_path / name)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_write_that_fails_leaves_what_was_there_and_no_rest(tmp_path):
    path = tmp_path / "m.parquet"
    write_manifest(CLIPS, path)
    before = path.read_bytes()
    with pytest.raises(ManifestError, match="two clips have the id a"):
        write_manifest([CLIPS[0], CLIPS[0]], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ManifestError, match="cannot be written"):
        write_manifest(CLIPS, tmp_path / "file" / "m.parquet")
    with pytest.raises(ManifestError, match="is a folder"):
        write_manifest(CLIPS, tmp_path)


def test_an_empty_manifest_has_the_schema(tmp_path):
    write_manifest([], tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").num_rows == 0


def test_columns_of_other_types_with_the_same_values_are_cast_and_further_ones_left_out(tmp_path):
    table = table_from_clips(CLIPS)
    table = table.set_column(0, "id", table["id"].cast(pa.large_string()))
    table = table.set_column(10, "shard", table["shard"].cast(pa.float64()))
    table = table.set_column(5, "start_seconds", pa.array([1, 0, 0])).append_column("mine", pa.array([1, 2, 3]))
    parquet.write_table(table, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").schema == SCHEMA


def replaced(name: str, values: list, kind: pa.DataType | None = None) -> pa.Table:
    table = table_from_clips(CLIPS)
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (table_from_clips(CLIPS).drop_columns(["url", "shard"]), r"has no column url, shard \(it has id, source"),
        (replaced("start_seconds", ["x", "y", "z"]), "column start_seconds is string, not double"),
        (replaced("labels", ["x", "y", "z"]), "column labels is string"),
        (replaced("labels", [["x", None], [], []]), "lists with nulls"),
        (replaced("id", ["a", "b", "a"]), "1 id comes more than once, the first is a"),
        (replaced("id", ["a", "b.c", "d"]), r"1 id is not .*'b.c'"),
        (replaced("id", ["a", "b\n", "d"]), r"1 id is not "),
        (replaced("id", ["a", None, "d"]), "1 row has no id"),
        (replaced("url", ["a", None, None]), "2 rows have no url"),
        (replaced("source", ["youtube:a", "b", "file:c"]), "1 sources are not site:video, the first is 'b'"),
        (replaced("end_seconds", [1.0, None, None]), "1 clip has a cut that .* the first is a"),
        (replaced("start_seconds", [1.0, float("nan"), 0.0]), "the first is A"),
        (replaced("end_seconds", [3.0, float("inf"), None]), "the first is A"),
    ],
)
def test_tables_that_are_no_manifest_are_refused_in_a_sentence(tmp_path, table, reason):
    parquet.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match=reason):
        read_manifest(tmp_path / "m.parquet")


def test_files_that_are_no_parquet_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="there is no manifest at"):
        read_manifest(tmp_path / "none.parquet")
    with pytest.raises(ManifestError, match="is a folder"):
        read_manifest(tmp_path)
    write_manifest(CLIPS, tmp_path / "m.parquet")
    whole = (tmp_path / "m.parquet").read_bytes()
    broken_footer = whole[:-40] + b"\xff" * 20 + whole[-20:]
    for content in (b"", b"id,url\n", whole[: len(whole) // 2], broken_footer):
        (tmp_path / "odd.parquet").write_bytes(content)
        with pytest.raises(ManifestError, match=r"is not a Parquet file|is a damaged Parquet file"):
            read_manifest(tmp_path / "odd.parquet")


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    write_manifest(CLIPS, tmp_path / "split=test" / "m.parquet")
    assert clips_from_table(read_manifest(tmp_path / "split=test" / "m.parquet"))[0].split == "train"


def test_a_summary_counts_what_is_there():
    summary = describe_manifest(table_from_clips(CLIPS))
    assert (summary.clips, summary.sources, summary.local, summary.open_cuts, summary.captions) == (3, 2, 2, 2, 1)
    assert summary.labels == {"x": 2, "é": 1}
    assert summary.splits == {"": 2, "train": 1}
    assert summary.hours == pytest.approx(1.5 / 3600)


@pytest.mark.parametrize("place", ["s3://bucket/a.parquet", "s3:/bucket/a.parquet", Path("gs://bucket/a.parquet")])
def test_a_manifest_is_a_local_file_and_a_file_url_names_one(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    for use in (read_manifest, open_manifest, lambda where: write_manifest(CLIPS, where)):
        with pytest.raises(ManifestError, match=r"lists are local files, and \w+://bucket/a\.parquet is a URL"):
            use(place)
    assert list(tmp_path.iterdir()) == []
    write_manifest(CLIPS, (tmp_path / "a.parquet").as_uri())
    assert read_manifest((tmp_path / "a.parquet").as_uri()).equals(read_manifest(tmp_path / "a.parquet"))
    # Whoever means a folder of such a name can say so.
    write_manifest(CLIPS, "./s3:/a.parquet")
    assert (tmp_path / "s3:" / "a.parquet").is_file()
    assert read_manifest("./s3:/a.parquet").num_rows == open_manifest("./s3:/a.parquet").num_rows == 3
