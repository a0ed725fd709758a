"""Sound of any layout is heard: ambisonics by W, layouts without a rule by their mean, opposite channels by one."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.rendered import H264, clock_picture
from vidaudio.media.decode.channels import LevelMeter, one_channel
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.outcomes import Outcome, Reason

RATE, SECONDS = 48_000, 3.0


def tone(frequency: float, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(RATE * SECONDS)) / RATE)


def video(path: Path, channels: np.ndarray, layout: str, codec: str = "pcm_s16le", **options: str) -> Path:
    """A video with this sound `[channels, samples]`."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        picture.width, picture.height, picture.pix_fmt = 128, 96, H264["pix_fmt"]
        sound = container.add_stream(codec, rate=RATE, options=options, layout=layout)
        for number in range(round(SECONDS * 10)):
            frame = av.VideoFrame.from_ndarray(clock_picture(number / 10), format="gray").reformat(format="yuv420p")
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        packed = np.ascontiguousarray(channels.T.reshape(1, -1), np.float32)
        resampler = av.AudioResampler(format=sound.codec_context.format, frame_size=sound.codec_context.frame_size)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))
    return path


def decoded(path: Path, **options) -> DecodedClip:
    clip = decode_clip(str(path), 0.0, None, DecodeOptions(**options))
    assert isinstance(clip, DecodedClip), clip
    return clip


def level(clip: DecodedClip, frequency: float) -> float:
    """Amplitude of a tone in the middle of the clip, full scale 1."""
    samples = clip.samples[8000:24_000] / 32768
    wave = np.exp(2j * np.pi * frequency * np.arange(len(samples)) / 16_000)
    return float(2 * np.abs(samples @ wave) / len(samples))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.webm"])
def test_of_ambisonics_w_is_taken(tmp_path: Path, order: int, name: str):
    count = (order + 1) ** 2
    channels = np.zeros((count, round(RATE * SECONDS)))
    channels[0], channels[-1] = tone(440), tone(1000)
    codec = "libopus"
    if name.endswith("webm"):
        name = "a.mkv"
        codec = "pcm_f32le" if order == 1 else codec
    path = video(
        tmp_path / name,
        channels,
        f"ambisonic {order}",
        codec,
        **({"mapping_family": "2"} if codec == "libopus" else {}),
    )
    with av.open(str(path)) as container:
        is_told = container.streams.audio[0].codec_context.layout.name.startswith("ambisonic")
    clip = decoded(path)
    if is_told:
        assert clip.audio_channel == "W"
        assert level(clip, 440) == pytest.approx(0.3, abs=0.03)
        assert level(clip, 1000) < 0.01
    else:
        assert level(clip, 440) > 0.05


