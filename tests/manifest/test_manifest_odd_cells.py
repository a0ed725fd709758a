"""Cells that are no text, no number or no time: a sentence with file and row, never a traceback, never a lost list."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.hostile_text import HOSTILE, problem_of
from vidaudio.errors import ManifestError
from vidaudio.manifest import (
    Clip,
    TableOptions,
    clips_from_table,
    read_audiocaps,
    read_esc,
    read_manifest,
    read_music,
    read_table,
    read_vggsound,
    table_from_clips,
    write_manifest,
)
from vidaudio.manifest.rows import CLEANED
from vidaudio.manifest.source import open_manifest

GOOD = {"youtube_id": "aaaaaaaaaa1", "start": 0}


def refused(path, reason: str, *, good: int = 1) -> None:
    """The second row is refused with this reason, and the others are read without it."""
    with pytest.raises(ManifestError) as error:
        read_table(path)
    message = str(error.value)
    assert "1 row cannot be read" in message
    assert reason in message
    assert len(message) < 2_000
    message.encode()
    read = read_table(path, skip_bad_rows=True)
    assert (len(read.clips), len(read.bad_rows)) == (good, 1)
    assert read.bad_rows[0].place.number == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('"start": ' + "1" * 5_000, "is not a time of 0 s or later"),
        ('"x": ' + "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('"x": ' + '{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deeply"),
        ('"start": Infinity', "the start 'inf' is not a number"),
        ('"start": -1', "is not a time of 0 s or later"),
        ('"start": 1e300', "at most 1e+09 s"),
        ('"start": 2000000000', "at most 1e+09 s"),
        ('"start": true', "the start 'True' is not a number"),
        ('"start": [1]', "holds a list"),
        ('"start": "' + "9" * 5_000 + ':00:00"', "is not a number of seconds"),
        ('"caption": "' + "x" * 140_000 + '"', "140,000 characters; at most 131,072"),
        ('"caption": ["a", {"b": 1}]', "holds a dict"),
        ('"split": "' + "x" * 140_000 + '"', "140,000 characters"),
        ('"start": 0,', "it is not JSON"),
    ],
)
def test_json_lines(write, row, reason):
    second = '{"youtube_id": "aaaaaaaaaa2", ' + row + "}"
    refused(write("t.jsonl", f"{json.dumps(GOOD)}\n{second}\n"), reason)


def test_numbers_that_nobody_asks_for_may_be_anything(write):
    rows = [GOOD, '{"youtube_id": "aaaaaaaaaa2", "views": ' + "1" * 5_000 + ', "ratio": NaN, "best": -Infinity}']
    read = read_table(write("t.jsonl", "\n".join([json.dumps(rows[0]), rows[1]])))
    assert len(read.clips) == 2
    # What is not a number is nothing, as pandas has it.
    assert read_table(write("n.jsonl", '{"youtube_id": "aaaaaaaaaa2", "start": NaN}')).clips[0].start_seconds == 0.0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://h.example/a\0b", "holds control characters"),
        ("https://h.example/a\\nb", "holds control characters"),
        ("https://h.example/\\ud800", "no text"),
        ("a\\u0000b.mp4", "holds control characters"),
        ("x" * 140_000, "140,000 characters"),
        ("x" * 5_000, "there is no file"),
        ("~nobody/x.mp4", "there is no file"),
    ],
)
def test_urls_and_paths(write, url, reason):
    lines = ['{"url": "https://h.example/1"}', '{"url": "' + url.replace("\0", "\\u0000") + '"}']
    path = write("t.jsonl", "\n".join(lines))
    if reason.startswith("holds"):
        options = TableOptions(check_files=False)
        with pytest.raises(ManifestError, match=reason):
            read_table(path, options=options)
        assert len(read_table(path, options=options, skip_bad_rows=True).clips) == 1
    else:
        refused(path, reason)


def test_binary_columns_of_parquet_are_texts(tmp_path):
    table = pa.table(
        {
            "youtube_id": pa.array([b"aaaaaaaaaa1", b"aaaaaaaaaa2"], pa.binary()),
            "start": pa.array([b"5", b"6"], pa.large_binary()),
            "caption": pa.array([[b"dog barking"], ["Glocke läutet".encode()]], pa.list_(pa.binary())),
            "label": pa.array([b"dog", b"bell"]).dictionary_encode(),
            "picture": pa.array([b"\xff\xd8\xff", b"\x89PNG"]),
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    clips = read_table(tmp_path / "t.parquet").clips
    assert [(clip.captions, clip.labels, clip.start_seconds) for clip in clips] == [
        (("dog barking",), ("dog",), 5.0),
        (("Glocke läutet",), ("bell",), 6.0),
    ]


def test_cells_of_parquet_that_python_cannot_hold_cost_their_row(tmp_path):
    bad_text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\x03\0\0\0\x07\0\0\0"), pa.py_buffer(b"dogcaf\xe9")]
    )
    far = pa.array([0, 9 * 10**17], pa.timestamp("us"))
    for column, name in ((bad_text, "caption"), (pa.array([b"dog", b"caf\xe9"]), "caption")):
        table = pa.table({"youtube_id": ["aaaaaaaaaa1", "aaaaaaaaaa2"], name: column, "uploaded": far})
        parquet.write_table(table, tmp_path / "t.parquet")
        refused(tmp_path / "t.parquet", "column 'caption' holds")


def test_words_are_made_storable_and_the_list_is_told(write):
    row = json.dumps({**GOOD, "caption": HOSTILE, "label": [HOSTILE, "dog"], "split": "tr\u202eain"})
    read = read_table(write("t.jsonl", row + "\n"))
    clip = read.clips[0]
    assert (clip.labels[1], clip.split) == ("dog", "train")
    for text in (*clip.labels, *clip.captions):
        assert problem_of(text) is None
    assert read.notes == (f"1 row ({write('t.jsonl', row)}:1): {CLEANED}",)
    assert "\n" in clip.captions[0]
    assert "\n" not in clip.labels[0]


def test_every_format_has_its_words_made_storable(write, tmp_path):
    mark = "\u202edog\x1b[31m"
    listings = [
        read_vggsound(write("v.csv", f"aaaaaaaaaaa,1,{mark},train\n")),
        read_audiocaps(write("train.csv", f"audiocap_id,youtube_id,start_time,caption\n1,aaaaaaaaaaa,1,{mark}\n")),
        read_music(write("m.json", json.dumps({"videos": {mark: ["aaaaaaaaaaa"]}}))),
    ]
    for read in listings:
        assert [*read.clips[0].labels, *read.clips[0].captions] == ["dog"]


def test_other_readers_name_odd_values(write, tmp_path):
    write("1-2-A-3.wav", "")
    for fold in ("²", "1" * 5_000, "١"):
        with pytest.raises(ManifestError, match="is none of 1 to 5"):
            read_esc(write("e.csv", f"filename,fold,category\n1-2-A-3.wav,{fold},dog\n"))
    with pytest.raises(ManifestError, match="nested too deeply"):
        read_music(write("m.json", '{"x": ' + "[" * 100_000 + "]" * 100_000 + ', "videos": {}}'))
    deep = "[" * 900 + '"s"' + "]" * 900
    ids = '{"x": ' + deep + ', "videos": {"flute": ["aaaaaaaaaaa", ' + "1" * 5_000 + "]}}"
    read = read_music(write("m.json", ids), skip_bad_rows=True)
    assert (len(read.clips), len(read.bad_rows)) == (1, 1)


@pytest.mark.parametrize("split", ["../x", "..", "a/b", "a\\b", "x" * 300])
def test_a_split_that_no_shard_can_be_named_after_costs_its_row(write, split):
    rows = [GOOD, {"youtube_id": "aaaaaaaaaa2", "start": 0, "split": split}]
    path = write("list.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    listing = read_table(path, options=TableOptions(), skip_bad_rows=True)
    assert len(listing.clips) == 1
    assert "cannot be part of a file's name" in str(listing.bad_rows[0])
    with pytest.raises(ManifestError, match=r"list\.jsonl.*2.*the split"):
        read_table(path, options=TableOptions())


@pytest.mark.parametrize("split", ["train", "my split", "été", "", None])
def test_other_splits_are_read(write, split):
    path = write("list.jsonl", json.dumps(GOOD | {"split": split}) + "\n")
    assert read_table(path, options=TableOptions()).clips[0].split == (split or None)


# --- manifests made by hand ------------------------------------------------------------------------------------------

CLIPS = [
    Clip(id="a", source="file:a", dataset="d", url="/a.mp4", end_seconds=10.0, labels=("x",), captions=("y",)),
    Clip(id="b", source="file:b", dataset="d", url="/b.mp4", start_seconds=5.0, end_seconds=10.0),
]


def by_hand(tmp_path, name: str, value: object):
    """A manifest as somebody's own program writes it, with one value of the second clip changed."""
    table = table_from_clips(CLIPS)
    place = table.column_names.index(name)
    values = [*table[name].to_pylist()[:1], value]
    parquet.write_table(table.set_column(place, name, pa.array(values, table.schema.field(name).type)), tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("name", ["media_start_seconds", "start_seconds", "end_seconds"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0, 1e10, 1e300])
@pytest.mark.parametrize("whole", [True, False])
def test_a_time_that_is_none_is_refused_when_a_build_opens_the_list(tmp_path, monkeypatch, name, value, whole):
    monkeypatch.setattr("vidaudio.manifest.source.WHOLE_ROWS", 100 if whole else 0)
    with pytest.raises(ManifestError, match=r"the first is b"):
        open_manifest(by_hand(tmp_path, name, value))


def test_a_file_that_begins_behind_its_clip_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="behind the clip's end; the first is b with 10"):
        open_manifest(by_hand(tmp_path, "media_start_seconds", 10.0))
    assert open_manifest(by_hand(tmp_path, "media_start_seconds", 9.0)).num_rows == 2


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("url", "/a\0b.mp4", "control characters"),
        ("url", "https://h/a\nb", "control characters"),
        ("captions", ["x" * 140_000], "140,000 characters"),
        ("source", "file:" + "x" * 140_000, "140,005 characters"),
        ("split", "../x", r"in split what cannot be part of a file's name.*the first is b with '\.\./x'"),
        ("split", "x" * 300, "cannot be part of a file's name"),
    ],
)
def test_texts_that_no_list_may_have_are_refused(tmp_path, name, value, reason):
    with pytest.raises(ManifestError, match=reason):
        open_manifest(by_hand(tmp_path, name, value))


@pytest.mark.parametrize("rows", [100, 0])
def test_words_of_a_manifest_made_by_hand_are_made_storable(tmp_path, monkeypatch, rows):
    monkeypatch.setattr("vidaudio.manifest.source.WHOLE_ROWS", rows)
    text = "a\0b \u202edog\r\nbarks"
    path = by_hand(tmp_path, "captions", [text, "other"])
    (table,) = open_manifest(path).tables()
    assert table["captions"].to_pylist() == [["y"], ["ab dog\nbarks", "other"]]
    assert [clip.labels for clip in clips_from_table(table)] == [("x",), ()]
    write_manifest(clips_from_table(table), tmp_path / "again.parquet")
    assert read_manifest(tmp_path / "again.parquet").equals(table)
    (labels,) = open_manifest(by_hand(tmp_path, "labels", ["dog\ncat", "\0"])).tables(["id", "labels"])
    assert labels["labels"].to_pylist() == [["x"], ["dog cat"]]


def test_a_file_name_may_hold_a_line_end(tmp_path):
    (table,) = open_manifest(by_hand(tmp_path, "url", "/a\nb.mp4")).tables()
    assert table["url"][1].as_py() == "/a\nb.mp4"
