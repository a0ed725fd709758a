"""Join of a list with files that exist already, as cuts or whole videos.

Since the sites block bulk download, this is how most people will start: a list from its authors, media from a
colleague, a mirror or an earlier project. File names are looked up, never parsed: every clip has a few possible file
names, in order of preference, and the folder is read once. So the work is O(files + rows).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.scan import (
    VIDEO_EXTENSIONS,
    check_folder_name,
    has_video_ending,
    scan_folder,
    without_video_ending,
)
from vidaudio.manifest.template import media_name
from vidaudio.paths import local_folder
from vidaudio.text import is_utf8


@dataclass(frozen=True, slots=True)
class MediaJoin:
    """The result of joining a list with a folder.

    Attributes:
        clips: Clips in the list's order; those with a file have its path as URL.
        matched: Clip id and file of every clip that has a file; files are relative to the folder.
        cuts: Number of those files that are cuts; the others are whole videos.
        missing: Ids of the clips without a file.
        copies: Files of listed clips that were not used, because another file was preferred.
        unlisted: Files whose names match no clip of the list, and leftovers of unfinished downloads.
        unreadable: Files whose names are not UTF-8 and fit in no table; no clip gets such a file.
    """

    clips: tuple[Clip, ...]
    matched: tuple[tuple[str, str], ...]
    cuts: int
    missing: tuple[str, ...]
    copies: tuple[str, ...]
    unlisted: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


def join_media(clips: Iterable[Clip], folder: str | Path, *, keep_missing: bool = False) -> MediaJoin:
    """Find each clip's file anywhere below a folder.

    A clip's file may be named, in order of preference (any video ending, `{id}` is the video's id):

    1. for its cut: `{clip id}`, `{id}_{start:06d}`, `{id}_{start_ms}_{end_ms}`; its time 0 is the clip's start; 2. the
    same with more text after a dot (`{id}_{start:06d}.h264_25fps.mp4`); 3. for the whole video: `{id}`; its time 0 is
    the video's; 4. the same with more text after a dot.

    A clip that is a whole video looks for 3 and 4 first. Among files of one name the ending decides
    (`VIDEO_EXTENSIONS`), then the shorter path, then alphabetical order.

    Args:
        clips: Clips of a list.
        folder: Folder that is searched once, at all levels.
        keep_missing: Whether clips without a file are kept, with the URL they had.

    Raises:
        ManifestError: When the folder cannot be read, its name is not UTF-8, or no clip has a file there.
    """
    root = local_folder(folder).absolute()
    check_folder_name(root)
    scan = scan_folder(root)
    files = [path for path in scan.videos if is_utf8(path)]
    unfinished = [path for path in scan.leftovers if has_video_ending(path)]
    index = _Index(files)
    joined: list[Clip] = []
    matched: list[tuple[str, str]] = []
    missing: list[str] = []
    related: set[str] = set()
    cuts = total = 0
    for clip in clips:
        total += 1
        candidates = list(index.files_of(clip))
        related.update(path for path, _ in candidates)
        if not candidates:
            missing.append(clip.id)
            if keep_missing:
                joined.append(clip)
            continue
        path, is_cut = candidates[0]
        cuts += is_cut
        matched.append((clip.id, path))
        start = clip.start_seconds if is_cut else 0.0
        joined.append(replace(clip, url=str(root / path), media_start_seconds=start))
    if not matched:
        raise ManifestError(_nothing_found(root, files, total))
    used = {path for _, path in matched}
    return MediaJoin(
        clips=tuple(joined),
        matched=tuple(matched),
        cuts=cuts,
        missing=tuple(missing),
        copies=tuple(path for path in files if path in related and path not in used),
        unlisted=tuple(sorted([*(path for path in files if path not in related), *unfinished])),
        unreadable=tuple(path for path in scan.videos if not is_utf8(path)),
    )


def write_join_report(join: MediaJoin, path: str | Path) -> None:
    """Write the names behind the counts as csv: `status,clip,file`.

    The status is one of matched, missing, copy, unlisted, unreadable.

    Raises:
        ManifestError: When the file cannot be written.
    """
    rows = [("matched", clip, file) for clip, file in join.matched]
    rows += [("missing", clip, "") for clip in join.missing]
    rows += [("copy", "", file) for file in join.copies]
    rows += [("unlisted", "", file) for file in join.unlisted]
    rows += [("unreadable", "", file) for file in join.unreadable]
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("status", "clip", "file"))
            writer.writerows(rows)
    except OSError as error:
        raise ManifestError(f"the report {path} cannot be written: {error.strerror}") from error


class _Index:
    """Files by the names that clips may look for."""

    def __init__(self, files: Iterable[str]) -> None:
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._longer: dict[str, list[str]] = defaultdict(list)
        for path in sorted(files, key=_preference):
            stem = without_video_ending(PurePosixPath(path).name)
            self._exact[stem].append(path)
            base, dot, _ = stem.partition(".")
            if dot:
                self._longer[base].append(path)

    def files_of(self, clip: Clip) -> Iterator[tuple[str, bool]]:
        """Yield each file of a clip and whether the file is a cut, the preferred file first."""
        video = media_name(clip)
        whole = [video]
        cut = [name for name in _cut_names(clip, video) if name != video or clip.site in {"file", "web"}]
        groups = [(cut, True), (whole, False)]
        if clip.start_seconds == 0 and clip.end_seconds is None:
            groups.reverse()
        seen: set[str] = set()
        for names, is_cut in groups:
            for table in (self._exact, self._longer):
                for name in names:
                    for path in table.get(name, ()):
                        if path not in seen:
                            seen.add(path)
                            yield path, is_cut


def _cut_names(clip: Clip, video: str) -> list[str]:
    names = [clip.id]
    if round(clip.start_seconds, 3).is_integer():
        names.append(f"{video}_{round(clip.start_seconds):06d}")
    if clip.end_seconds is not None:
        names.append(f"{video}_{round(clip.start_seconds * 1000)}_{round(clip.end_seconds * 1000)}")
    return list(dict.fromkeys(names))


def _preference(path: str) -> tuple[int, int, str]:
    return VIDEO_EXTENSIONS.index(PurePosixPath(path).suffix.lower()), len(path), path


def _nothing_found(root: Path, files: list[str], clips: int) -> str:
    if not files:
        return f"there is no video file below {root}"
    return (
        f"none of the {clips:,} clips has a file among the {len(files):,} below {root} (the first is {files[0]}); "
        "files are found by the names {id}_{start:06d}, {id}_{start_ms}_{end_ms} or {id} with any video ending"
    )
