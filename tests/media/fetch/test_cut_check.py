"""A cut is accepted only when it decodes from its beginning, whatever its codec keeps only at the file's beginning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.media.rendered import AAC, FPS, H264, OPUS, picture_seconds, remux, render
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.fetch import cut as cut_module
from vidaudio.media.fetch.cut import CannotCut, cut_windows, read_index
from vidaudio.media.fetch.cut_check import begins_decodable

SECONDS = 14.0
OPEN_H264 = H264 | {"bf": 3, "g": 2 * FPS, "x264-params": "open-gop=1:scenecut=0"}
HEVC = {"vcodec": "libx265", "preset": "ultrafast", "pix_fmt": "yuv420p"}
KINDS = {
    # From MP4, so that parameters stand in the stream once, at its very beginning.
    "open-h264.ts": (OPEN_H264 | AAC, "mp4"),
    "hevc.ts": (HEVC | {"x265-params": f"log-level=none:keyint={2 * FPS}:repeat-headers=0"} | AAC, "mp4"),
    "open-hevc.ts": (HEVC | {"x265-params": f"log-level=none:keyint={2 * FPS}:open-gop=1"} | AAC, "mp4"),
    "open-h264.mkv": (OPEN_H264 | OPUS, None),
    "open-hevc.mp4": (HEVC | {"x265-params": f"log-level=none:keyint={2 * FPS}:open-gop=1"} | AAC, None),
    "refresh.ts": (H264 | {"x264-params": "intra-refresh=1:keyint=50"} | AAC, None),
    "vp9.webm": (
        {"vcodec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "g": 50, "pix_fmt": "yuv420p"} | OPUS,
        None,
    ),
    "vorbis.webm": ({"vcodec": "libvpx", "deadline": "realtime", "cpu-used": 8, "g": 50, "acodec": "libvorbis"}, None),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_cut_gives_what_the_file_itself_gives(tmp_path: Path, name: str):
    encoding, through = KINDS[name]
    source = tmp_path / name
    if through:
        first = render(tmp_path / f"first.{through}", seconds=SECONDS, **encoding)
        import ffmpeg

        from vidaudio.media.ffmpeg import run_ffmpeg

        run_ffmpeg(ffmpeg.output(ffmpeg.input(str(first)), str(source), c="copy"))
    else:
        render(source, seconds=SECONDS, **encoding)
    windows = {f"w{start}": (float(start), start + 2.5) for start in (1, 3, 6, 9)}
    cuts = cut_windows(read_index(source), windows, tmp_path, margin_seconds=0.4)
    for key, (start, end) in windows.items():
        cut = cuts[key]
        assert begins_decodable(cut.path, start - 0.4 - cut.media_start_seconds, 2)
        own = decode_clip(str(source), start, end, DecodeOptions())
        zero = cut.media_start_seconds
        of_cut = decode_clip(str(cut.path), start - zero, end - zero, DecodeOptions())
        assert isinstance(own, DecodedClip), own
        assert isinstance(of_cut, DecodedClip), of_cut
        assert [picture_seconds(i) for i in of_cut.images] == [picture_seconds(i) for i in own.images]
        assert of_cut.decode_errors == own.decode_errors
        assert abs(len(of_cut.samples) - len(own.samples)) < 400


def test_a_cut_that_cannot_begin_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = render(tmp_path / "a.mkv", seconds=8, **H264 | {"g": FPS, "bf": 0}, **OPUS)
    # What calls itself a keyframe and is none.
    monkeypatch.setattr(cut_module, "begins_decodable", lambda *_: False)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(CannotCut, match="first picture or sound"):
        cut_windows(read_index(source), {"c": (4.5, 6.0)}, folder)
    assert list(folder.iterdir()) == []


def test_an_earlier_keyframe_is_taken_where_a_later_one_is_none(tmp_path: Path):
    good = render(tmp_path / "good.mkv", seconds=8, **H264 | {"g": 2 * FPS, "bf": 0}, **OPUS)
    number = iter(range(10_000))

    def damaged(packet):
        if packet.stream.type == "video" and next(number) == 4 * FPS:
            data = np.frombuffer(bytes(packet), np.uint8).copy()
            data[4:] = 0xFF
            changed = type(packet)(data.tobytes())
            changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
            changed.stream, changed.time_base, changed.is_keyframe = packet.stream, packet.time_base, True
            return changed
        return packet

    source = remux(good, tmp_path / "damaged.mkv", damaged)
    cut = cut_windows(read_index(source), {"c": (5.0, 7.0)}, tmp_path, margin_seconds=0.2)["c"]
    assert cut.media_start_seconds < 2.1
