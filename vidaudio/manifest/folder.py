"""Reader of a folder of videos: every file is one clip, the whole video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.ids import Name, assign_ids
from vidaudio.manifest.rows import Listing, Parsed, Place, collect, parse_rows
from vidaudio.manifest.scan import FolderScan, check_folder_name, scan_folder, without_video_ending
from vidaudio.paths import local_folder
from vidaudio.text import escaped_name, is_utf8, number_of, shown_name, storable_text

SHOWN_NAMES = 3


def read_folder(
    folder: str | Path,
    *,
    label_from: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    skip_bad_rows: bool = False,
) -> Listing:
    """Read every video file below a folder as a clip, in the order of their paths.

    The id comes from the path below the folder (see `ids`): `0001.mp4` becomes `0001`, `dog/0001.mp4` becomes
    `dog_0001-` and a hash. The source is that path too, so the same folder gives the same ids and splits wherever it
    is. Control characters and line ends in the source are percent-encoded. Hidden files and leftovers of unfinished
    downloads are left out, and a note states their number.

    Args:
        folder: Folder that is searched at all levels.
        label_from: `parent` makes the name of a file's folder its label; files at the top have none. None gives no
            labels.
        dataset: Name of the data set; None means the folder's name.
        split: Split of every clip.
        skip_bad_rows: Whether files whose names are not UTF-8 are left out; otherwise the folder is refused.

    Raises:
        ManifestError: When the folder is missing or holds no video, `label_from` is unknown, or a file name is not
            UTF-8.
    """
    if label_from not in (None, "parent"):
        raise ManifestError(f"there is no way to take labels from {label_from!r}; the one way is parent")
    root = Path(os.path.abspath(local_folder(folder)))
    check_folder_name(root)
    scan = scan_folder(root)
    names = [Name(full=path, stem=without_video_ending(path)) for path in scan.videos]
    ids = dict(zip((name.full for name in names), assign_ids(names), strict=True))

    def parse(path: str) -> Clip:
        if not is_utf8(path):
            raise ManifestError("the name is not UTF-8, and no table can hold it; rename the file")
        parent = PurePosixPath(path).parent.name
        return Clip(
            id=ids[path],
            source=f"file:{escaped_name(path)}",
            dataset=storable_text(dataset or root.name),
            url=str(root / path),
            split=split,
            labels=(parent,) if label_from == "parent" and parent else (),
        )

    left_out = tuple(_left_out(scan))
    if not names:
        found = f": {'; '.join(left_out)}" if left_out else ""
        raise ManifestError(f"the folder {root} holds no clip, as there is no video file in it{found}")
    rows = (Parsed(Place(root / shown_name(path)), path) for path in ids)
    return collect(parse_rows(rows, parse), skip_bad_rows=skip_bad_rows, notes=left_out)


def _left_out(scan: FolderScan) -> Iterator[str]:
    """Yield a sentence for each kind of file that does not count as a video."""
    kinds = {
        "left over from unfinished downloads": scan.leftovers,
        "hidden": scan.hidden,
    }
    for kind, files in kinds.items():
        if files:
            names = ", ".join(map(shown_name, files[:SHOWN_NAMES])) + (" ..." if len(files) > SHOWN_NAMES else "")
            yield f"{number_of(len(files), 'file was', 'files were')} left out as {kind}: {names}"
