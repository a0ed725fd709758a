"""VGGSound's two forms."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import Clip, read_vggsound

LIST = """-1pRmoJIGQc,10,"bird chirping, tweeting",test
---g-f_I2yQ,1,people marching,train
-1pRmoJIGQc,120,dog barking,test
"""


def test_rows_become_ten_second_clips(write):
    listing = read_vggsound(write("vggsound.csv", LIST))
    assert listing.clips[0] == Clip(
        id="-1pRmoJIGQc_000010",
        source="youtube:-1pRmoJIGQc",
        dataset="vggsound",
        url="https://www.youtube.com/watch?v=-1pRmoJIGQc",
        start_seconds=10.0,
        end_seconds=20.0,
        split="test",
        labels=("bird chirping, tweeting",),
    )
    assert (listing.rows, len(listing.clips), listing.sources) == (3, 3, 2)


def test_the_two_column_test_list_gives_the_same_clips(write):
    full = read_vggsound(write("vggsound.csv", '-1pRmoJIGQc,10,"bird chirping, tweeting",test\n'))
    short = read_vggsound(write("test.csv", '-1pRmoJIGQc_000010.mp4,"bird chirping, tweeting"\r\n'))
    assert full.clips == short.clips


def test_both_forms_together_are_one_list(write):
    both = read_vggsound(write("vggsound.csv", LIST), write("test.csv", "-1pRmoJIGQc_000120.mp4,dog barking\n"))
    assert (both.rows, len(both.clips), both.merged) == (4, 3, 1)


def test_an_id_that_begins_with_a_dash_keeps_it(write):
    assert read_vggsound(write("vggsound.csv", LIST)).clips[1].id == "---g-f_I2yQ_000001"


def test_split_replaces_the_lists_own(write):
    listing = read_vggsound(write("vggsound.csv", LIST), split="held-out")
    assert {clip.split for clip in listing.clips} == {"held-out"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("short,10,dog,train", "'short' is not a YouTube id"),
        ("#NAME?,10,dog,train", "is not a YouTube id"),
        ("abcdefghijk,ten,dog,train", "the start 'ten' is not a number of seconds"),
        ("abcdefghijk,nan,dog,train", "the start 'nan' is not a number of seconds"),
        ("abcdefghijk,-5,dog,train", "0 s or later"),
        ("abcdefghijk,10,,train", "it has no label"),
        ("abcdefghijk,10,dog,tain", "the split 'tain' is none of train, val, test"),
        ("abcdefghijk,10,bird chirping, tweeting,train", "it has 5 columns"),
        ("abcdefghijk,10,dog", "it has 3 columns"),
        ("abcdefghijk.mp4,dog", "not of the form <video id>_<start, 6 digits>.mp4"),
        ("id,start,label,split", "the split 'split' is none"),
    ],
)
def test_a_malformed_row_is_named_with_file_line_and_reason(write, line, reason):
    path = write("vggsound.csv", f"{LIST}{line}\n")
    with pytest.raises(ManifestError) as error:
        read_vggsound(path)
    assert f"{path}:4: " in str(error.value)
    assert reason in str(error.value)
    skipped = read_vggsound(path, skip_bad_rows=True)
    assert (len(skipped.clips), len(skipped.bad_rows), skipped.rows) == (3, 1, 4)


def test_video_ids_that_differ_in_case_only_are_two_clips(write):
    listing = read_vggsound(write("vggsound.csv", "abcdefghijK,1,dog,train\nabcdefghijk,1,dog,train\n"))
    assert [clip.id for clip in listing.clips] == ["abcdefghijK_000001", "abcdefghijk_000001"]
