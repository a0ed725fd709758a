"""What a list or a folder holds never reaches the terminal as it is, and never ends a command that did its work."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.hostile_text import HOSTILE, problem_of
from vidaudio.manifest import Clip, TableOptions, clips_from_table, read_manifest, read_table, write_manifest
from vidaudio.manifest.source import open_manifest

CLIP = Clip(id="a", source="file:a", dataset="d", url="/a.mp4")


def vidaudio(*arguments: str | bytes | os.PathLike, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "vidaudio", "manifest", *arguments]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})


def test_errors_and_tables_bring_no_escape_sequences(write, tmp_path):
    rows = [{"url": f"ftp://h/{HOSTILE}"}, {"url": "https://h/1", "caption": HOSTILE, "label": "x" * 120_000}]
    path = write("t.jsonl", "\n".join(map(json.dumps, rows)))
    refused = vidaudio("table", path, "-o", tmp_path / "m.parquet")
    assert refused.returncode == 1
    assert b"Traceback" not in refused.stderr
    assert problem_of(refused.stderr.decode()) is None
    assert "t.jsonl:1: " in refused.stderr.decode()
    read = vidaudio("table", path, "-o", tmp_path / "m.parquet", "--skip-bad-rows")
    shown = vidaudio("show", tmp_path / "m.parquet")
    for done in (read, shown):
        assert done.returncode == 0
        assert problem_of(done.stdout.decode()) is None


def test_names_that_are_not_utf_8_and_terminals_that_are_not(write, tmp_path):
    write("v/é.mp4", "")
    (tmp_path / "v" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    out = tmp_path / "é.parquet"
    for flags in ([], ["--json"]):
        done = vidaudio("folder", tmp_path / "v", "-o", out, "--skip-bad-rows", *flags, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"caf\\xe9.mp4" in done.stdout.replace(b"\\\\", b"\\")
        if flags:
            assert json.loads(done.stdout)["clips"] == 1
    shown = vidaudio("show", out, PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b".mp4" in shown.stdout
    for refused in (vidaudio("show", os.fsencode(out) + b"\xe9"), vidaudio("folder", tmp_path / "v", "-o", b"\xe9")):
        assert refused.returncode == 1
        assert b"Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["a:b", "12:30", "100%41", "what?", "a#b", "new\nline", "-x", "~x", "{a}", "s3:"])
def test_a_manifest_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for place in (f"{name}.parquet", tmp_path / "deep" / f"{name}.parquet"):
        write_manifest([CLIP], place)
        assert clips_from_table(read_manifest(place)) == [CLIP]
        assert open_manifest(place).num_rows == 1
        assert read_table(place, options=TableOptions(check_files=False)).clips[0].url == CLIP.url
    assert (tmp_path / f"{name}.parquet").is_file()
