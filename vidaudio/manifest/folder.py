"""A folder of videos: every file one clip, whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.ids import Name, assign_ids
from vidaudio.manifest.rows import BadRow, Listing, Parsed, Place, collect, parse_rows
from vidaudio.manifest.scan import scan_videos, without_video_ending
from vidaudio.places import local_folder


def read_folder(
    folder: str | Path,
    *,
    label_from: Literal["parent"] | None = None,
    dataset: str | None = None,
    split: str | None = None,
    skip_bad_rows: bool = False,
) -> Listing:
    """Every video file below a folder, in the order of their paths.

    The id comes from the path below the folder (see `ids`): `0001.mp4` is `0001`, `dog/0001.mp4` is `dog_0001-` and a
    hash. The source is that path, so the same folder gives the same ids and splits wherever it lies.

    Args:
        folder: Searched through all levels.
        label_from: `parent`: the name of the folder that a file lies in is its label; files at the top have none.
        dataset: By default the folder's name.
        split: The split of every clip.
        skip_bad_rows: Leave files out whose names are not UTF-8 instead of refusing the folder.

    Raises:
        ManifestError: No such folder, no such way to take labels, no video in it, or a file name that is not UTF-8.
    """
    if label_from not in (None, "parent"):
        raise ManifestError(f"there is no way to take labels from {label_from!r}; the one way is parent")
    root = local_folder(folder).absolute()
    names = [Name(full=path, stem=without_video_ending(path)) for path in scan_videos(root)]
    ids = dict(zip((name.full for name in names), assign_ids(names), strict=True))

    def parse(path: str) -> Clip:
        parent = PurePosixPath(path).parent.name
        return Clip(
            id=ids[path],
            source=f"file:{path}",
            dataset=dataset or root.name,
            url=str(root / path),
            split=split,
            labels=(parent,) if label_from == "parent" and parent else (),
        )

    return collect(parse_rows(_rows(root, ids), parse), skip_bad_rows=skip_bad_rows)


def _rows(root: Path, paths: dict[str, str]) -> Iterator[Parsed[str] | BadRow]:
    for path in paths:
        # A name that is not UTF-8 must not break the message that complains about it.
        shown = path.encode("utf-8", "backslashreplace").decode()
        yield Parsed(Place(root / shown), path)
