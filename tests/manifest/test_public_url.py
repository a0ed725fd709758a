"""Passwords and signatures of URLs stay in the column that the fetcher reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import Clip, read_table
from vidaudio.manifest.public_url import public_source, public_url

S3 = "https://b.s3.amazonaws.com/v/a.mp4?X-Amz-Algorithm=AWS4&X-Amz-Credential=AK%2F1&X-Amz-Date={}&X-Amz-Signature={}"
SIGNED = [
    (S3.format("20260101", "SECRET"), "https://b.s3.amazonaws.com/v/a.mp4"),
    ("https://h/a.mp4?part=2&Expires=1&Signature=SECRET&Key-Pair-Id=SECRET", "https://h/a.mp4?part=2"),
    ("https://c.blob.core.windows.net/v/a.mp4?sv=2020&st=1&se=2&sr=b&sp=r&sig=SECRET%3D", "https://c.blob.core.windows.net/v/a.mp4"),
    ("https://h/a.mp4?hdnts=exp=1~acl=/*~hmac=SECRET&q=1", "https://h/a.mp4?q=1"),
    ("https://h/a.mp4?token=SECRET", "https://h/a.mp4"),
    ("https://h/a.mp4?key=SECRET&x=1", "https://h/a.mp4?x=1"),
    ("https://h/watch?v=abc&access_token=SECRET", "https://h/watch?v=abc"),
    ("https://h/v2#access_token=SECRET", "https://h/v2"),
    ("https://user:SECRET@h.org:81/a.mp4", "https://h.org:81/a.mp4"),
    ("https://SECRET@h.org/a.mp4", "https://h.org/a.mp4"),
    ("https://user:SEC/RET@h.org/a.mp4", "https://h.org/a.mp4"),
    ("https://h/a.mp4?access_key=SECRET", "https://h/a.mp4"),
    ("https://h/s/abc/a.mp4?rlkey=SECRET&dl=1", "https://h/s/abc/a.mp4?dl=1"),
    ("https://h/a.mp4?md5=SECRET&expires=17", "https://h/a.mp4"),
    ("https://h/a.mp4?token[]=SECRET&PHPSESSID=SECRET&sid=SECRET&wowzatokenhash=SECRET", "https://h/a.mp4"),
    ("https://h/a.mp4;jsessionid=SECRET?q=1", "https://h/a.mp4?q=1"),
    ("https://h/hdnts=exp=1~acl=/*~hmac=SECRET/a.mp4", "https://h/a.mp4"),
    ("https://h/token=SECRET/a.mp4", "https://h/a.mp4"),
    ("https://h/g?url=https%3A%2F%2Fu%3ASECRET%40h%2Fa.mp4&q=1", "https://h/g?url=https%3A%2F%2Fh%2Fa.mp4&q=1"),
    ("https://h/g?url=https://h/a.mp4?sig=SECRET", "https://h/g?url=https://h/a.mp4"),
    ("https://archive/2020/https://u:SECRET@h/a.mp4", "https://archive/2020/https://h/a.mp4"),
]  # fmt: skip
ORDINARY = [
    "https://h/a.mp4",
    "https://h:8080/a.mp4?x=1&y=2#t=3",
    "https://h/p?expires=5&id=7&t=30&e=1",
    "https://h/get?key=videos/a.mp4",
    "https://h/watch?v=abc&list=x@y",
    "https://[::1]:80/a@b.mp4",
    "https://h/v?md5=abc&v=12",
    "https://h/w;v=1/name=value/a.mp4",
    "https://h/keyboard?donkey=3&h=720",
    "https://h/g?url=https%3a%2f%2Fh%2Fa.mp4",
    "http://h",
]


@pytest.mark.parametrize(("url", "public"), SIGNED)
def test_secrets_go_and_the_rest_stays(url: str, public: str):
    assert public_url(url) == public
    assert public_source(f"web:{url}") == f"web:{public}"


@pytest.mark.parametrize("url", ORDINARY)
def test_urls_without_secrets_are_as_they_were(url: str):
    assert public_url(url) == url
    assert Clip("c", f"web:{url}", "d", url).source == f"web:{url}"


def test_where_the_key_is_all_that_names_a_video_videos_stay_apart():
    one, other = (public_url(f"https://h/get?key={key}") for key in ("SECRET", "OTHER"))
    assert one != other
    assert "SECRET" not in one
    assert one.startswith("https://h/get~")
    assert public_url("https://h/get?key=SECRET") == one


def test_sources_that_are_no_urls_are_left_alone():
    for source in ("youtube:dQw4w9WgXcQ", "file:cats/token=1.mp4", "file:a?key=2.mp4", "x:user:pw@host"):
        assert public_source(source) == source


def test_a_list_keeps_urls_for_fetching_and_nothing_else_holds_their_secrets(tmp_path: Path):
    table = tmp_path / "l.csv"
    rows = [S3.format("1", "SECRET1"), S3.format("2", "SECRET2"), "https://user:SECRET@h/b.mp4", "https://h/c.mp4"]
    table.write_text("url,label\n" + "".join(f"{url},l{n}\n" for n, url in enumerate(rows)))
    listing = read_table(table)
    assert [clip.url for clip in listing.clips] == [rows[0], rows[2], rows[3]]
    assert listing.clips[0].labels == ("l0", "l1"), "two signed URLs of one file are one clip"
    for clip in listing.clips:
        assert "SECRET" not in f"{clip.id} {clip.source}"
    assert [clip.source for clip in listing.clips[1:]] == ["web:https://h/b.mp4", "web:https://h/c.mp4"]


def test_messages_about_rows_hold_no_secrets(tmp_path: Path):
    table = tmp_path / "l.csv"
    for bad in ("ftp://user:SECRET@h/a.mp4", "https://youtube.com/nothing?token=SECRET", "https://u:SECRET@/a.mp4"):
        table.write_text(f"url\n{bad}\n")
        with pytest.raises(ManifestError) as refused:
            read_table(table)
        assert "SECRET" not in str(refused.value)
    table.write_text("id,url\na,https://u:SECRET@h/1.mp4\na,https://u:SECRET@h/2.mp4\n")
    with pytest.raises(ManifestError, match=r"h/1\.mp4 and at https://h/2\.mp4") as refused:
        read_table(table)
    assert "SECRET" not in str(refused.value)


def test_a_tables_own_sources_lose_their_secrets(tmp_path: Path):
    table = tmp_path / "l.csv"
    table.write_text("url,src\nhttps://h/a.mp4,web:https://u:SECRET@h/a.mp4?sig=SECRET\n")
    from vidaudio.manifest import TableOptions

    (clip,) = read_table(table, options=TableOptions(columns={"source": "src"})).clips
    assert clip.source == "web:https://h/a.mp4"
