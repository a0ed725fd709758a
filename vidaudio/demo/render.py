"""Rendering of the demo world to video files: H.264 pictures and AAC sound in mp4, as from a camera.

A few training videos are flawed on purpose, in the ways of web videos: no sound in the track, a frozen picture, picture
and sound of different things, a file that is cut off half-way. In a noisy world, a share of the training and validation
videos also contains the sound of a thing that is not in the picture, or has the sound of another thing instead of its
own; test videos stay clean. `world.csv` lists all of this.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType

import ffmpeg
import numpy as np
import soundfile

from vidaudio.cpus import available_cores
from vidaudio.demo import sounds
from vidaudio.demo.pen import HEIGHT, WIDTH
from vidaudio.demo.world import DURATION, KINDS, Instance, Kind, Purpose, derive_seed, kind_of, purpose_of
from vidaudio.errors import UsageError, VidaudioError
from vidaudio.media.ffmpeg import ffmpeg_executable

FRAMES_PER_SECOND = 10

SPLITS: Mapping[str, Purpose] = MappingProxyType({"train": Purpose.TRAIN, "val": Purpose.VAL, "test": Purpose.TEST})

FULL: Mapping[str, int] = MappingProxyType({"train": 36, "val": 4, "test": 8})
"""Videos per kind for a demo that trains."""

SMALL: Mapping[str, int] = MappingProxyType({"train": 5, "val": 1, "test": 2})
"""Videos per kind for a check that the parts fit together."""

OFFSCREEN_SHARE = 0.5
"""Share of a noisy world's training and validation videos with a sound from off screen."""

NOISY_SPLITS = ("train", "val")

OFFSCREEN_DB = (-6.0, 0.0)
"""Range of the level of a sound from off screen, relative to the sound of the visible thing, in dB."""


class Flaw(StrEnum):
    """Deliberate flaw of a video."""

    NONE = ""
    SILENT = "silent"
    STILL = "still"
    MISMATCHED = "mismatched"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Video:
    """One video of the world.

    Attributes:
        file: Path relative to the world's folder.
        label: Label in the list, and of the kind shown; a mismatched video sounds like `sounding` instead.
        split: `train`, `val` or `test`.
        flaw: Deliberate flaw; `Flaw.NONE` without one.
        seed: Seed of picture and sound.
        sounding: Label of the kind that is heard.
        offscreen: Label of a second kind that is heard but not in the picture; empty without one.
    """

    file: str
    label: str
    split: str
    flaw: Flaw
    seed: int
    sounding: str
    offscreen: str = ""


COLUMNS = ("file", "label", "split", "flaw", "seed", "sounding", "offscreen")


def plan_world(
    seed: int,
    videos_per_kind: Mapping[str, int],
    flawed_per_flaw: int,
    offscreen_share: float = 0.0,
    mismatched_share: float = 0.0,
) -> list[Video]:
    """List the videos of a world without rendering any.

    Args:
        seed: Seed of the world. With the same seed, larger `videos_per_kind` only add videos.
        videos_per_kind: Number of videos per kind in each split.
        flawed_per_flaw: Number of training videos with each flaw, in addition to `videos_per_kind`.
        offscreen_share: Probability that a flawless training or validation video also has a sound from off screen. In
            everything else, a noisy world equals the clean one of its seed.
        mismatched_share: Probability that a flawless training or validation video has the sound of another kind instead
            of its own.

    Raises:
        UsageError: When a share is outside 0 .. 1, or a split is unknown.
    """
    for share in (offscreen_share, mismatched_share):
        if not 0 <= share <= 1:
            raise UsageError(f"a share of {share} of the videos cannot be noisy; it lies in 0 .. 1")
    unknown = sorted(set(videos_per_kind) - set(SPLITS))
    if unknown:
        raise UsageError(f"the demo world has no split called {unknown[0]!r}; its splits are {', '.join(SPLITS)}")
    videos = []
    for split, purpose in SPLITS.items():
        for kind in KINDS:
            for number in range(videos_per_kind.get(split, 0)):
                name = f"media/{split}_{kind.label.replace(' ', '_')}_{number:03d}.mp4"
                clip_seed = derive_seed(purpose, seed, kind.label, number)
                noisy = split in NOISY_SPLITS
                if heard := draw_sounding(kind, clip_seed, mismatched_share if noisy else 0.0):
                    videos.append(Video(name, kind.label, split, Flaw.MISMATCHED, clip_seed, heard))
                    continue
                offscreen = draw_offscreen(kind, clip_seed, offscreen_share if noisy else 0.0)
                videos.append(Video(name, kind.label, split, Flaw.NONE, clip_seed, kind.label, offscreen))
    flaws = [flaw for flaw in Flaw if flaw]
    for index, flaw in enumerate(flaws):
        for number in range(flawed_per_flaw):
            turn = (index * flawed_per_flaw + number) % len(KINDS)
            kind, other = KINDS[turn], KINDS[(turn + 3) % len(KINDS)]
            sounding = other if flaw is Flaw.MISMATCHED else kind
            name = f"media/train_{kind.label.replace(' ', '_')}_{flaw}_{number:02d}.mp4"
            clip_seed = derive_seed(Purpose.TRAIN, seed, "flawed", flaw, number)
            videos.append(Video(name, kind.label, "train", flaw, clip_seed, sounding.label))
    return videos


