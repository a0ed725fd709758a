"""Clips to measure on: those of a folder, or rendered ones where none is named."""

from __future__ import annotations

from pathlib import Path

import av

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov")
RENDERED = Path(__file__).resolve().parent / "media"


def clips(folder: Path | None, limit: int, *, least_seconds: float = 0.0) -> list[Path]:
    """At most `limit` files with picture and sound, at least so long, spread over the folder's names.

    Pictures that are higher than wide are left out, since not every contestant can crop them.

    Raises:
        SystemExit: There are none.
    """
    if folder is None:
        from vidaudio.demo.render import render_world

        if not (RENDERED / "world.csv").is_file():
            render_world(RENDERED, videos_per_kind={"train": 4}, flawed_per_flaw=0)
        folder = RENDERED / "media"
    elif not folder.is_dir():
        raise SystemExit(f"there is no folder {folder}; name one that holds videos")
    named = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    usable = [path for path in named if _seconds(path) >= least_seconds]
    if not usable:
        raise SystemExit(f"no video of at least {least_seconds:g} s with picture and sound in {folder}")
    return [usable[number * len(usable) // min(limit, len(usable))] for number in range(min(limit, len(usable)))]


def _seconds(path: Path) -> float:
    """Length of a file with sound and a wide picture, seconds; below 0 for others."""
    try:
        with av.open(str(path)) as container:
            both = container.streams.video and container.streams.audio
            if not both or container.streams.video[0].width < container.streams.video[0].height:
                return -1.0
            return (container.duration or 0) / av.time_base
    except (av.FFmpegError, ValueError, OSError):
        return -1.0
