"""AudioCaps' csv."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import read_audiocaps

LIST = """audiocap_id,youtube_id,start_time,caption\r
1,aaaaaaaaaaa,30,"A dog barks, then a door"\r
2,aaaaaaaaaaa,30,A dog\r
3,bbbbbbbbbbb,0,Rain\r
4,aaaaaaaaaaa,30,A dog\r
5,aaaaaaaaaaa,40,Silence\r
"""


def test_captions_of_a_cut_are_gathered_in_order_without_repeats(write):
    listing = read_audiocaps(write("test.csv", LIST))
    assert [clip.id for clip in listing.clips] == ["aaaaaaaaaaa_000030", "bbbbbbbbbbb_000000", "aaaaaaaaaaa_000040"]
    assert listing.clips[0].captions == ("A dog barks, then a door", "A dog")
    assert listing.clips[0].end_seconds == 40.0
    assert (listing.rows, listing.merged) == (5, 2)


@pytest.mark.parametrize(("name", "split"), [("train", "train"), ("val", "val"), ("test", "test"), ("mine", None)])
def test_the_split_is_in_the_files_name(write, name, split):
    assert read_audiocaps(write(f"{name}.csv", LIST)).clips[0].split == split


def test_columns_are_found_by_name_in_any_order(write):
    listing = read_audiocaps(write("val.csv", "caption,extra,start_time,youtube_id\nRain,x,5,aaaaaaaaaaa\n"))
    assert listing.clips[0].id == "aaaaaaaaaaa_000005"


def test_a_missing_column_is_named_with_those_there_are(write):
    with pytest.raises(ManifestError, match="has no column start_time; its columns are id, youtube_id, caption"):
        read_audiocaps(write("test.csv", "id,youtube_id,caption\n"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [("6,ccccccccccc,5", "it has 3 fields, the header 4"), ("6,ccccccccccc,5,", "it has no caption")],
)
def test_a_malformed_row_is_named(write, line, reason):
    path = write("test.csv", LIST + line)
    with pytest.raises(ManifestError, match=f":7: {reason}"):
        read_audiocaps(path)


def test_an_empty_file_is_refused(write):
    with pytest.raises(ManifestError, match="a header line was expected"):
        read_audiocaps(write("test.csv", ""))
