"""A handful of tiny videos with known faults, the list that names them, and a corpus of them built without Dask."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from vidaudio.config.corpus import (
    CorpusRecipe,
    DaskBlock,
    FetchPolicy,
    PackBlock,
    RunSettings,
    load_corpus_recipe,
)
from vidaudio.corpus.corpus import Corpus
from vidaudio.manifest import TableOptions, read_table, write_manifest
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.packs.plan import begin_pack, missing_tasks, plan_pack
from vidaudio.packs.write import finish_pack, pack_shard
from vidaudio.pipeline.stages.embed import prepare_encoder

PICTURES = ("testsrc2", "smptebars", "rgbtestsrc", "mandelbrot", "yuvtestsrc", "testsrc")
FPS = 10


def render(
    path: Path,
    seconds: float,
    *,
    picture: str | None = "testsrc2",
    pitch: float | None = 440.0,
    size: str = "320x240",
) -> Path:
    """A video with a test picture (None: none) and a tremolo tone of `pitch` Hz (0: silence, None: no sound track)."""
    streams = []
    options: dict[str, object] = {}
    if picture is not None:
        streams.append(ffmpeg.input(f"{picture}=size={size}:rate={FPS}", f="lavfi", t=seconds))
        options |= {"vcodec": "libx264", "preset": "ultrafast", "pix_fmt": "yuv420p", "g": FPS}
    if pitch is not None:
        # A tremolo: a loader that is off by a few samples reads other values than it should.
        tone = f"aevalsrc='0.4*sin(2*PI*{pitch}*t)*(0.6+0.4*sin(5*t))':s=44100"
        streams.append(ffmpeg.input(tone if pitch else "anullsrc=r=44100:cl=mono", f="lavfi", t=seconds))
        options |= {"acodec": "aac", "b:a": "64k"}
    path.parent.mkdir(parents=True, exist_ok=True)
    run_ffmpeg(ffmpeg.output(*streams, str(path), threads=1, **options))
    return path


@dataclass(frozen=True)
class MediaWorld:
    """Where the files lie and which list names them.

    Attributes:
        folder: Of the videos; `served` in it is meant for a web server.
        manifest: The list as `read_table` made it of `list.csv`.
        reasons: Why each clip that cannot be used is not, by id.
        usable: Ids of the others.
    """

    folder: Path
    manifest: Path
    reasons: dict[str, str]
    usable: tuple[str, ...]


# id, file, start, end, label, split
ROWS = (
    ("bars", "bars.mp4", "", "", "colour bars", "train"),
    ("fractal", "fractal.mp4", "", "", "fractal", "train"),
    ("clock", "clock.mp4", "", "", "clock", "val"),
    ("long", "long.mp4", "", "", "counter", "train"),
    ("multi_a", "multi.mp4", "0", "5", "first;shared", ""),
    ("multi_b", "multi.mp4", "3", "8", "second;shared", ""),
    ("multi_c", "multi.mp4", "6.5", "12", "third;shared", ""),
    ("web_a", "{server}/served/web.mp4", "1", "6", "served", "test"),
    ("web_b", "{server}/served/web.mp4", "5", "11", "served", ""),
    ("brief", "brief.mp4", "", "", "brief", "train"),
    ("silent", "silent.mp4", "", "", "nothing", "train"),
    ("mute", "mute.mp4", "", "", "nothing", "train"),
    ("radio", "radio.mp4", "", "", "nothing", "train"),
    ("short", "short.mp4", "", "", "nothing", "train"),
    ("text", "text.mp4", "", "", "nothing", "train"),
    ("gone", "gone.mp4", "", "", "nothing", "train"),
    ("web_gone", "{server}/served/gone.mp4", "", "", "nothing", "train"),
)
REASONS = {
    "mute": "no_audio",
    "radio": "no_video",
    "short": "too_short",
    "text": "corrupt",
    "gone": "not_found",
    "web_gone": "not_found",
}


def render_world(folder: Path) -> None:
    """Render every file that `ROWS` names."""
    render(folder / "bars.mp4", 6, picture="smptebars", pitch=300)
    render(folder / "fractal.mp4", 8, picture="mandelbrot", pitch=500)
    render(folder / "clock.mp4", 5, picture="testsrc", pitch=700)
    render(folder / "long.mp4", 22, picture="testsrc2", pitch=200, size="240x320")
    render(folder / "multi.mp4", 12, picture="testsrc2", pitch=900)
    render(folder / "served" / "web.mp4", 12, picture="testsrc", pitch=350)
    render(folder / "brief.mp4", 2.5, picture="rgbtestsrc", pitch=450)
    render(folder / "silent.mp4", 5, picture="yuvtestsrc", pitch=0)
    render(folder / "mute.mp4", 4, pitch=None)
    render(folder / "radio.mp4", 4, picture=None)
    render(folder / "short.mp4", 1.5)
    (folder / "text.mp4").write_text("this is no video\n" * 50)


def list_world(folder: Path, server: str) -> MediaWorld:
    """Write the list of the rendered files, as a user's table and as a manifest."""
    table = folder / "list.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "url", "start", "end", "label", "split"])
        writer.writerows([row[0], row[1].format(server=server), *row[2:]] for row in ROWS)
    listing = read_table(table, options=TableOptions(label_separator=";", check_files=False, dataset="world"))
    manifest = folder / "list.parquet"
    write_manifest(listing.clips, manifest)
    return MediaWorld(folder, manifest, REASONS, tuple(row[0] for row in ROWS if row[0] not in REASONS))


def world_recipe(encoder: Path, *settings: str) -> CorpusRecipe:
    """Four clips a shard, small pictures, and the given encoder in float32."""
    base = (
        "shard_clips=4",
        "extract.frame_size=96",
        f"embed.encoder={{architecture: '{encoder}', pretrained: null, precision: float32, batch_size: 8}}",
        "pack={name: default, audio: flac, where: not silent, clips_per_shard: 5}",
        "dask.workers=2",
        # A fetching process takes two seconds to start, and these sources take none.
        "dask.downloads_per_worker=1",
        "download={allow_private_addresses: true, retry_wait_seconds: 0.1}",
    )
    return load_corpus_recipe("folder", (*base, *settings))


def world_run(**download: Any) -> RunSettings:
    """Return run settings with which the world's server may be asked, and `download` settings besides."""
    reached = FetchPolicy(allow_private_addresses=True, retry_wait_seconds=0.1, **download)
    return RunSettings(download=reached, dask=DaskBlock(workers=2, downloads_per_worker=1))


def pack_here(corpus: Corpus, settings: PackBlock) -> str:
    """What `pack` does, in this process; returns the folder's path or URL."""
    models = {"embed": prepare_encoder(corpus)}
    plan = plan_pack(corpus, settings, models)
    begin_pack(corpus, plan, models)
    for task in missing_tasks(corpus.store, plan):
        pack_shard(corpus, task, models)
    finish_pack(corpus, plan)
    return f"{corpus.url}/{plan.folder}"