def test_of_ambisonics_in_aac_w_is_taken(tmp_path: Path):
    """YouTube's kind: four AAC channels that only the container's SA3D box calls ambisonic."""
    channels = np.zeros((4, round(RATE * SECONDS)))
    channels[0], channels[3] = tone(440), tone(1000)
    path = video(tmp_path / "a.mp4", channels, "4.0", "aac")
    box = struct.pack(">I4sBBIBBI4I", 36, b"SA3D", 0, 0, 1, 0, 0, 4, 0, 1, 2, 3)
    data = bytearray(path.read_bytes())
    entry = data.index(b"mp4a") - 4
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    data[end:end] = box
    begin, parents = 0, [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4a"]
    places = [data.rfind(kind, 0, entry + 8) - 4 for kind in parents]
    for place in places:
        size = int.from_bytes(data[place : place + 4], "big")
        data[place : place + 4] = (size + len(box)).to_bytes(4, "big")
    assert begin == 0
    path.write_bytes(bytes(data))
    with av.open(str(path)) as container:
        if not container.streams.audio[0].codec_context.layout.name.startswith("ambisonic"):
            pytest.skip("this FFmpeg does not read SA3D boxes")
    clip = decoded(path)
    assert clip.audio_channel == "W"
    # AAC's own order puts the first stored channel elsewhere; W is the one that the container numbers 0.
    assert max(level(clip, 440), level(clip, 1000)) > 0.2


LAYOUTS = ["mono", "stereo", "2.1", "quad", "5.1", "5.1(side)", "7.1", "7.1.4", "22.2", "binaural", "FL+LFE", "SL+SR"]
LAYOUTS += ["TFL+TFR", "WL+WR", "LFE", "2 channels", "3 channels", "10 channels", "24 channels", "40 channels"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_fails(tmp_path: Path, layout: str):
    count = av.AudioLayout(layout).nb_channels
    path = video(tmp_path / "a.nut", np.repeat(tone(440)[None], count, axis=0), layout)
    clip = decoded(path)
    assert clip.decode_errors == 0
    assert level(clip, 440) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("layout", ["stereo", "5.1", "10 channels", "SL+SR"])
def test_opposite_channels_are_not_silence(tmp_path: Path, layout: str):
    channels = np.zeros((av.AudioLayout(layout).nb_channels, round(RATE * SECONDS)))
    channels[0], channels[1] = tone(440), -0.99 * tone(440)
    clip = decoded(video(tmp_path / "a.mkv", channels, layout))
    assert clip.audio_channel == "0"
    assert level(clip, 440) == pytest.approx(0.3, abs=0.01)
    channels[0], channels[1] = 0.99 * tone(440), -tone(440)
    assert decoded(video(tmp_path / "b.mkv", channels, layout)).audio_channel == "1"


def test_a_short_sound_of_opposite_channels_is_found(tmp_path: Path):
    bang = np.zeros(round(RATE * SECONDS))
    bang[70_000:70_900] = 0.5 * np.random.default_rng(1).standard_normal(900)
    clip = decoded(video(tmp_path / "a.mkv", np.stack([bang, -bang]), "stereo"))
    assert clip.audio_channel == "0"
    assert np.abs(clip.samples).max() > 3000


def test_channels_that_are_opposite_for_a_part_are_found(tmp_path: Path):
    left = tone(440)
    right = np.where(np.arange(len(left)) < len(left) // 2, left, -left)
    assert decoded(video(tmp_path / "half.mkv", np.stack([left, right]), "stereo")).audio_channel == "0"
    hum, voice = tone(440, 0.4), tone(1000, 0.05)
    clip = decoded(video(tmp_path / "hum.mkv", np.stack([hum + voice, voice - hum]), "stereo"))
    assert clip.audio_channel in ("0", "1")
    assert level(clip, 440) == pytest.approx(0.4, abs=0.01)
    # Quiet noise of opposite sign behind a loud sound is no reason.
    faint = 0.002 * np.random.default_rng(2).standard_normal(len(left))
    loud = np.where(np.arange(len(left)) < len(left) // 2, left, 0.0)
    assert (
        decoded(video(tmp_path / "faint.mkv", np.stack([loud + faint, loud - faint]), "stereo")).audio_channel == "mix"
    )


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_one_channel_of_many_that_is_heard_alone_stays_in_the_mix(tmp_path: Path, layout: str):
    count = av.AudioLayout(layout).nb_channels
    for number in set(range(count)) - {3}:  # 3 is for low frequencies, which no mix has
        channels = np.zeros((count, round(RATE * SECONDS)))
        channels[number] = tone(440)
        assert decoded(video(tmp_path / f"{number}.mkv", channels, layout)).audio_channel == "mix", number


@pytest.mark.parametrize(
    ("left", "right"),
    [(440, 440), (440, 1000), (440, None), (None, None), (10_000, 10_000), (10_000, None)],
    ids=["same", "two", "one side", "silent", "too high for 16 kHz", "too high on one side"],
)
def test_ordinary_sound_is_mixed(tmp_path: Path, left: float | None, right: float | None):
    channels = np.stack([tone(f) if f else np.zeros(round(RATE * SECONDS)) for f in (left, right)])
    clip = decoded(video(tmp_path / "a.mkv", channels, "stereo"))
    assert clip.audio_channel == "mix"


def test_opposite_channels_above_what_is_kept_stay_mixed(tmp_path: Path):
    low = tone(440, 0.01)
    clip = decoded(video(tmp_path / "a.mkv", np.stack([low + tone(11_000), low - tone(11_000)]), "stereo"))
    assert clip.audio_channel == "mix"


def test_a_channel_can_be_chosen(tmp_path: Path):
    path = video(tmp_path / "a.mkv", np.stack([tone(440, 0.2), tone(1000)]), "stereo")
    for channel, name, heard, unheard in (
        ("left", "0", 440, 1000),
        ("right", "1", 1000, 440),
        ("loudest", "1", 1000, 440),
        (0, "0", 440, 1000),
        (1, "1", 1000, 440),
    ):
        clip = decoded(path, channel=channel)
        assert clip.audio_channel == name
        assert level(clip, heard) > 0.19
        assert level(clip, unheard) < 0.001
    missing = decode_clip(str(path), 0.0, None, DecodeOptions(channel=2))
    assert isinstance(missing, Outcome)
    assert missing.reason is Reason.NO_AUDIO
    assert "2 is wanted, and the sound has 2" in missing.message
    mono = video(tmp_path / "mono.mkv", tone(440)[None], "mono")
    for channel in ("mix", "left", "right", "loudest", 0):
        assert level(decoded(mono, channel=channel), 440) == pytest.approx(0.3, abs=0.01)


def test_sides_are_found_by_name(tmp_path: Path):
    channels = np.stack([tone(300 + 200 * n) for n in range(3)])
    path = video(tmp_path / "a.mkv", channels, "3.0")  # FL FR FC
    assert level(decoded(path, channel="right"), 500) > 0.25


@pytest.mark.parametrize("form", ["u8", "s16", "s32", "flt", "dbl", "u8p", "s16p", "s32p", "fltp", "dblp", "s64"])
def test_levels_are_measured_in_any_form(form: str):
    source = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(np.stack([tone(440), tone(440, 0.1)]).T.reshape(1, -1), np.float32), "flt", "stereo"
    )
    source.sample_rate = RATE
    (frame,) = av.AudioResampler(format=form).resample(source)
    meter = LevelMeter()
    meter.push(frame, 0.0)
    np.testing.assert_allclose(meter.powers, [0.3**2 / 2, 0.1**2 / 2], rtol=0.02)
    taken = one_channel(frame, 1).to_ndarray()
    assert np.abs(taken).max() == pytest.approx(0.1, abs=0.01)
