"""Renders the demo world to video files: H.264 pictures and AAC sound in mp4, as a camera would leave them.

A few training videos are flawed on purpose, in the ways videos of the web are: no sound in the track, a frozen picture,
picture and sound of different things, a file cut off half-way. In a noisy world, a share of the training and validation
videos also holds the sound of a thing that is not in the picture; test videos stay clean. `world.csv` says which.
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
from vidaudio.errors import VidaudioError
from vidaudio.media.ffmpeg import ffmpeg_executable

FRAMES_PER_SECOND = 10

SPLITS: Mapping[str, Purpose] = MappingProxyType({"train": Purpose.TRAIN, "val": Purpose.VAL, "test": Purpose.TEST})

FULL: Mapping[str, int] = MappingProxyType({"train": 36, "val": 4, "test": 8})
"""Videos a kind for a demo that trains."""

SMALL: Mapping[str, int] = MappingProxyType({"train": 5, "val": 1, "test": 2})
"""Videos a kind for a check that the parts fit together."""

OFFSCREEN_SHARE = 0.5
"""Of the training and validation videos of a noisy world."""

OFFSCREEN_SPLITS = ("train", "val")

OFFSCREEN_DB = (-6.0, 0.0)
"""How loud a sound from off screen is, against the sound of what is seen."""


class Flaw(StrEnum):
    """What is wrong with a video on purpose."""

    NONE = ""
    SILENT = "silent"
    STILL = "still"
    MISMATCHED = "mismatched"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Video:
    """One video of the world.

    Attributes:
        file: Path under the world's folder.
        label: What the video is listed as; a mismatched one shows it but sounds like `sounding`.
        split: train, val or test.
        flaw: What is wrong with it, if anything.
        seed: What its picture and its sound are drawn from.
        sounding: Label of what is heard.
        offscreen: Label of what is heard beside it without being in the picture; empty where nothing is.
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
    seed: int, videos_per_kind: Mapping[str, int], flawed_per_flaw: int, offscreen_share: float = 0.0
) -> list[Video]:
    """List the videos of a world, without rendering any.

    Args:
        seed: Two worlds of one seed are the same, whatever their size: a larger one only has more videos.
        videos_per_kind: Videos of every kind in each split.
        flawed_per_flaw: How many training videos have each of the flaws, beside `videos_per_kind`.
        offscreen_share: Of the flawless training and validation videos, those with a sound from off screen, too; a
            noisy world is the clean one of its seed in everything else.
    """
    if not 0 <= offscreen_share <= 1:
        raise VidaudioError(f"a share of {offscreen_share} of the videos cannot be noisy; it lies in 0 .. 1")
    unknown = sorted(set(videos_per_kind) - set(SPLITS))
    if unknown:
        raise VidaudioError(f"the demo world has no split called {unknown[0]!r}; its splits are {', '.join(SPLITS)}")
    videos = []
    for split, purpose in SPLITS.items():
        for kind in KINDS:
            for number in range(videos_per_kind.get(split, 0)):
                name = f"media/{split}_{kind.label.replace(' ', '_')}_{number:03d}.mp4"
                clip_seed = derive_seed(purpose, seed, kind.label, number)
                share = offscreen_share if split in OFFSCREEN_SPLITS else 0.0
                offscreen = draw_offscreen(kind, clip_seed, share)
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
    """Label of the other kind that is heard from off screen in a video of this seed, or empty: so it is in `share`."""
    rng = np.random.default_rng([seed, 3])
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
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Video]:
    """Render a world into `folder`: `media/*.mp4`, and `world.csv`, written last.

    Args:
        folder: Created where missing. Videos rendered there before are written anew.
        seed: What the whole world is drawn from.
        videos_per_kind: Videos of every kind in each split (train, val, test).
        flawed_per_flaw: Training videos with each of the flaws, beside those.
        offscreen_share: Of the training and validation videos, those with a sound from off screen, see `plan_world`.
        processes: Worker processes; by default one for each processor this process may use.
        progress: Called with (videos done, videos in all) after each.

    Returns:
        The rows of `world.csv`.
    """
    folder = Path(folder)
    (folder / "media").mkdir(parents=True, exist_ok=True)
    videos = plan_world(seed, videos_per_kind, flawed_per_flaw, offscreen_share)
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
    """The rows of a rendered world's `world.csv`."""
    with (Path(folder) / "world.csv").open(newline="", encoding="utf-8") as file:
        return [
            Video(
                r["file"],
                r["label"],
                r["split"],
                Flaw(r["flaw"]),
                int(r["seed"]),
                r["sounding"],
                r.get("offscreen") or "",  # lists of before there were noisy worlds lack the column
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
    """Render one video: `kind` in the picture and, unless `sounding` says otherwise, in the sound.

    Args:
        path: The mp4 to write; appears under its name only when complete.
        kind: What is seen.
        seed: From `derive_seed`; the same seed gives the same pictures and the same samples.
        flaw: What to spoil.
        sounding: What is heard; `kind` by default.
        offscreen: What is heard beside it.
        duration: Seconds.
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
    """A video's sound with that of another thing, at a level drawn from the video's seed; float32, within -1 .. 1."""
    other = Instance(kind, derive_seed(purpose_of(seed), seed, "offscreen"), duration).sound()
    level_db = np.random.default_rng([seed, 4]).uniform(*OFFSCREEN_DB)
    gain = 10 ** (level_db / 20) * np.sqrt(np.mean(sound**2) / np.mean(other**2))
    mixed = sound + np.float32(gain) * other
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def _frames(instance: Instance, *, still: bool) -> Iterator[bytes]:
    """Raw RGB frames at `FRAMES_PER_SECOND`; frame n shows the time n / FRAMES_PER_SECOND."""
    scene = instance.scene()
    count = round(instance.duration * FRAMES_PER_SECOND)
    frozen = scene.at(instance.duration / 2).tobytes() if still else None
    for number in range(count):
        yield frozen if frozen is not None else scene.at(number / FRAMES_PER_SECOND).tobytes()


def _encode(mp4: Path, wav: Path, frames: Iterator[bytes]) -> None:
    """Mux raw frames and a wav into an mp4 whose index stands at the end, as FFmpeg writes it unless asked."""
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
        # One thread and no version strings: the file is then a function of its input; the pool keeps the cores busy.
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
        pass  # FFmpeg gave up early; what it said about it is raised below
    complaint = process.stderr.read().decode(errors="replace").strip()
    process.stderr.close()
    if process.wait() != 0:
        first_line = complaint.splitlines()[0] if complaint else "it said nothing"
        raise VidaudioError(f"FFmpeg ({ffmpeg_executable()}) could not render {mp4.name}: {first_line}")
