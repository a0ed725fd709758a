"""Of several tracks the one that players take is taken; an empty one never."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
import numpy as np
import pytest

from tests.media.rendered import H264, render
from vidaudio.media.container import main_streams, open_media
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.decode.encoder_delay import header_delay_samples
from vidaudio.media.ffmpeg import run_ffmpeg


def tones(folder: Path, name: str, *tracks: dict[str, str], **options) -> Path:
    """A video whose first sound is 500 Hz, the second 1000 Hz ..., each with its own options."""
    picture = render(folder / "picture.mkv", seconds=3, with_sound=False, **H264)
    sounds = [ffmpeg.input(f"sine=f={500 * (n + 1)}:r=48000", f="lavfi", t=3) for n in range(len(tracks))]
    encoding = {"acodec": "aac", "vcodec": "copy", **options}
    for number, track in enumerate(tracks):
        encoding |= {f"{key}:a:{number}": value for key, value in track.items()}
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(picture)).video, *sounds, str(folder / name), **encoding))
    return folder / name


def heard(path: Path) -> int:
    clip = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert isinstance(clip, DecodedClip), clip
    spectrum = np.abs(np.fft.rfft(clip.samples[8000:24_000]))
    return int(np.argmax(spectrum))


QUIET, RICH = {"b": "32k"}, {"b": "192k"}


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        ((QUIET | {"disposition": "default"}, RICH | {"disposition": "default"}), 500),
        ((RICH, QUIET), 500),
        ((QUIET, RICH), 500),
    ],
    ids=["two default", "rich first", "rich second"],
)
def test_the_first_of_equal_tracks(tmp_path: Path, name: str, tracks, expected: int):
    path = tones(tmp_path, name, *tracks)
    assert heard(path) == expected
    with open_media(path) as container:  # what is cut and merged is the same
        assert main_streams(container)[1].index == 1


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_default_track_comes_first(tmp_path: Path, name: str):
    assert heard(tones(tmp_path, name, RICH | {"disposition": "0"}, QUIET | {"disposition": "default"})) == 1000


@pytest.mark.parametrize("kind", ["visual_impaired", "hearing_impaired", "comment"])
def test_a_track_for_others_comes_last(tmp_path: Path, kind: str):
    assert heard(tones(tmp_path, "a.mkv", RICH | {"disposition": kind}, QUIET | {"disposition": "0"})) == 1000


def test_a_track_of_which_nothing_can_be_decoded_is_passed_over(tmp_path: Path):
    path = tones(tmp_path, "a.mkv", QUIET, RICH)
    empty = tmp_path / "empty.mkv"
    from tests.media.rendered import remux

    remux(path, empty, lambda p: None if p.stream.index == 1 else p)
    assert heard(empty) == 1000


def test_the_delay_that_an_mp3_header_tells(tmp_path: Path):
    path = tmp_path / "a.mp3"
    run_ffmpeg(ffmpeg.output(ffmpeg.input("sine=f=440:r=44100", f="lavfi", t=2), str(path), acodec="libmp3lame"))
    data = path.read_bytes()
    at = max(data.find(b"Xing"), data.find(b"Info"))
    frame = next(n for n in range(at, 0, -1) if data[n] == 0xFF and data[n + 1] & 0xE0 == 0xE0)
    # 1,105 samples of LAME's own and the decoder's, and the header frame itself.
    assert header_delay_samples(data[frame : frame + 420]) == 1152 + 576 + 529
    assert header_delay_samples(b"\xff\xfb\x90\x00" + bytes(400)) == 0
    assert header_delay_samples(b"") == header_delay_samples(b"no frame at all") == 0
