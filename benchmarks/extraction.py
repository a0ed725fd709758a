"""Extraction of 10-s clips on one core: everything the stage does, against bare decoding and FFmpeg processes.

    python -m benchmarks.extraction [--clips FOLDER] [--limit N] [--rounds N] [--quick]

`bare loop` decodes, scales the pictures of the grid and resamples the sound, one thread; `bare + JPEG, FLAC` also
encodes them in memory. `stage` is what a build does: child process, members, facts, a tar, its hash, a table. The
others are FFmpeg processes, whose commands are printed and kept in the result, as is what each of them makes.
video2dataset gets files that are the clip, and with `exact cut` is told to cut all the same. All share one core.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image

from benchmarks import ffmpeg_ways as ways
from benchmarks.common import median_ratio, report, side_by_side
from benchmarks.media import clips
from vidaudio.hashing import sha256_of
from vidaudio.media.decode.extractor import ExtractOptions, Extractor, MediaSpan
from vidaudio.shards.tar import ShardWriter

SECONDS = 10.0


def bare(path: Path, *, encode: bool) -> None:
    """The loop anybody would write with PyAV."""
    pictures, sound = [], []
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.codec_context.thread_count = 1
        following, passed = 0.0, set()
        for packet in container.demux(video, audio):
            for frame in packet.decode():
                if frame.time is None or frame.time >= SECONDS:
                    passed.add(type(frame))
                elif isinstance(frame, av.VideoFrame):
                    if frame.time >= following:
                        scale = 224 / min(frame.width, frame.height)
                        size = {"width": round(frame.width * scale), "height": round(frame.height * scale)}
                        pictures.append(frame.reformat(**size, format="rgb24", interpolation="BICUBIC").to_ndarray())
                        following += 1.0
                else:
                    sound += [piece.to_ndarray() for piece in resampler.resample(frame)]
            if len(passed) == 2:
                break
    if encode:
        for picture in pictures:
            Image.fromarray(picture).save(io.BytesIO(), "JPEG", quality=92)
        with soundfile.SoundFile(io.BytesIO(), "w", 16_000, 1, "PCM_16", format="FLAC") as file:
            for piece in sound:
                file.write(piece.reshape(-1))


def stage(extractor: Extractor, paths: list[Path]) -> int:
    """As the stage extracts a shard."""
    with tempfile.TemporaryDirectory() as scratch:
        tar, rows = Path(scratch) / "shard.tar", []
        with ShardWriter(tar) as writer:
            for number, path in enumerate(paths):
                result = extractor.extract(MediaSpan(path, 0.0, SECONDS))
                if not result.parts:
                    raise RuntimeError(f"{path.name}: {result.outcome}")
                writer.write(f"{number:06d}", {**result.parts, "json": json.dumps(dict(result.facts)).encode()})
                rows.append(dict(result.facts))
        pq.write_table(
            pa.Table.from_pylist(rows).append_column("sha256", [[sha256_of(tar)] * len(rows)]), tar.parent / "t"
        )
    return len(paths)


def each(paths: list[Path], work: Callable[[Path, Path], None]) -> int:
    """Work on every path in a scratch folder of its own."""
    for path in paths:
        with tempfile.TemporaryDirectory() as scratch:
            work(path, Path(scratch))
    return len(paths)


def chosen_clips(description: str | None) -> tuple[list[Path], int, bool]:
    """Read the command line, and keep to one core from here on.

    Returns:
        The clips, the number of rounds, and whether it is only tried.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos; the demo's are rendered otherwise")
    parser.add_argument("--limit", type=int, default=32, help="at most so many")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two clips, one round: only to see it work")
    chosen = parser.parse_args()
    limit, rounds = (2, 1) if chosen.quick else (chosen.limit, chosen.rounds)
    paths = clips(chosen.clips, limit, least_seconds=9.5 if chosen.clips else 3.0)
    if hasattr(os, "sched_setaffinity"):  # children inherit it: everybody has this one core
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return paths, rounds, chosen.quick


def main() -> None:
    paths, rounds, quick = chosen_clips(__doc__)
    with (
        tempfile.TemporaryDirectory() as folder,
        Extractor() as exact,
        Extractor(ExtractOptions(decode="fast")) as fast,
    ):
        streams = {path: ways.split_streams(path, Path(folder), SECONDS) for path in paths}

        def by(build: Callable[[Path, Path, float], ways.Commands]) -> Callable[[], int]:
            return lambda: each(paths, lambda path, scratch: ways.run(build(path, scratch, SECONDS)))

        def clipsep(path: Path, scratch: Path) -> None:
            ways.run(ways.clipsep_scripts(path, scratch, SECONDS))
            ways.shrink_pictures(scratch)

        def video2dataset(*, cut: bool) -> Callable[[], int]:
            return lambda: each(paths, lambda p, s: ways.run(ways.video2dataset(*streams[p], s, SECONDS, cut=cut)))

        rates = side_by_side(
            {
                "bare loop": lambda: each(paths, lambda path, _: bare(path, encode=False)),
                "bare + JPEG, FLAC": lambda: each(paths, lambda path, _: bare(path, encode=True)),
                "stage": lambda: stage(exact, paths),
                "stage, fast": lambda: stage(fast, paths),
                "one ffmpeg": by(ways.one_process),
                "two ffmpeg": by(ways.two_processes),
                "CLIPSep's scripts": lambda: each(paths, clipsep),
                "video2dataset": video2dataset(cut=False),
                "video2dataset, exact cut": video2dataset(cut=True),
            },
            rounds=rounds,
        )
    picture, sound = Path("PICTURE.mp4"), Path("SOUND.m4a")
    commands = {
        "one ffmpeg": ways.told(ways.one_process, Path("CLIP")),
        "two ffmpeg": ways.told(ways.two_processes, Path("CLIP")),
        "CLIPSep's scripts": ways.told(ways.clipsep_scripts, Path("CLIP")),
        "video2dataset": ways.told(ways.video2dataset, picture, sound, cut=False),
        "video2dataset, exact cut": ways.told(ways.video2dataset, picture, sound, cut=True),
    }
    for name, lines in commands.items():
        print(name, *lines, sep="\n    ")
    for row in ways.MAKES:
        print(f"  {row['name']}: pictures {row['pictures']}; sound {row['sound']}; processes {row['processes']}")
    print("video2dataset's commands are rebuilt from its sources; see benchmarks/ffmpeg_ways.py for their versions.")
    settings = {"clips": [path.name for path in paths], "seconds": SECONDS, "rounds": rounds, "quick": quick}
    report(
        "extraction",
        rates,
        "bare loop",
        settings,
        what_each_makes=ways.MAKES,
        commands=commands,
        stage_of_the_bare_loop=median_ratio(rates, "stage", "bare loop"),
        stage_of_the_bare_loop_that_encodes=median_ratio(rates, "stage", "bare + JPEG, FLAC"),
        stage_times_video2dataset=median_ratio(rates, "stage", "video2dataset"),
    )


if __name__ == "__main__":
    main()
