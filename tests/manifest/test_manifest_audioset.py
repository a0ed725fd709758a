"""AudioSet's segments."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import read_audioset

CLASSES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n'
SEGMENTS = """# Segments csv created
# num_ytids=3, num_segs=3, "unclosed
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/m/05zppz"
AE5oZzfu2-E, 239.800, 246.300, "/m/09x0r"
"""


def test_label_ids_become_names_and_fractions_stay(write):
    write("class_labels_indices.csv", CLASSES)
    clips = read_audioset(write("balanced_train_segments.csv", SEGMENTS)).clips
    assert clips[0].id == "--PJHxphWEs_000030"
    assert clips[0].labels == ("Speech", "Male speech, man speaking")
    assert clips[1].id == "AE5oZzfu2-E_239800m"
    assert (clips[1].start_seconds, clips[1].end_seconds) == (239.8, 246.3)


@pytest.mark.parametrize(
    ("name", "split"),
    [("balanced_train_segments", "train"), ("unbalanced_train_segments", "train"), ("eval_segments", "test")],
)
def test_the_split_is_in_the_files_name(write, name, split):
    write("class_labels_indices.csv", CLASSES)
    assert read_audioset(write(f"{name}.csv", SEGMENTS)).clips[0].split == split


def test_the_class_list_may_lie_elsewhere(write):
    classes = write("elsewhere/classes.csv", CLASSES)
    assert len(read_audioset(write("eval_segments.csv", SEGMENTS), class_labels=classes).clips) == 2


def test_a_missing_class_list_says_where_it_is_looked_for(write):
    with pytest.raises(ManifestError, match=r"no class_labels_indices.csv beside .*--class-labels"):
        read_audioset(write("eval_segments.csv", SEGMENTS))


def test_a_missing_list_is_named_before_its_class_list(tmp_path):
    with pytest.raises(ManifestError, match="there is no list at"):
        read_audioset(tmp_path / "eval_segments.csv")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('ccccccccccc, 10.0, 20.0, "/m/none"', "label id '/m/none' is not in the class list"),
        ('ccccccccccc, 10.0, 10.0, "/m/09x0r"', "not after its start"),
        ("ccccccccccc, 10.0, 20.0", "it has 3 columns"),
        ('ccccccccccc, 10.0, 20.0, ""', "it has no label"),
    ],
)
def test_a_malformed_row_is_named_by_its_physical_line(write, line, reason):
    write("class_labels_indices.csv", CLASSES)
    with pytest.raises(ManifestError) as error:
        read_audioset(write("eval_segments.csv", SEGMENTS + line))
    assert "eval_segments.csv:6: " in str(error.value)
    assert reason in str(error.value)
