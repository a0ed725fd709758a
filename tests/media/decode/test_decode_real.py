"""Real files: every one of the good clips comes through, and every odd one has the outcome that it should have."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from vidaudio.media.decode.extractor import Extractor, MediaSpan
from vidaudio.media.outcomes import State

# Judged by hand from what the files hold. Some that are called corrupt are merely so short, mute, or without a picture,
# whatever else is wrong with them; an index without its media and encrypted media are corrupt.
EXPECTED = {
    "done": [
        "attached_pic__h264-mjpeg.mkv",
        "attached_pic__h264-mjpeg.mp4",
        "attached_pic__h264-png.mp4",
        "audio_rate__av.mp4",
        "audio_rate__awesome_widescreen.mov",
        "audio_rate__sample.3gp",
        "audio_rate__sample_sef_slow_motion.mp4",
        "container__awesome_movie_with_subtitles.m4v",
        "container__rabbit320.mp4",
        "container__rabbit320.webm",
        "container__sample.avi",
        "container__testsrc-hevc.mp4",
        "corrupt__no_duration.webm",
        "corrupt__video_with_failing_audio.mp4",
        "multi_stream__nasa_13013.mp4",
        "multichannel__big_buck_bunny_small.mp4",
        "multichannel__bigbuckbunny.mp4",
        "multichannel__video-1080p-60fps-2s.mp4",
        "pixfmt__SAR-2by3.mp4",
        "pixfmt__sample_edit_list.mp4",
        "pixfmt__test_yuv422p.mp4",
        "rotated__internal_emulator_transformer_output_270_rotated.mp4",
        "rotated__portrait.MOV",
        "rotated_ref__internal_emulator_transformer_output.mp4",
        "silent_audio__cockatoo.mp4",
        "silent_audio__in.mp4",
        "silent_audio__sample_demo_9.mp4",
        "silent_audio__stream-of-water-audioless.webm",
        "silent_audio__transparent.webm",
        "start_offset__big_buck_bunny_0_30.webm",
        "vfr__awesome_movie.mov",
        "vfr__fire2.mp4",
        "vfr__video_desks.3gp",
    ],
    "no_audio": [
        "container__anomaly_detection.mpg",
        "corrupt__bear-640x360-v_frag-cenc-mdat.mp4",
        "corrupt__unordered.mov",
        "no_audio__Big_Buck_Bunny_180_10s.webm",
        "no_audio__av1_video.mkv",
        "no_audio__bikes.mp4",
        "no_audio__dog_eating_854132.mp4",
        "no_audio__sample-with-key-frame-index.flv",
        "no_audio__test2.mp4",
        "pixfmt__bear-vp9-odd-dimensions.webm",
        "pixfmt__clip1024.flv",
        "pixfmt__cockatoo.mp4",
        "pixfmt__h264_10bits.mp4",
        "pixfmt__h265_10bits.mp4",
        "pixfmt__video_colr_nclx_rgb.mp4",
        "rotated__video_0.mov",
        "rotated__video_180.mov",
        "rotated__video_270.mov",
        "rotated__video_90.mov",
        "start_offset__apple_v2.mp4",
        "very_short__h264_white_frame_sar_16_9.mp4",
        "very_short__tiny_av1.mp4",
        "very_short__video1.mp4",
        "vfr__sample-with-metadata.flv",
    ],
    "no_video": [
        "corrupt__bear-1280x720-a_frag-cenc-key_rotation.mp4",
        "corrupt__opus_audioinit_two_desc.mp4",
        "corrupt__sample_ac4.mp4",
        "corrupt__sample_mpegh_mha1.mp4",
        "no_video__1.mov",
        "no_video__first_vid.mp4",
        "no_video__long_edit_list_audioonly.mp4",
        "no_video__somename.mp4",
        "very_short__sample_with_opus_audio.mkv",
        "very_short__short.wav",
    ],
    "too_short": [
        "attached_pic__metadata.mp4",
        "container__sample_av1.mp4",
        "container__sample_fragmented_large_bitrates.mp4",
        "container__sample_partially_fragmented.mp4",
        "container__sample_with_vorbis_audio.mkv",
        "corrupt__sample_fragmented.mp4",
        "corrupt__sample_mdat_too_long.mp4",
        "multi_stream__sample_empty_track.mp4",
        "multichannel__bbb_480p_vp9_opus_1second.webm",
        "pixfmt__sample_with_colr_mdcv_and_clli.mp4",
        "pixfmt__weird_aspect.small.mpg",
        "rotated__ios9.mov",
        "start_offset__bt601.mov",
        "start_offset__sample.flv",
        "start_offset__sample.mkv",
        "start_offset__sample.mp4",
        "start_offset__sample.mpeg",
        "start_offset__sample_twos_pcm.mp4",
        "very_short__big_buck_bunny_432_433.webm",
        "very_short__minimal.mp4",
        "very_short__realshort.mp4",
        "very_short__testvid_1022ms.mp4",
    ],
    "corrupt": [
        "corrupt__bipbop_nonfragment_header.mp4",
        "corrupt__blockgroup_block_ends_beyond_blockgroup.mkv",
        "corrupt__broken.mp4",
        "corrupt__chapters_truncated_chapter_string.mkv",
        "corrupt__chapters_truncated_chapter_string_2.mkv",
        "corrupt__chunk_out_of_range.mp4",
        "corrupt__init.mp4",
        "corrupt__invalid_userdata.mp4",
        "corrupt__result.webm",
        "corrupt__short-cenc.mp4",
        "corrupt__small.mp4",
        "corrupt__test_case_1185230.mp4",
        "corrupt__video1_dup.mp4",
        "corrupt__video2_dup.mp4",
    ],
}
OUTCOMES = {name: reason for reason, names in EXPECTED.items() for name in names}


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    with Extractor() as one:
        yield one


def file_of(shared_data: Path, folder: str, name: str) -> Path:
    path = shared_data / folder / name
    if not path.is_file():
        pytest.skip(f"{folder}/{name} is not there")
    return path


def check_facts(facts: dict, parts: dict) -> None:
    json.dumps(facts, allow_nan=False)
    samples, rate = soundfile.read(io.BytesIO(parts["flac"]), dtype="int16")
    assert (len(samples), rate) == (facts["samples"], 16_000)
    times, grid = facts["frame_seconds"], facts["grid_seconds"]
    assert len(parts) - 1 == len(times) == len(grid) >= 2
    assert grid == sorted(set(grid))
    assert all(shown <= at + 1e-6 for shown, at in zip(times, grid, strict=True))
    assert 0 <= facts["audio_start_seconds"] < 2
    for extension in itertools.islice(parts, 1, None):
        assert Image.open(io.BytesIO(parts[extension])).size == (224, 224)


@pytest.mark.parametrize("name", OUTCOMES)
def test_odd_file(shared_data: Path, extractor: Extractor, name: str):
    result = extractor.extract(MediaSpan(file_of(shared_data, "odd", name), 0.0, None))
    if OUTCOMES[name] == "done":
        assert result.outcome.state is State.DONE, result.outcome
        check_facts(result.facts, result.parts)
    else:
        assert (result.outcome.state, result.outcome.reason) == (State.DROPPED, OUTCOMES[name]), result.outcome


def test_the_table_is_complete(shared_data: Path):
    assert {path.name for path in (shared_data / "odd").iterdir()} == OUTCOMES.keys()
    assert len(OUTCOMES) == sum(map(len, EXPECTED.values())) == 103


def test_odd_files_cut_in_the_middle(shared_data: Path, extractor: Extractor):
    """Where a file is cut changes what is left, not what is wrong with it."""
    for name, reason in OUTCOMES.items():
        outcome = extractor.extract(MediaSpan(shared_data / "odd" / name, 0.6, 3.1)).outcome
        if reason == "done":
            assert outcome.state is State.DONE or outcome.reason == "too_short", (name, outcome)
        else:
            assert outcome.reason in (reason, "too_short", "corrupt"), (name, outcome)


def test_good_clips_are_done(shared_data: Path, extractor: Extractor):
    paths = sorted((shared_data / "clips").iterdir())
    assert len(paths) > 40
    for path in paths:
        result = extractor.extract(MediaSpan(path, 0.0, 12.0))
        assert result.outcome.state is State.DONE, (path.name, result.outcome)
        check_facts(result.facts, result.parts)
        assert result.facts["decode_errors"] == result.facts["audio_gaps"] == 0, path.name
        assert result.facts["rms_dbfs"] > -60


def test_the_turned_file_is_the_plain_one_turned(shared_data: Path, extractor: Extractor):
    pictures = []
    for name in (
        "rotated_ref__internal_emulator_transformer_output.mp4",
        "rotated__internal_emulator_transformer_output_270_rotated.mp4",
    ):
        parts = extractor.extract(MediaSpan(file_of(shared_data, "odd", name), 0.0, None)).parts
        pictures.append(np.asarray(Image.open(io.BytesIO(parts["002.jpg"]))).astype(float))
    plain, turned = pictures
    turns = [np.abs(np.rot90(turned, quarters) - plain).mean() for quarters in range(4)]
    # Its matrix turns it to the left; what is stored is the same.
    assert int(np.argmin(turns)) == 3, turns
    assert turns[3] < 0.3 * min(turns[:3])
