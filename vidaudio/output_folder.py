"""Folders for results: made before the work, so that a bad name is found early, and never left behind empty."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder and its parents; where the work inside fails, remove those that were made and are still empty.

    Raises:
        OSError: It cannot be made.
    """
    path = Path(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield path
    except BaseException:
        for folder in made:
            # Not empty, or never made: it holds results, or is somebody else's.
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