def draw_offscreen(kind: Kind, seed: int, share: float) -> str:
    """Return the kind heard from off screen in a video of this seed; empty with probability 1 - `share`."""
    return _other_kind(kind, np.random.default_rng([seed, 3]), share)


def draw_sounding(kind: Kind, seed: int, share: float) -> str:
    """Return the kind heard in place of a video's own; empty with probability 1 - `share`."""
    return _other_kind(kind, np.random.default_rng([seed, 5]), share)


def _other_kind(kind: Kind, rng: np.random.Generator, share: float) -> str:
    if rng.random() >= share:
        return ""
    return str(rng.choice([other.label for other in KINDS if other is not kind]))


def render_world(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    videos_per_kind: Mapping[str, int] = FULL,
    flawed_per_flaw: int = 2,
    offscreen_share: float = 0.0,
    mismatched_share: float = 0.0,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Video]:
    """Render a world into `folder`: `media/*.mp4`, and `world.csv`, which is written last.

    Args:
        folder: Output folder, created if it is missing. Existing videos are rendered again.
        seed: Seed of the whole world.
        videos_per_kind: Number of videos per kind in each split (train, val, test).
        flawed_per_flaw: Number of training videos with each flaw, in addition to those.
        offscreen_share: Share of training and validation videos with a sound from off screen, see `plan_world`.
        mismatched_share: Share of training and validation videos with the sound of another kind, see `plan_world`.
        processes: Number of worker processes; None for one per processor that this process may use.
        progress: Function that is called with (videos done, videos in all) after each video.

    Returns:
        The rows of `world.csv`.
    """
    folder = Path(folder)
    (folder / "media").mkdir(parents=True, exist_ok=True)
    videos = plan_world(seed, videos_per_kind, flawed_per_flaw, offscreen_share, mismatched_share)
    processes = processes if processes is not None else available_cores()
    # spawn: a fork of a process that has threads (a server, a Dask client, torch) can deadlock.
    with ProcessPoolExecutor(max(1, processes), mp_context=get_context("spawn")) as pool:
        jobs = pool.map(_render_listed, videos, [str(folder)] * len(videos), chunksize=4)
        for done, _ in enumerate(jobs, start=1):
            if progress is not None:
                progress(done, len(videos))
    partial = folder / "world.csv.partial"
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([getattr(video, column) for column in COLUMNS] for video in videos)
    partial.replace(folder / "world.csv")
    return videos


def read_world(folder: str | os.PathLike[str]) -> list[Video]:
    """Read the rows of a rendered world's `world.csv`."""
    with (Path(folder) / "world.csv").open(newline="", encoding="utf-8") as file:
        return [
            Video(
                r["file"],
                r["label"],
                r["split"],
                Flaw(r["flaw"]),
                int(r["seed"]),
                r["sounding"],
                r.get("offscreen") or "",  # lists from before there were noisy worlds have no such column
            )
            for r in csv.DictReader(file)
        ]


def _render_listed(video: Video, folder: str) -> None:
    offscreen = kind_of(video.offscreen) if video.offscreen else None
    path, seen, heard = Path(folder) / video.file, kind_of(video.label), kind_of(video.sounding)
    render_video(path, seen, video.seed, video.flaw, heard, offscreen=offscreen)


