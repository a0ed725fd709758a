"""A `Clip` cannot be built invalid."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import Clip


def clip(**changes) -> Clip:
    return Clip(**({"id": "a", "source": "file:a", "dataset": "d", "url": "/a.mp4"} | changes))


def test_site_and_video_id_are_the_two_parts_of_the_source():
    assert (clip(source="web:http://h/x").site, clip(source="web:http://h/x").video_id) == ("web", "http://h/x")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "a.b"}, "'a.b' is not 1 to 128"),
        ({"id": ""}, "is not 1 to 128"),
        ({"id": "a" * 129}, "is not 1 to 128"),
        ({"id": "a\n"}, "is not 1 to 128"),
        ({"id": "é"}, "is not 1 to 128"),
        ({"source": "a"}, "not of the form site:video"),
        ({"source": "file:"}, "not of the form site:video"),
        ({"url": ""}, "no URL or path"),
        ({"start_seconds": -1.0}, "0 or later"),
        ({"start_seconds": float("nan")}, "0 or later"),
        ({"start_seconds": 5.0, "end_seconds": 5.0}, "not after its start"),
        ({"end_seconds": float("inf")}, "not after its start"),
        ({"media_start_seconds": float("nan")}, "no time"),
        ({"labels": ("\udcff",)}, "not UTF-8"),
    ],
)
def test_invalid_clips_are_refused_with_the_reason(changes, reason):
    with pytest.raises(ManifestError, match=reason):
        clip(**changes)
