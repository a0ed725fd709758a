"""URL templates."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import fill_template, is_template
from vidaudio.manifest.youtube import youtube_clip

CUT = youtube_clip("-aaaaaaaaaa", dataset="d", start_seconds=30.0, end_seconds=40.0)
FRACTION = youtube_clip("-aaaaaaaaaa", dataset="d", start_seconds=12.5, end_seconds=20.0)
WHOLE = youtube_clip("-aaaaaaaaaa", dataset="d")


@pytest.mark.parametrize(
    ("clip", "template", "url", "media_start"),
    [
        (CUT, "https://h/{id}_{start:06d}.mp4", "https://h/-aaaaaaaaaa_000030.mp4", 30.0),
        (CUT, "https://h/{id}_{start}_{end}.mp4", "https://h/-aaaaaaaaaa_30_40.mp4", 30.0),
        (FRACTION, "https://h/{id}_{start}.mp4", "https://h/-aaaaaaaaaa_12.5.mp4", 12.5),
        (FRACTION, "https://h/{id}_{start_ms}_{end_ms}.mp4", "https://h/-aaaaaaaaaa_12500_20000.mp4", 12.5),
        (FRACTION, "https://h/{clip}.mp4", "https://h/-aaaaaaaaaa_012500m.mp4", 12.5),
        (FRACTION, "https://h/{id}.mp4", "https://h/-aaaaaaaaaa.mp4", 0.0),
        (CUT, "/data/{id}.mp4", "/data/-aaaaaaaaaa.mp4", 0.0),
        (CUT, "https://h/{{x}}/{id}", "https://h/{x}/-aaaaaaaaaa", 0.0),
    ],
)
def test_fields_are_filled_and_say_whether_the_file_is_a_cut(clip, template, url, media_start):
    (filled,) = fill_template([clip], template)
    assert (filled.url, filled.media_start_seconds) == (url, media_start)


@pytest.mark.parametrize(
    ("clip", "template", "reason"),
    [
        (CUT, "https://h/{name}.mp4", r"no field {name}; the fields are {id}, {start}"),
        (CUT, "https://h/{id.__class__}.mp4", "no field {id.__class__}"),
        (CUT, "https://h/{}.mp4", "no field {}"),
        (CUT, "https://h/{id!r}.mp4", "no field {id}"),
        (CUT, "https://h/{id:9}.mp4", "is no width"),
        (CUT, "https://h/{start:>99999999}{id}", "is no width"),
        (CUT, "https://h/{id", "is not a template"),
        (CUT, "https://h/all.mp4", "one URL for all clips"),
        (CUT, "https://h/{start}.mp4", "one URL for all clips"),
        (FRACTION, "https://h/{id}_{start:06d}.mp4", r"12.5 s is not a whole number of seconds.*{start_ms}"),
        (WHOLE, "https://h/{id}_{start}_{end}.mp4", "has no end"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(clip, template, reason):
    with pytest.raises(ManifestError, match=reason):
        fill_template([clip], template)


def test_a_folder_is_no_template_whatever_its_name(tmp_path):
    odd = tmp_path / "{id}"
    odd.mkdir()
    assert not is_template(str(odd))
    assert not is_template("/data/videos")
    assert is_template("/data/{id}.mp4")
    assert is_template("https://host/videos")
