"""MUSIC's json."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import read_music

SOLO = """{
  "version": 1.0,
  "videos": {
    "flute": ["aaaaaaaaaaa", "-bbbbbbbbbb"],
    "acoustic_guitar": [
      "ccccccccccc"
    ]
  }
}
"""


def test_ids_are_whole_videos_labelled_by_their_instrument(write):
    clips = read_music(write("solo.json", SOLO)).clips
    assert [clip.id for clip in clips] == ["aaaaaaaaaaa_000000", "-bbbbbbbbbb_000000", "ccccccccccc_000000"]
    assert clips[0].source == "youtube:aaaaaaaaaaa"
    assert (clips[0].start_seconds, clips[0].end_seconds, clips[0].split) == (0.0, None, None)


def test_underscores_in_an_instrument_become_spaces(write):
    assert read_music(write("solo.json", SOLO)).clips[2].labels == ("acoustic guitar",)


def test_a_duet_has_two_labels(write):
    duet = '{"version": 1.0, "videos": {"saxophone acoustic_guitar": ["aaaaaaaaaaa"]}}'
    assert read_music(write("duet.json", duet)).clips[0].labels == ("saxophone", "acoustic guitar")


def test_solo_and_21_together_hold_a_shared_video_once(write):
    larger = SOLO.replace('"ccccccccccc"', '"ccccccccccc", "ddddddddddd"').replace("1.0", '"2.0"')
    listing = read_music(write("solo.json", SOLO), write("21.json", larger))
    assert (listing.rows, len(listing.clips), listing.merged) == (7, 4, 3)


def test_an_instrument_named_twice_keeps_both_lists(write):
    twice = '{"videos": {"flute": ["aaaaaaaaaaa"], "flute": ["bbbbbbbbbbb"]}}'
    assert len(read_music(write("solo.json", twice)).clips) == 2


@pytest.mark.parametrize(
    ("entry", "reason"),
    [('"short"', "'short' is not a YouTube id"), ("null", "None is not a YouTube id"), ("[]", "is not a YouTube id")],
)
def test_a_bad_id_is_named_with_its_line(write, entry, reason):
    path = write("solo.json", SOLO.replace('"ccccccccccc"', f'"ccccccccccc",\r\n {entry}').replace("1.0", '"v \\" 1"'))
    with pytest.raises(ManifestError) as error:
        read_music(path)
    assert reason in str(error.value)
    assert f"{path}:7: " in str(error.value) or entry != '"short"'
    assert len(read_music(path, skip_bad_rows=True).clips) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a MUSIC list"),
        ('{"version": 1}', 'has no "videos"'),
        ('{"videos": []}', "not an object of instruments"),
        ('{"videos": {"flute": "aaaaaaaaaaa"}}', "something other than a list of ids"),
    ],
)
def test_another_kind_of_json_is_refused_in_a_sentence(write, text, reason):
    with pytest.raises(ManifestError, match=reason):
        read_music(write("solo.json", text))