def render_video(
    path: str | os.PathLike[str],
    kind: Kind,
    seed: int,
    flaw: Flaw = Flaw.NONE,
    sounding: Kind | None = None,
    *,
    offscreen: Kind | None = None,
    duration: float = DURATION,
) -> None:
    """Render one video that shows `kind` and, unless `sounding` is given, also sounds like it.

    Args:
        path: Path of the mp4 file; it appears there only when complete.
        kind: Kind that is seen.
        seed: Seed from `derive_seed`; the same seed gives the same pictures and the same samples.
        flaw: Deliberate flaw.
        sounding: Kind that is heard; None for `kind`.
        offscreen: Second kind that is heard; None for none.
        duration: Duration in seconds.
    """
    path = Path(path)
    seen = Instance(kind, seed, duration)
    heard = Instance(sounding or kind, seed, duration)
    sound = heard.sound()
    if offscreen is not None:
        sound = add_offscreen(sound, offscreen, seed, duration)
    if flaw is Flaw.SILENT:
        sound = np.zeros_like(sound)
    with tempfile.TemporaryDirectory(prefix="vidaudio-render-") as scratch:
        wav, mp4 = Path(scratch) / "sound.wav", Path(scratch) / "video.mp4"
        soundfile.write(wav, sound, sounds.SAMPLE_RATE, subtype="PCM_16")
        _encode(mp4, wav, _frames(seen, still=flaw is Flaw.STILL))
        data = mp4.read_bytes()
    if flaw is Flaw.TRUNCATED:
        data = data[: int(len(data) * 0.55)]
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def add_offscreen(sound: sounds.Waveform, kind: Kind, seed: int, duration: float) -> sounds.Waveform:
    """Mix a second thing's sound into a video's, at a level drawn from the seed; float32, within -1 .. 1."""
    other = Instance(kind, derive_seed(purpose_of(seed), seed, "offscreen"), duration).sound()
    level_db = np.random.default_rng([seed, 4]).uniform(*OFFSCREEN_DB)
    gain = 10 ** (level_db / 20) * np.sqrt(np.mean(sound**2) / np.mean(other**2))
    mixed = sound + np.float32(gain) * other
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def _frames(instance: Instance, *, still: bool) -> Iterator[bytes]:
    """Yield raw RGB frames at `FRAMES_PER_SECOND`; frame n shows the time n / FRAMES_PER_SECOND unless `still`."""
    scene = instance.scene()
    count = round(instance.duration * FRAMES_PER_SECOND)
    frozen = scene.at(instance.duration / 2).tobytes() if still else None
    for number in range(count):
        yield frozen if frozen is not None else scene.at(number / FRAMES_PER_SECOND).tobytes()


def _encode(mp4: Path, wav: Path, frames: Iterator[bytes]) -> None:
    """Mux raw frames and a wav file into an mp4 file with its index at the end, as FFmpeg does by default."""
    picture = ffmpeg.input(
        "pipe:",
        format="rawvideo",
        pix_fmt="rgb24",
        s=f"{WIDTH}x{HEIGHT}",
        framerate=FRAMES_PER_SECOND,
    )
    output = ffmpeg.output(
        picture,
        ffmpeg.input(str(wav)),
        str(mp4),
        vcodec="libx264",
        preset="ultrafast",
        crf=24,
        pix_fmt="yuv420p",
        acodec="aac",
        audio_bitrate="96k",
        # One thread and no version strings, so that the file depends on its input alone. The pool keeps the cores busy.
        threads=1,
        fflags="+bitexact",
        loglevel="error",
    ).global_args("-flags:v", "+bitexact", "-flags:a", "+bitexact")
    process = output.overwrite_output().run_async(cmd=ffmpeg_executable(), pipe_stdin=True, pipe_stderr=True)
    try:
        for frame in frames:
            process.stdin.write(frame)
        process.stdin.close()
    except BrokenPipeError:
        pass  # FFmpeg ended early; its message is raised below
    complaint = process.stderr.read().decode(errors="replace").strip()
    process.stderr.close()
    if process.wait() != 0:
        first_line = complaint.splitlines()[0] if complaint else "it said nothing"
        raise VidaudioError(f"FFmpeg ({ffmpeg_executable()}) could not render {mp4.name}: {first_line}")
