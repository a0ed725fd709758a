"""The smallest format that covers what is wanted, on tables as sites write them."""

from __future__ import annotations

import pytest

from vidaudio.media.formats import choose_formats


def video(format_id: str, width: int, height: int, kbps: float, **more) -> dict:
    told = {"width": width, "height": height, "tbr": kbps, "vcodec": "avc1", "acodec": "none", "protocol": "https"}
    return {"format_id": format_id, **told, **more}


def audio(format_id: str, kbps: float, **more) -> dict:
    return {"format_id": format_id, "abr": kbps, "vcodec": "none", "acodec": "mp4a", "protocol": "https", **more}


def both(format_id: str, width: int, height: int, kbps: float, **more) -> dict:
    return video(format_id, width, height, kbps, acodec="mp4a", **more)


TUBE = [
    {"format_id": "sb0", "vcodec": "none", "acodec": "none", "width": 320, "height": 180, "protocol": "mhtml"},
    audio("139", 49, asr=22_050),
    audio("249", 52),
    audio("250", 68),
    audio("140", 129),
    video("160", 256, 144, 70),
    video("133", 426, 240, 140),
    video("134", 640, 360, 330),
    both("18", 640, 360, 420),
    video("137", 1920, 1080, 2500),
]


def chosen(formats: list[dict], side: int = 224) -> str:
    return "+".join(f["format_id"] for f in choose_formats(formats, side, 100.0))


def test_smallest_covering_picture_with_smallest_sound_that_is_not_starved():
    assert chosen(TUBE) == "133+250"


def test_a_higher_demand_takes_a_higher_format():
    assert chosen(TUBE, side=300) == "134+250"


def test_one_file_with_both_is_taken_when_it_is_smaller():
    assert chosen([*TUBE, both("36", 400, 240, 150)]) == "36"
    assert chosen([*TUBE, both("36", 400, 240, 400)]) == "133+250"


def test_width_is_the_short_side_of_a_portrait_video():
    formats = [audio("a", 70), video("small", 144, 256, 60), video("fits", 240, 426, 120), video("big", 720, 1280, 900)]
    assert chosen(formats) == "fits+a"


def test_largest_where_none_covers():
    assert chosen([audio("a", 70), video("s", 128, 96, 40), video("m", 256, 144, 80)]) == "m+a"


def test_richest_of_starved_sounds_where_there_is_no_other():
    assert chosen([video("v", 426, 240, 100), audio("a", 24), audio("b", 48)]) == "v+b"


def test_sizes_told_in_bytes_count_more_than_rates():
    formats = [
        audio("a", 70, filesize=900_000),
        video("v1", 426, 240, 50, filesize=9_000_000),
        video("v2", 640, 360, 80, filesize=2_000_000),
    ]
    assert chosen(formats) == "v2+a"


def test_segments_cost_requests_so_a_single_file_wins_up_to_twice_the_size():
    single = [audio("a", 70), video("v", 426, 240, 150)]
    assert chosen([*single, both("hls", 426, 240, 120, protocol="m3u8_native")]) == "v+a"
    assert chosen([*single, both("hls", 426, 240, 90, protocol="m3u8_native")]) == "hls"


def test_original_language_and_untouched_sound():
    formats = [
        video("v", 426, 240, 100),
        audio("dub", 65, language_preference=-1),
        audio("drc", 66, language_preference=10, format_note="original, DRC"),
        audio("orig", 70, language_preference=10),
    ]
    assert chosen(formats) == "v+orig"


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        ([video("v", 426, 240, 100)], "v"),
        ([audio("a", 100)], "a"),
        ([{"format_id": "direct", "url": "http://h/x.mp4"}], "direct"),
        ([{"format_id": "low", "url": "http://h/l"}, {"format_id": "best", "url": "http://h/b"}], "best"),
        ([{"format_id": "sb", "vcodec": "none", "acodec": "none"}], ""),
        ([both("drm", 426, 240, 90, has_drm=True)], ""),
        ([both("damaged", 426, 240, 90, preference=-10), both("well", 640, 360, 300)], "well"),
        ([both("rtmp", 426, 240, 90, protocol="rtmp"), both("http", 640, 360, 300)], "http"),
        ([video("height_only", None, 240, 90), audio("a", 70)], "height_only+a"),
        ([both("unrated", 426, 240, None), both("unrated-hd", 1280, 720, None)], "unrated"),
    ],
)
def test_odd_tables(formats: list[dict], expected: str):
    assert chosen(formats) == expected
