"""Joining lists with files that exist."""

import csv

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import Clip, join_media, read_audioset, read_music, read_vggsound, write_join_report
from vidaudio.manifest.youtube import youtube_clip

VIDEO = "-aaaaaaaaaa"


def cut(start: float = 30.0, end: float | None = 40.0, video: str = VIDEO) -> Clip:
    return youtube_clip(video, dataset="d", start_seconds=start, end_seconds=end)


def join_one(tmp_path, write, files, clip=None, **options):
    for name in files:
        write(f"media/{name}", "")
    return join_media([clip or cut()], tmp_path / "media", **options)


@pytest.mark.parametrize(
    ("file", "media_start"),
    [
        (f"{VIDEO}_000030.mp4", 30.0),
        (f"{VIDEO}_30000_40000.mkv", 30.0),
        (f"deep/er/{VIDEO}_000030.WEBM", 30.0),
        (f"{VIDEO}_000030.h264_25fps_256side_16k.mp4", 30.0),
        (f"{VIDEO}.mp4", 0.0),
        (f"{VIDEO}.v2.mp4", 0.0),
    ],
)
def test_a_clip_finds_its_file_cut_or_whole(tmp_path, write, file, media_start):
    join = join_one(tmp_path, write, [file])
    assert join.clips[0].url == str(tmp_path / "media" / file)
    assert join.clips[0].media_start_seconds == media_start
    assert join.cuts == (media_start > 0)
    assert (join.missing, join.copies, join.unlisted) == ((), (), ())


@pytest.mark.parametrize(
    "files",
    [
        [f"{VIDEO}_000030.mp4", f"{VIDEO}_000030.small.mp4"],
        [f"{VIDEO}_000030.webm", f"{VIDEO}_000030.small.mp4"],
        [f"{VIDEO}_000030.mp4", f"{VIDEO}_000030.webm"],
        [f"{VIDEO}_000030.mp4", f"{VIDEO}.mp4"],
        [f"{VIDEO}_000030.small.mp4", f"{VIDEO}.mp4"],
        [f"z/{VIDEO}_000030.mp4", f"a/deeper/{VIDEO}_000030.mp4"],
    ],
)
def test_the_first_of_two_files_is_preferred_and_the_other_is_a_copy(tmp_path, write, files):
    join = join_one(tmp_path, write, files)
    assert join.matched == (((cut().id), files[0]),)
    assert join.copies == (files[1],)
    assert join.unlisted == ()


def test_a_whole_video_prefers_the_whole_file(tmp_path, write):
    join = join_one(tmp_path, write, [f"{VIDEO}_000000.mp4", f"{VIDEO}.mp4"], cut(0.0, None))
    assert join.matched[0][1] == f"{VIDEO}.mp4"
    assert join.clips[0].media_start_seconds == 0.0


def test_fractional_starts_are_found_by_id_or_milliseconds(tmp_path, write):
    for name in (f"{VIDEO}_012500m.mp4", f"{VIDEO}_12500_20000.mp4"):
        join = join_one(
            tmp_path / name, lambda path, text, name=name: write(f"{name}/{path}", text), [name], cut(12.5, 20.0)
        )
        assert join.clips[0].media_start_seconds == 12.5


@pytest.mark.parametrize(
    "file",
    ["-aaaaaaaaaa_000031.mp4", "-aaaaaaaaaa_000030.wav", "-AAAAAAAAAA_000030.mp4", "-aaaaaaaaaa.f137.mp4", "x.mp4"],
)
def test_other_files_do_not_match(tmp_path, write, file):
    with pytest.raises(ManifestError, match=r"none of the 1 clips has a file|there is no video file"):
        join_one(tmp_path, write, [file])


def test_missing_clips_are_left_out_or_kept_with_their_url(tmp_path, write):
    write(f"media/{VIDEO}.mp4", "")
    write("media/other.mp4", "")
    clips = [cut(), cut(video="bbbbbbbbbbb"), cut(50.0, 60.0)]
    join = join_media(clips, tmp_path / "media")
    assert [clip.id for clip in join.clips] == [clips[0].id, clips[2].id]
    assert join.missing == ("bbbbbbbbbbb_000030",)
    assert join.unlisted == ("other.mp4",)
    kept = join_media(clips, tmp_path / "media", keep_missing=True)
    assert [clip.id for clip in kept.clips] == [clip.id for clip in clips]
    assert kept.clips[1] == clips[1]


def test_files_of_a_table_are_found_by_the_clips_id(tmp_path, write):
    write("media/mine.mp4", "")
    clip = Clip(id="mine", source="web:https://h/x", dataset="d", url="https://h/x", start_seconds=5.0, end_seconds=6.0)
    assert join_media([clip], tmp_path / "media").clips[0].media_start_seconds == 5.0


def test_the_report_names_everything(tmp_path, write):
    for name in (f"{VIDEO}_000030.mp4", f"{VIDEO}.mp4", "other.mp4"):
        write(f"media/{name}", "")
    join = join_media([cut(), cut(video="bbbbbbbbbbb")], tmp_path / "media")
    write_join_report(join, tmp_path / "report.csv")
    with open(tmp_path / "report.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["status", "clip", "file"],
            ["matched", f"{VIDEO}_000030", f"{VIDEO}_000030.mp4"],
            ["missing", "bbbbbbbbbbb_000030", ""],
            ["copy", "", f"{VIDEO}.mp4"],
            ["unlisted", "", "other.mp4"],
        ]


def test_one_scan_serves_many_rows(tmp_path, write, monkeypatch):
    write(f"media/{VIDEO}.mp4", "")
    import vidaudio.manifest.join as module

    scans = []
    scan = module.scan_folder
    monkeypatch.setattr(module, "scan_folder", lambda folder: scans.append(folder) or scan(folder))
    join_media([cut(float(start), start + 1.0) for start in range(1000)], tmp_path / "media")
    assert len(scans) == 1


@pytest.mark.parametrize(
    ("name", "found"),
    [("vggsound_labelled_reconstructed.csv", 18), ("test.csv", 17), ("../VGGSound_sparse/vggsound_sparse.csv", 2)],
)
def test_the_true_vggsound_clips_are_found(real_data, name, found):
    """19 files there have VGGSound names; two of them are one clip, as recorded and as others re-encoded it."""
    join = join_media(read_vggsound(real_data / "manifests" / "VGGSound" / name).clips, real_data / "clips")
    assert len(join.matched) == join.cuts == found
    assert all(file == f"{clip}.mp4" for clip, file in join.matched)
    assert len(join.matched) + len(join.copies) + len(join.unlisted) == 46


def test_the_re_encoded_copy_loses_to_the_exact_name(real_data):
    clips = read_vggsound(real_data / "manifests" / "VGGSound" / "vggsound_labelled_reconstructed.csv").clips
    assert join_media(clips, real_data / "clips").copies == ("ZYc410CE4Rg_000000.h264_25fps_256side_16k.mp4",)


def test_lists_of_other_videos_find_nothing_there(real_data):
    lists = real_data / "manifests"
    others = (
        read_audioset(lists / "AudioSet" / "balanced_train_segments.csv"),
        read_music(lists / "MUSIC" / "MUSIC21_solo_videos.json"),
    )
    for other in others:
        with pytest.raises(ManifestError, match="none of the"):
            join_media(other.clips, real_data / "clips")
