"""The demo's web server: lengths, types and ranges as a downloader needs them, and nothing outside its folder."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

import pytest

from vidaudio.demo.serve import FolderServer

BODY = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "root"
    (root / "media").mkdir(parents=True)
    (root / "media" / "a b.mp4").write_bytes(BODY)
    (root / "empty.txt").touch()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    with FolderServer(root) as running:
        yield running


def _get(server, path, headers=None, method="GET"):
    """A request whose path is sent as it stands: no client tidies `..` away."""
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_whole_file(server):
    with urllib.request.urlopen(server.url_of("media/a b.mp4"), timeout=10) as response:
        assert response.read() == BODY
        assert response.headers["Content-Type"] == "video/mp4"
        assert int(response.headers["Content-Length"]) == len(BODY)
        assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, len(BODY) - 1),
        ("bytes=-10", len(BODY) - 10, len(BODY) - 1),
        ("bytes=5-999999999", 5, len(BODY) - 1),
    ],
)
def test_range(server, asked, first, last):
    response, body = _get(server, "/media/a%20b.mp4", {"Range": asked})
    assert response.status == 206
    assert body == BODY[first : last + 1]
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(BODY)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=-"])
def test_other_ranges_get_the_whole_file(server, asked):
    response, body = _get(server, "/media/a%20b.mp4", {"Range": asked})
    assert (response.status, body) == (200, BODY)


@pytest.mark.parametrize("asked", [f"bytes={len(BODY)}-", "bytes=-0"])
def test_range_outside_the_file(server, asked):
    response, _ = _get(server, "/media/a%20b.mp4", {"Range": asked})
    assert response.status == 416
    assert response.headers["Content-Range"] == f"bytes */{len(BODY)}"


def test_head_and_empty_file(server):
    response, body = _get(server, "/media/a%20b.mp4", method="HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) == len(BODY)
    response, body = _get(server, "/empty.txt")
    assert (response.status, body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/media/../../secret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/..%2fsecret.txt",
        "/link.txt",
        "/media",
        "/",
        "/missing.mp4",
        "/a%00b",
    ],
)
def test_nothing_but_files_of_the_folder(server, path):
    response, body = _get(server, path)
    assert (response.status, body) == (404, b"")


def test_listens_on_this_machine_only_and_stops(server):
    assert server.url.startswith("http://127.0.0.1:")
    server.__exit__(None, None, None)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(server.url, timeout=2)
    server.__exit__(None, None, None)  # leaving twice does no harm (the fixture leaves again)
