"""Collecting rows: merging, contradictions, bad rows."""

from pathlib import Path

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import BadRow, Clip, Place
from vidaudio.manifest.rows import Parsed, collect


def row(line: int, **changes) -> Parsed[Clip]:
    fields = {"id": "a", "source": "youtube:a", "dataset": "d", "url": "https://a", "end_seconds": 10.0} | changes
    return Parsed(Place(Path("list.csv"), line), Clip(**fields))


def test_equal_cuts_are_one_clip_with_labels_and_captions_in_order_without_repeats():
    listing = collect(
        [
            row(1, labels=("dog", "cat"), captions=("one",)),
            row(2, labels=("cat", "bird"), captions=("two", "one")),
        ],
        skip_bad_rows=False,
    )
    assert listing.clips[0].labels == ("dog", "cat", "bird")
    assert listing.clips[0].captions == ("one", "two")
    assert (listing.rows, listing.merged, listing.sources) == (2, 1, 1)


def test_a_split_that_one_row_has_is_the_clips_in_either_order():
    for splits in ((None, "test"), ("test", None)):
        listing = collect([row(1, split=splits[0]), row(2, split=splits[1])], skip_bad_rows=False)
        assert listing.clips[0].split == "test"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"end_seconds": 9.0}, "is 0 s to 10 s and 0 s to 9 s"),
        ({"end_seconds": None}, "0 s to the end"),
        ({"url": "https://b"}, "is at https://a and at https://b"),
        ({"split": "test"}, "is in train and in test"),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_one_id_with_different_contents_stops_and_names_both_lines(changes, words, skip):
    with pytest.raises(ManifestError) as error:
        collect([row(3, split="train"), row(17, **({"split": "train"} | changes))], skip_bad_rows=skip)
    assert "list.csv:3 and list.csv:17: a " in str(error.value)
    assert words in str(error.value)


def test_all_bad_rows_are_gathered_the_first_twenty_named_and_the_rest_counted():
    bad = [BadRow(Place(Path("list.csv"), line), "it is odd") for line in range(1, 31)]
    with pytest.raises(ManifestError) as error:
        collect([row(40), *bad], skip_bad_rows=False)
    message = str(error.value)
    assert message.startswith("30 rows cannot be read")
    assert "list.csv:20: it is odd" in message
    assert "list.csv:21" not in message
    assert "and 10 more" in message
    assert "--skip-bad-rows" in message


def test_skipped_rows_are_in_the_result():
    bad = BadRow(Place(Path("list.csv"), 2), "it is odd")
    listing = collect([row(1), bad], skip_bad_rows=True)
    assert listing.bad_rows == (bad,)
    assert listing.rows == 2


def test_a_list_without_a_clip_is_refused():
    with pytest.raises(ManifestError, match="holds no clip"):
        collect([], skip_bad_rows=False)
    with pytest.raises(ManifestError, match="all 1 rows are malformed"):
        collect([BadRow(Place(Path("list.csv"), 2), "it is odd")], skip_bad_rows=True)
