"""Downloaded files are looked at before they are believed; parts of files are compared with what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.site.small_video import SECONDS, small_video
from vidaudio.media.fetch.check import MediaFault, find_fault, page_kind
from vidaudio.media.fetch.partial_content import PartialContent, WrongPart
from vidaudio.media.fetch.reasons import reason_of
from vidaudio.media.outcomes import Reason

KINDS = {
    "mp4": {},
    "faststart": {"faststart": True},
    "mkv": {"kind": "matroska"},
    "webm": {"kind": "webm"},
    "avi": {"kind": "avi"},
    "ts": {"kind": "mpegts"},
    "wmv": {"kind": "asf"},
}


def fault_of(data: bytes, folder: Path) -> MediaFault | None:
    path = folder / "file.bin"
    path.write_bytes(data)
    return find_fault(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_has_no_fault_and_one_that_is_cut_anywhere_has(kind: str, tmp_path: Path):
    whole = small_video(**KINDS[kind])
    assert fault_of(whole, tmp_path) is None
    for share in (0.05, 0.3, 0.5, 0.8, 0.97):
        length = int(len(whole) * share)
        if kind == "ts" and length % 188 == 0:
            length += 1
        assert fault_of(whole[:length], tmp_path) is not None, share
    assert fault_of(whole[:-10], tmp_path) is not None


@pytest.mark.parametrize("kind", ["faststart", "mkv", "webm"])
def test_of_a_cut_file_is_used_what_is_there(kind: str, tmp_path: Path):
    whole = small_video(**KINDS[kind])
    fault = fault_of(whole[: len(whole) // 2], tmp_path)
    assert fault.is_certain
    assert 0.5 < fault.seconds_there < 3
    assert fault.seconds_announced == pytest.approx(SECONDS, abs=0.2)
    assert fault.holds(0.5)
    assert not fault.holds(3.5)
    assert not fault.holds(None)
    nearly = fault_of(whole[: int(len(whole) * 0.99)], tmp_path)
    assert nearly.holds(None), "a few bytes are missing"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><html><body>Too many visitors</body></html>", "a web page"),
        (b"\n  <HTML lang=en>" + "Störung".encode("latin-1"), "a web page"),
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b'{"error": "quota exceeded"}', "JSON"),
        (b'[{"error": 1}]', "JSON"),
        (b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>", "XML"),
        (b"#EXTM3U\n#EXTINF:2,\na.ts\n", "text"),
        ("Bitte versuchen Sie es später".encode(), "text"),
    ],
)
def test_pages_are_no_media_whatever_they_are_called(body: bytes, kind: str, tmp_path: Path):
    assert page_kind(body) == kind
    fault = fault_of(body, tmp_path)
    assert fault.message == f"the server sent {kind} instead of media"
    assert fault.seconds_there is None
    assert not fault.holds(None)


@pytest.mark.parametrize("kind", KINDS)
def test_media_are_no_pages(kind: str):
    assert page_kind(small_video(**KINDS[kind])[:1024]) == ""
    for head in (
        b"FLV\x01\x05\0\0\0\t",
        b"ID3\x03\0\0\0\0\x1f",
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"OggS\0\2",
        b"\xff\xfb\x90",
    ):
        assert page_kind(head) == ""


def test_what_opens_as_nothing_is_no_media(tmp_path: Path):
    assert fault_of(b"", tmp_path).message == "the server sent nothing"
    for body in (bytes(5000), b"\0\0\0\x20ftypisom" + bytes(5000), small_video()[:300] + bytes(5000)):
        assert not fault_of(body, tmp_path).holds(None)


def test_a_tail_behind_the_media_is_none_of_its_boxes(tmp_path: Path):
    assert fault_of(small_video(faststart=True) + b"trailing bytes of an uploader", tmp_path) is None


# --- parts of files --------------------------------------------------------------------------------------------------

URL = "http://h/a.mp4"


def checked(asked: str | None, status: int, content_range: str | None, length: int | None = None, **more: str) -> None:
    parts = PartialContent()
    answered = {"Content-Range": content_range, "Content-Length": length and str(length), **more}
    asked_for = {"Range": asked} if asked else {}
    parts.check(URL, status, asked_for, {name: value for name, value in answered.items() if value})


@pytest.mark.parametrize(
    ("asked", "content_range", "length"),
    [
        (None, "bytes 0-999/1000", 1000),
        ("bytes=0-", "bytes 0-999/1000", None),
        ("bytes=0-99", "bytes 0-99/1000", 100),
        ("bytes=900-1999", "bytes 900-999/1000", 100),
        ("bytes=500-", "bytes 500-999/1000", 500),
        ("bytes=500-599", "bytes 500-599/*", 100),
    ],
)
def test_the_part_that_was_asked_for_passes(asked: str | None, content_range: str, length: int | None):
    checked(asked, 206, content_range, length)


@pytest.mark.parametrize(
    ("asked", "content_range", "length"),
    [
        (None, "bytes 0-499/1000", 500),
        (None, None, 500),
        ("bytes=0-", "bytes 0-499/1000", 500),
        ("bytes=500-", "bytes 0-999/1000", 1000),
        ("bytes=500-", "bytes 400-999/1000", 600),
        ("bytes=0-99", "bytes 0-49/1000", 50),
        ("bytes=0-99", "bytes 0-99/1000", 50),
        ("bytes=0-99", "octets 0-99/1000", 100),
    ],
)
def test_any_other_part_is_refused_and_may_pass(asked: str | None, content_range: str | None, length: int | None):
    with pytest.raises(WrongPart) as refused:
        checked(asked, 206, content_range, length)
    assert reason_of(refused.value) is Reason.CORRUPT_FETCHED
    assert reason_of(Exception(f"[download] Got error: {refused.value}")) is Reason.CORRUPT_FETCHED


def test_the_rest_of_a_file_is_asked_for_by_its_version_or_not_at_all():
    for told, wanted in (
        ({"ETag": '"v1"', "Last-Modified": "Mon"}, {"Range": "bytes=500-", "If-Range": '"v1"'}),
        ({"ETag": 'W/"v1"', "Last-Modified": "Mon"}, {"Range": "bytes=500-", "If-Range": "Mon"}),
        ({"ETag": 'W/"v1"'}, {}),
        ({}, {}),
    ):
        parts, headers = PartialContent(), {"Range": "bytes=500-"}
        parts.check(URL, 200, {}, {"Content-Length": "1000", **told})
        parts.prepare(URL, headers)
        assert headers == wanted
    headers = {"Range": "bytes=0-99"}
    PartialContent().prepare(URL, headers)
    assert headers == {"Range": "bytes=0-99"}, "the first part of a file needs no version"


def test_parts_of_two_versions_never_meet():
    for before, now in (
        ({"ETag": '"v1"'}, {"ETag": '"v2"', "Content-Range": "bytes 500-999/1000"}),
        ({"Content-Length": "1000"}, {"Content-Range": "bytes 500-1999/2000"}),
        ({"Last-Modified": "Mon"}, {"Last-Modified": "Tue", "Content-Range": "bytes 500-999/1000"}),
        # Who sends a tag with the whole must send it with a part.
        ({"ETag": '"v1"'}, {"Content-Range": "bytes 500-999/1000"}),
    ):
        parts = PartialContent()
        parts.check(URL, 200, {}, before)
        with pytest.raises(WrongPart):
            parts.check(URL, 206, {"Range": "bytes=500-"}, now)


def test_a_whole_file_is_no_segment_of_a_stream():
    parts = PartialContent()
    parts.in_fragments = True
    with pytest.raises(WrongPart, match="a whole file came"):
        parts.check(URL, 200, {"Range": "bytes=0-99"}, {"Content-Length": "1000"})
