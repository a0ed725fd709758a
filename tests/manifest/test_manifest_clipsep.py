"""CLIPSep's index lists."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import read_clipsep, read_music, read_vggsound, write_manifest

VGGSOUND = """data/vggsound/audio/a/b/abaaaaaaaaa.wav,data/preprocessed/a/b/abaaaaaaaaa,12,bird chirping tweeting
data/vggsound/audio/-/b/-bbbbbbbbbb.wav,data/vggsound/preprocessed/-/b/-bbbbbbbbbb,12,dog barking
data/vggsound/audio/c/c/ccccccccccc.wav,data/vggsound/preprocessed/c/c/ccccccccccc,12,dog howling
data/vggsound/audio/d/d/ddddddddddd.wav,data/vggsound/preprocessed/d/d/ddddddddddd,12,dog howling
"""
STARTS = """abaaaaaaaaa,30,"bird chirping, tweeting",train
-bbbbbbbbbb,5,dog barking,test
-bbbbbbbbbb,25,dog howling,test
ccccccccccc,5,dog howling,test
ccccccccccc,25,dog howling,test
"""
MUSIC = "data/MUSIC/solo/audio/acoustic_guitar/ZeQPNWdFs_4.wav,data/MUSIC/solo/preprocessed/x,212,acoustic_guitar\n"


def test_music_rows_are_the_whole_videos_of_the_music_list(write):
    clip = read_clipsep(write("test.csv", MUSIC)).clips[0]
    same = read_music(write("solo.json", '{"videos": {"acoustic_guitar": ["ZeQPNWdFs_4"]}}')).clips[0]
    assert (clip.id, clip.source, clip.url, clip.labels) == (same.id, same.source, same.url, same.labels)
    assert clip.split == "test"


def test_a_music_row_without_its_label_takes_the_folders(write):
    three = "/data2/x/solo/audio/acoustic_guitar/ZANyOBEWiJA.wav,/data2/x/solo/frames/acoustic_guitar/ZANyOBEWiJA,200\n"
    assert read_clipsep(write("train.csv", three)).clips[0].labels == ("acoustic guitar",)


def test_vggsound_rows_without_starts_are_kept_by_source_with_an_open_cut(write):
    listing = read_clipsep(write("test-good.csv", VGGSOUND))
    clip = listing.clips[0]
    assert (clip.id, clip.source) == ("abaaaaaaaaa", "youtube:abaaaaaaaaa")
    assert (clip.start_seconds, clip.end_seconds, clip.split) == (0.0, None, "test")
    assert "4 rows name a video without saying where it is cut" in listing.notes[0]


def test_starts_are_looked_up_by_video_then_label_or_not_at_all(write):
    listing = read_clipsep(write("val.csv", VGGSOUND), starts_from=write("vggsound.csv", STARTS))
    assert [clip.id for clip in listing.clips] == [
        "abaaaaaaaaa_000030",  # the one cut of its video
        "-bbbbbbbbbb_000005",  # of two cuts, the one with the label
        "ccccccccccc",  # two cuts with the label
        "ddddddddddd",  # not in the list
    ]
    assert "2 of 4 VGGSound rows were found; 1 videos have several" in listing.notes[0]
    assert {clip.split for clip in listing.clips} == {"val"}


def test_a_looked_up_label_gets_its_commas_back(write):
    listing = read_clipsep(write("val.csv", VGGSOUND), starts_from=write("vggsound.csv", STARTS))
    assert listing.clips[0].labels == ("bird chirping, tweeting",)


def test_starts_may_come_from_a_manifest_with_its_media(write, tmp_path):
    write("media/abaaaaaaaaa_000030.mp4", "")
    from vidaudio.manifest import join_media

    clips = join_media(read_vggsound(write("vggsound.csv", STARTS)).clips, tmp_path / "media").clips
    write_manifest(clips, tmp_path / "v.parquet")
    clip = read_clipsep(write("val.csv", VGGSOUND), starts_from=tmp_path / "v.parquet").clips[0]
    assert clip.url == str(tmp_path / "media" / "abaaaaaaaaa_000030.mp4")
    assert clip.media_start_seconds == 30.0


def test_a_row_that_names_no_video_is_bad(write):
    with pytest.raises(ManifestError, match=r"val.csv:5: 'song' is not a YouTube id"):
        read_clipsep(write("val.csv", VGGSOUND + "audio/song.wav,frames/song,3,dog\n"))
    with pytest.raises(ManifestError, match=r"val.csv:1: it has 2 columns"):
        read_clipsep(write("val.csv", "a,b\n"))
