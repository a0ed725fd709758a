"""Tables of URLs, ids and paths."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from vidaudio.errors import ManifestError
from vidaudio.manifest import TableOptions, read_table
from vidaudio.manifest.table import DEFAULT_COLUMNS

ROWS = [
    {"link": "https://youtu.be/aaaaaaaaaaa", "from": 30, "to": 40.5, "category": "dog"},
    {"link": "https://www.youtube.com/watch?v=aaaaaaaaaaa&t=9", "from": 12.5, "to": 20, "category": "cat"},
    {"link": "https://host.example/v/one.mp4", "from": 0, "to": 5, "category": "dog"},
]
COLUMNS = {"url": "link", "start": "from", "end": "to", "label": "category"}


def as_csv(rows, delimiter=","):
    lines = [delimiter.join(rows[0])] + [delimiter.join(str(value) for value in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def read(path, **options):
    return read_table(path, options=TableOptions(**options))


@pytest.fixture
def tables(write, tmp_path):
    """The same table in every format."""
    write("t.csv", as_csv(ROWS))
    write("t.tsv", as_csv(ROWS, "\t"))
    write("t.jsonl", "\n".join(json.dumps(row) for row in ROWS))
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    return [tmp_path / name for name in ("t.csv", "t.tsv", "t.jsonl", "t.parquet")]


def test_every_format_gives_the_same_clips(tables):
    csv, *others = [read(table, columns=COLUMNS).clips for table in tables]
    assert all(clips == csv for clips in others)
    assert [clip.id for clip in csv[:2]] == ["aaaaaaaaaaa_000030", "aaaaaaaaaaa_012500m"]
    assert {clip.source for clip in csv[:2]} == {"youtube:aaaaaaaaaaa"}
    assert csv[2].source == "web:https://host.example/v/one.mp4"
    assert csv[2].id.startswith("host_example_v_one-")
    assert csv[2].id.endswith("_000000")
    assert (csv[0].start_seconds, csv[0].end_seconds, csv[0].labels, csv[0].dataset) == (30.0, 40.5, ("dog",), "t")


def test_a_wrong_column_is_refused_with_the_names_there_are(tables):
    for table in tables:
        with pytest.raises(ManifestError, match="no column 'url2' for url; its columns are link, from, to, category"):
            read(table, columns={"url": "url2"})


def test_an_unknown_field_is_refused_with_the_fields_there_are(tables):
    with pytest.raises(ManifestError, match=f"no field 'urll'; the fields are {', '.join(DEFAULT_COLUMNS)}"):
        read(tables[0], columns={"urll": "link"})


def test_a_table_that_does_not_say_where_videos_are_is_refused(tables):
    with pytest.raises(ManifestError, match=r"say where the videos are.*--column url=NAME.*link, from, to, category"):
        read(tables[0])


def test_two_columns_that_could_both_be_a_field_are_not_guessed_between(write):
    with pytest.raises(ManifestError, match=r"columns path and file, which could all be url"):
        read(write("t.csv", "path,file\na.mp4,b.mp4\n"))


def test_usual_column_names_need_no_mapping_and_an_empty_mapping_switches_a_field_off(write):
    path = write("t.csv", "ytid,start,end,labels,split,id\naaaaaaaaaaa,1,2,dog,train,mine\n")
    clip = read(path).clips[0]
    assert (clip.id, clip.start_seconds, clip.labels, clip.split) == ("mine", 1.0, ("dog",), "train")
    assert read(path, columns={"id": ""}).clips[0].id == "aaaaaaaaaaa_000001"


def test_local_paths_are_resolved_against_the_tables_folder_or_the_root(write, tmp_path):
    write("lists/v/a.mp4", "")
    path = write("lists/t.csv", f"path\nv/a.mp4\n{tmp_path}/lists/v/../v/a.mp4\n")
    listing = read(path)
    assert (len(listing.clips), listing.merged) == (1, 1)
    assert listing.clips[0].url == str(tmp_path / "lists" / "v" / "a.mp4")
    assert listing.clips[0].source == "file:v/a.mp4"
    assert listing.clips[0].id.startswith("v_a-")
    elsewhere = read(write("other.csv", "path\na.mp4\n"), root=tmp_path / "lists" / "v")
    assert (elsewhere.clips[0].id, elsewhere.clips[0].url) == ("a", listing.clips[0].url)


def test_a_file_url_stays_one_and_no_file_is_looked_at(write):
    path = write("t.csv", "url\nfile:///nowhere/a%20b.mp4\nFILE:/nowhere/c.mp4\n/nowhere/c.mp4\n")
    clips = read(path, check_files=False).clips
    assert [clip.url for clip in clips] == ["file:///nowhere/a%20b.mp4", "FILE:/nowhere/c.mp4", "/nowhere/c.mp4"]
    # The same file by its path and by its URL is one source, of which the splits make no two sides.
    assert [clip.source for clip in clips] == ["file:/nowhere/a b.mp4", "file:/nowhere/c.mp4", "file:/nowhere/c.mp4"]
    assert len({clip.id for clip in clips}) == 3
    with pytest.raises(ManifestError, match=r"t.csv:4: there is no file /nowhere/c.mp4"):
        read(path)
    with pytest.raises(ManifestError, match=r"file:/// names no file"):
        read(write("none.csv", "url\nfile:///\n"))


def test_a_path_without_a_file_is_a_bad_row_unless_files_are_not_checked(write):
    path = write("t.csv", "path\nnone.mp4\n")
    with pytest.raises(ManifestError, match=r"t.csv:2: there is no file .*none.mp4"):
        read(path)
    assert len(read(path, check_files=False).clips) == 1


def test_files_that_are_cuts_begin_at_their_rows_start(write):
    path = write("t.csv", "path,start,end\na.mp4,30,40\n")
    assert read(path, check_files=False, cut_files=True).clips[0].media_start_seconds == 30.0
    assert read(path, check_files=False).clips[0].media_start_seconds is None


def test_a_path_with_a_youtube_id_has_the_videos_source(write):
    clip = read(write("t.csv", "path,youtube_id,start\na.mp4,aaaaaaaaaaa,30\n"), check_files=False).clips[0]
    assert (clip.id, clip.source) == ("aaaaaaaaaaa_000030", "youtube:aaaaaaaaaaa")
    assert clip.url.endswith("/a.mp4")


def test_equal_stems_in_two_folders_and_case_are_distinct(write):
    names = ["cat/1.mp4", "dog/1.mp4", "1.mp4", "A.mp4", "a.mp4", "a.b.mp4", "a_b.mp4", "-a.mp4", "日本.mp4"]
    listing = read(write("t.csv", "path\n" + "\n".join(names)), check_files=False)
    assert len({clip.id.casefold() for clip in listing.clips}) == len(names)
    assert listing.clips[7].id == "-a"


def test_ids_of_the_table_are_escaped_where_they_must_be(write):
    rows = "\n".join(
        f"https://h.example/{number},{name}" for number, name in enumerate(["a.b", "a b", "-c", "x" * 300])
    )
    first, second, third, fourth = (clip.id for clip in read(write("t.csv", f"url,id\n{rows}")).clips)
    assert first.startswith("a_b-")
    assert second.startswith("a_b-")
    assert first != second
    assert third == "-c"
    assert len(fourth) == 128


def test_one_id_for_two_urls_stops_and_names_both_lines(write):
    with pytest.raises(ManifestError, match=r"t.csv:2 and .*t.csv:4: x is at https://h.example/1 and at"):
        read(write("t.csv", "url,id\nhttps://h.example/1,x\nhttps://h.example/2,y\nhttps://h.example/3,x\n"))


def test_two_ends_for_one_start_stop(write):
    with pytest.raises(ManifestError, match="is 5 s to 10 s and 5 s to 12 s"):
        read(write("t.csv", "ytid,start,end\naaaaaaaaaaa,5,10\naaaaaaaaaaa,5,12\n"))


def test_texts_split_by_separator_come_from_lists_and_from_several_columns(write):
    clips = read(
        write("t.csv", "url,label,c1,c2\nhttps://h.example/1,dog; cat;dog,One.,Two.\n"),
        columns={"caption": ["c1", "c2"]},
        label_separator=";",
    ).clips
    assert (clips[0].labels, clips[0].captions) == (("dog", "cat"), ("One.", "Two."))
    listed = read(write("t.jsonl", '{"url": "https://h.example/1", "labels": ["dog; cat", "bird"]}')).clips
    assert listed[0].labels == ("dog; cat", "bird")


@pytest.mark.parametrize(
    ("start", "seconds"), [("1:05", 65.0), ("1:02:05.5", 3725.5), ("30.25", 30.25), ("", 0.0), ("1e2", 100.0)]
)
def test_starts_are_seconds_or_clock_times(write, start, seconds):
    assert read(write("t.csv", f"ytid,start\naaaaaaaaaaa,{start}\n")).clips[0].start_seconds == seconds


def test_a_duration_gives_the_end(write):
    path = write("t.csv", "ytid,start,length\naaaaaaaaaaa,5,2.5\n")
    assert read(path, columns={"duration": "length"}).clips[0].end_seconds == 7.5


def test_nulls_and_nan_are_empty(tmp_path):
    table = pa.table({"ytid": ["aaaaaaaaaaa", "bbbbbbbbbbb"], "start": [5.0, float("nan")], "labels": [["dog"], None]})
    parquet.write_table(table, tmp_path / "t.parquet")
    clips = read(tmp_path / "t.parquet").clips
    assert [clip.id for clip in clips] == ["aaaaaaaaaaa_000005", "bbbbbbbbbbb_000000"]
    assert clips[1].labels == ()


def test_own_sources_group_clips(write):
    path = write("t.csv", "url,video\nhttps://h.example/1,vimeo:7\n")
    assert read(path, columns={"source": "video"}).clips[0].source == "vimeo:7"


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://www.youtube.com/watch?v=aaaaaaaaaaa", "youtube:aaaaaaaaaaa"),
        ("youtube.com/watch?v=aaaaaaaaaaa", "youtube:aaaaaaaaaaa"),
        ("https://m.youtube.com/shorts/aaaaaaaaaaa", "youtube:aaaaaaaaaaa"),
        ("http://youtu.be/aaaaaaaaaaa?si=x", "youtube:aaaaaaaaaaa"),
        ("https://www.youtube-nocookie.com/embed/aaaaaaaaaaa", "youtube:aaaaaaaaaaa"),
        ("https://vimeo.com/1", "web:https://vimeo.com/1"),
        ("https://notyoutube.com/watch?v=aaaaaaaaaaa", "web:https://notyoutube.com/watch?v=aaaaaaaaaaa"),
    ],
)
def test_urls_of_a_youtube_video_have_one_source(write, url, source):
    assert read(write("t.csv", f"url\n{url}\n")).clips[0].source == source


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",5,6", "it has no URL, path or YouTube id"),
        ("https://www.youtube.com/@channel,5,6", "no single video"),
        ("s3://bucket/a.mp4,5,6", "neither an http"),
        ("http://[bad/a.mp4,5,6", "is not a URL"),
        ("https://h.example/1,6,5", "not after its start"),
        ("https://h.example/1,x,5", "the start 'x' is not a number"),
        ("https://h.example/1,5", "it has 2 fields, the header 3"),
    ],
)
def test_a_malformed_row_is_named(write, row, reason):
    path = write("t.csv", f"url,start,end\nhttps://h.example/0,0,1\n{row}\n")
    with pytest.raises(ManifestError) as error:
        read(path)
    assert f"{path}:3: " in str(error.value)
    assert reason in str(error.value)
    assert len(read_table(path, skip_bad_rows=True).clips) == 1


def test_malformed_json_lines_and_rows_of_parquet_are_named(write, tmp_path):
    with pytest.raises(ManifestError) as error:
        read(write("t.jsonl", '{"url": "https://h.example/1"}\n\n{"url"\n[1]\n{"url": {"a": 1}}\n'))
    for words in (":3: it is not JSON", ":4: it is a JSON list", ":5: the column 'url' holds a dict"):
        assert words in str(error.value)
    odd = b'{"url": "https://h.example/caf\xe9"}\n{"url": "https://h.example/\\ud800"}\n{"\\udcff": 1, "url": "x"}'
    with pytest.raises(ManifestError) as error:
        read(write("odd.jsonl", odd))
    assert "3 rows cannot be read" in str(error.value)
    str(error.value).encode()
    parquet.write_table(pa.table({"url": ["https://h.example/1", None]}), tmp_path / "t.parquet")
    with pytest.raises(ManifestError, match=r"t.parquet row 2: it has no URL"):
        read(tmp_path / "t.parquet")


def test_a_table_of_unknown_or_false_format_is_refused(write, tmp_path):
    with pytest.raises(ManifestError, match="--format"):
        read(write("t.txt", "url\n"))
    with pytest.raises(ManifestError, match="no table format 'xls'"):
        read_table(write("t.txt", "url\n"), table_format="xls")
    assert len(read_table(write("t.txt", "url\nhttps://h.example/1\n"), table_format="csv").clips) == 1
    with pytest.raises(ManifestError, match="is not a Parquet file"):
        read(write("t.parquet", "url\n"))
    with pytest.raises(ManifestError, match="there is no list at"):
        read(tmp_path / "none.parquet")
    with pytest.raises(ManifestError, match="names 'url' more than once"):
        read(write("t.csv", "url,url\n"))
