"""The smallest format that covers what is wanted, on tables as sites write them."""

from __future__ import annotations

import pytest

from vidaudio.media.fetch.format_traits import is_hdr
from vidaudio.media.fetch.formats import choose_formats


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


SDR = video("sdr", 426, 240, 480)
HDR_CODECS = [
    "vp09.02.10.10.01.09.16.09.00",
    "vp09.02.10.10.01.09.18.09.00",
    "av01.0.00M.10.0.110.09.16.09.0",
    "dvh1.05.06",
]


@pytest.mark.parametrize("codec", HDR_CODECS)
def test_hdr_is_known_by_its_codec_and_taken_only_where_there_is_nothing_else(codec: str):
    hdr = video("hdr", 426, 240, 100, vcodec=codec)
    assert is_hdr(hdr)
    for table in ([audio("a", 70), hdr, SDR], [audio("a", 70), SDR, hdr]):
        assert chosen(table) == "sdr+a"
    assert chosen([audio("a", 70), hdr]) == "hdr+a"
    # A picture in SDR without its sound is no choice against one with sound.
    assert chosen([video("sdr", 426, 240, 480), both("hdr", 426, 240, 100, vcodec=codec)]) == "hdr"


def test_hdr_is_known_by_what_the_site_says():
    for told in ("HDR10", "HDR10+", "HDR12", "HLG", "DV"):
        assert chosen([audio("a", 70), video("hdr", 426, 240, 90, dynamic_range=told), SDR]) == "sdr+a"
    assert chosen([audio("a", 70), video("note", 426, 240, 90, format_note="240p HDR"), SDR]) == "sdr+a"
    assert chosen([audio("a", 70), video("profile2", 426, 240, 90, vcodec="vp9.2"), SDR]) == "sdr+a"


@pytest.mark.parametrize(
    "codec", ["avc1.4d4015", "vp9", "vp09.00.20.08", "av01.0.00M.08", "vp09.02.10.10.01.01.01.01.00", "hvc1.1.6.L93"]
)
def test_ten_bits_alone_are_not_hdr(codec: str):
    assert not is_hdr(video("v", 426, 240, 100, vcodec=codec))
    assert is_hdr(video("v", 426, 240, 100, vcodec="av01.0.00M.10.0.110.09.16.09.0", dynamic_range="SDR"))
    assert not is_hdr(video("v", 426, 240, 100, vcodec="vp09.02.10.10.01.01.01.01.00", dynamic_range="HDR10"))


@pytest.mark.parametrize(
    "stills",
    [
        {"format_id": "sb0", "protocol": "mhtml", "ext": "mhtml", "width": 320, "height": 180, "fps": 0.1},
        video("sb1", 426, 240, 1, format_note="storyboard"),
        video("sprites", 426, 240, 1),
        video("trickplay-1", 426, 240, 1, protocol="m3u8_native"),
    ],
    ids=lambda fmt: fmt["format_id"],
)
def test_stills_are_never_chosen(stills: dict):
    assert chosen([stills]) == ""
    assert chosen([audio("a", 70), stills]) == "a"
    assert chosen([stills, audio("a", 70), video("v", 426, 240, 300)]) == "v+a"


@pytest.mark.parametrize("lesser", [{"fps": 1}, {"fps": 0.5}, {"format_note": "preview"}, {"preference": -10}])
def test_jerky_and_damaged_pictures_are_a_last_resort(lesser: dict):
    formats = [audio("a", 70), video("lesser", 426, 240, 20, **lesser)]
    assert chosen([*formats, video("real", 426, 240, 90, fps=13)]) == "real+a"
    assert chosen([*formats, video("higher", 1280, 720, 2000)]) == "higher+a"
    assert chosen(formats) == "lesser+a"


@pytest.mark.parametrize(
    "name", ["English descriptive", "Audio Description", "Deutsch (Audiodeskription)", "English AD"]
)
def test_a_described_sound_is_never_chosen(name: str):
    described = audio("described", 66, format_note=name)
    assert chosen([video("v", 426, 240, 100), described, audio("plain", 128)]) == "v+plain"
    assert chosen([video("v", 426, 240, 100), described]) == "v"


@pytest.mark.parametrize(
    "note", ["equirectangular", "360°", "mesh, 240s", "equirectangular_threed_top_bottom", "Premium"]
)
def test_spherical_and_premium_pictures_give_way_to_flat_and_free_ones(note: str):
    odd = video("odd", 426, 240, 60, format_note=f"240p, {note}")
    assert chosen([audio("a", 70), odd, SDR]) == "sdr+a"
    assert chosen([audio("a", 70), odd]) == "odd+a"
    assert chosen([audio("a", 70), video("v360", 640, 360, 60, format_note="360p"), SDR]) == "v360+a", "360p is a size"


def test_sound_in_channels_of_a_sphere_gives_way_to_stereo():
    formats = [video("v", 426, 240, 100), audio("sphere", 66, format_note="ambisonics_quad"), audio("stereo", 128)]
    assert chosen(formats) == "v+stereo"
    assert chosen(formats[:2]) == "v+sphere"


def test_format_18_is_taken_where_it_is_all_that_is_left():
    left = [f for f in TUBE if f["format_id"] in ("sb0", "18")]
    assert chosen(left) == "18"
    assert chosen(left, side=720) == "18"
    drm = [{**f, "has_drm": True} for f in TUBE if f["format_id"] != "18"]
    assert chosen([*drm, both("18", 640, 360, 420)]) == "18"
