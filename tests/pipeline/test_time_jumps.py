"""Jumps of a clock are counted alike in files on disk and in clips that were cut out of files from the web."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ffmpeg
import pytest

from tests.media.site.server import LoopbackSite
from tests.media_world import render
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus.corpus import create_or_open
from vidaudio.manifest import Clip, write_manifest
from vidaudio.manifest.store import read_manifest
from vidaudio.media.decode.extractor import Extracted
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.pipeline.stages.extract import _with_jumps_of_cut, extract_shard
from vidaudio.shards.commit import read_table, table_name

PART_SECONDS = 10
SPANS = {"before": (3.0, 6.0), "across": (8.0, 12.0), "behind": (13.0, 16.0)}


def join(folder: Path, name: str, offset: float) -> Path:
    """Write MPEG-TS of two parts, the second with a clock that begins at `offset` seconds."""
    whole = render(folder / "part.mp4", PART_SECONDS, size="64x48")
    data = b""
    for begin in (0.0, offset):
        part = folder / "part.ts"
        run_ffmpeg(ffmpeg.output(ffmpeg.input(str(whole)), str(part), c="copy", output_ts_offset=begin))
        data += part.read_bytes()
    (folder / name).write_bytes(data)
    return folder / name


def test_jumps_are_counted_alike_on_disk_and_over_http(site: LoopbackSite, tmp_path: Path):
    clips = []
    for name, offset in (("forward", 3600.0), ("again", 0.0)):
        path = join(site.folder, f"{name}.ts", offset)
        for where, url in (("disk", str(path)), ("web", site.url(path.name))):
            for at, (start, end) in SPANS.items():
                source = f"{where}:{name}"
                clips.append(Clip(f"{name}-{at}-{where}", source, "d", url, start_seconds=start, end_seconds=end))
    write_manifest(clips, tmp_path / "list.parquet")
    budget = f"rate: {{folder: '{tmp_path}/budget'}}"
    recipe = load_corpus_recipe(
        "folder",
        ("embed.encoder.precision=float32", f"download={{allow_private_addresses: true, {budget}}}"),
    )
    corpus = create_or_open(str(tmp_path / "corpus"), recipe, read_manifest(tmp_path / "list.parquet"))
    download_shard(corpus, 0, "clips", recipe.run_settings())
    fetched, _ = read_table(corpus.store, table_name("clips", 0))
    told = {row["id"]: json.loads(row["info"]).get("time_jumps") for row in fetched.to_pylist()}
    assert {clip for clip, jumps in told.items() if jumps is not None} == {"forward-across-web", "again-across-web"}
    extract_shard(corpus, 0, "av", recipe.run_settings())
    rows = read_table(corpus.store, table_name("av", 0))[0].to_pylist()
    assert {row["id"]: row["time_jumps"] for row in rows} == {clip.id: int("across" in clip.id) for clip in clips}


@pytest.mark.parametrize(
    ("info", "jumps"),
    [
        ('{"time_jumps": 2}', 3),
        ('{"time_jumps": 2.0}', 3),
        ('{"time_jumps": NaN}', 1),
        ('{"time_jumps": "2"}', 1),
        ("{}", 1),
        (None, 1),
        ('{"time_jumps": -1}', 1),
        ('{"time_jumps": 1e300}', 1),
        ('{"time_jumps": true}', 1),
        (f'{{"time_jumps": {1 << 40}}}', 1),
        ("[1]", 1),
        ("{", 1),
    ],
)
def test_only_a_count_of_jumps_is_added(info: str | None, jumps: int):
    facts: dict[str, Any] = {"time_jumps": 1}
    row: dict[str, Any] = {"info": info}
    assert _with_jumps_of_cut(row, Extracted(Outcome.done(), facts)).facts == {"time_jumps": jumps}
    assert facts == {"time_jumps": 1}
    failed = Extracted(Outcome.failed(Reason.CRASH, "it died"))
    assert _with_jumps_of_cut(row, failed) is failed
    assert _with_jumps_of_cut({}, Extracted(Outcome.done(), facts)).facts == facts
