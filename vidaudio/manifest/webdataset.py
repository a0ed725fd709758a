"""Reader of WebDataset shards of videos: every video in the tars is one clip, the whole video.

Files of one sample have one name up to the first dot, and go together: a video, and what is said of it in `.json`
(`label`, `labels`, `caption`, `captions`), `.cls` (a label) and `.txt` (a caption). Nothing is unpacked: the URL of a
clip is the path of its tar followed by its name there, and a build copies the video out of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.ids import Name, assign_ids
from vidaudio.manifest.rows import BadRow, Listing, Parsed, Place, collect, parse_rows
from vidaudio.manifest.scan import has_video_ending, without_video_ending
from vidaudio.media.tar_files import TAR_ENDING, NotATar, TarMember, files_in_tar, read_from_tar
from vidaudio.paths import local_list
from vidaudio.text import escaped_name, is_utf8, number_of, shown_name, storable_text

MOST_BYTES_OF_TEXT = 1 << 20
LABELS, CAPTIONS = ("label", "labels"), ("caption", "captions")


@dataclass(frozen=True)
class _Video:
    """A video in a tar, and the files of its sample by what follows the first dot."""

    tar: Path
    name: str
    beside: Mapping[str, TarMember]

    @property
    def full_name(self) -> str:
        """The name with that of the tar and of the folder that the tar lies in."""
        return "/".join([*self.tar.parts[1:][-2:], self.name])

    @property
    def stem(self) -> str:
        """The name with that of the tar, both without endings."""
        return f"{self.tar.stem}/{without_video_ending(self.name)}"


def read_webdataset(
    *tars: str | Path, dataset: str | None = None, split: str | None = None, skip_bad_rows: bool = False
) -> Listing:
    """Read every video in WebDataset shards as a clip, in the order of the shards and of the files in them.

    The source of a clip is its name in the tar after the names of the tar and of the tar's folder, and the id comes
    from that, too (see `ids`): wherever the shards lie and however many are read at a time, a clip has the same id.

    Args:
        tars: Tars, or folders whose tars are read in the order of their names.
        dataset: Name of the data set; None means that of the first shard's folder.
        split: Split of every clip.
        skip_bad_rows: Whether samples that cannot be read are left out; otherwise they are refused.

    Raises:
        ManifestError: When a tar is missing, compressed or damaged, none holds a video, or a sample cannot be read.
    """
    paths = _tars(tars)
    videos = [video for path in paths for video in _videos(path)]
    if not videos:
        raise ManifestError(
            f"{number_of(len(paths), 'tar')} from {paths[0]} on hold no clip, as there is no video file in them"
        )
    ids = assign_ids([Name(video.full_name, video.stem) for video in videos])

    def parse(row: tuple[_Video, str]) -> Clip:
        video, clip_id = row
        if not is_utf8(f"{video.tar}/{video.name}"):
            raise ManifestError("the name is not UTF-8, and no table can hold it; rename the file")
        labels, captions = _labels_and_captions(video)
        return Clip(
            id=clip_id,
            source=f"webdataset:{escaped_name(video.full_name)}",
            dataset=storable_text(dataset or paths[0].parent.name or "webdataset"),
            url=f"{video.tar}/{video.name}",
            split=split,
            labels=labels,
            captions=captions,
        )

    rows: Iterator[Parsed[tuple[_Video, str]] | BadRow] = (
        Parsed(Place(video.tar / shown_name(video.name)), (video, clip_id))
        for video, clip_id in zip(videos, ids, strict=True)
    )
    return collect(parse_rows(rows, parse), skip_bad_rows=skip_bad_rows)


def _tars(given: tuple[str | Path, ...]) -> list[Path]:
    """Return the absolute paths of the tars that are given or lie in a given folder."""
    paths: list[Path] = []
    for path in (Path(os.path.abspath(local_list(each))) for each in given):
        if path.is_dir():
            found = sorted(each for each in path.iterdir() if each.suffix.lower() == TAR_ENDING and each.is_file())
            if not found:
                raise ManifestError(f"the folder {path} holds no tar")
            paths += found
        elif not path.is_file():
            raise ManifestError(f"there is no tar {path}")
        elif path.suffix.lower() != TAR_ENDING:
            # Its files are named by paths that lead into it, and those are known by the ending.
            raise ManifestError(f"{path} does not end in {TAR_ENDING}; shards are plain tars, uncompressed")
        else:
            paths.append(path)
    return list(dict.fromkeys(paths))


def _videos(path: Path) -> Iterator[_Video]:
    try:
        files = files_in_tar(path)
    except (NotATar, OSError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    samples: dict[str, dict[str, TarMember]] = {}
    for name, file in files.items():
        key, extension = _key(name)
        samples.setdefault(key, {})[extension.lower()] = file
    for name in files:
        last = PurePosixPath(name).name
        if has_video_ending(name) and not last.startswith("."):
            yield _Video(path, name, samples[_key(name)[0]])


def _key(name: str) -> tuple[str, str]:
    """Return the key of a file's sample and the file's extension, as WebDataset divides a name."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return folder + slash + stem, extension


def _labels_and_captions(video: _Video) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return labels and captions of a video from the files beside it."""
    values: dict[str, Any] = {}
    if text := _text(video, "json"):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"its .json is not valid ({error})") from error
        if not isinstance(values, dict):
            raise ManifestError("its .json is no object of names and values")
    labels = [*_texts(values, LABELS), *filter(None, [_text(video, "cls")])]
    captions = [*_texts(values, CAPTIONS), *filter(None, [_text(video, "txt")])]
    return tuple(dict.fromkeys(labels)), tuple(dict.fromkeys(captions))


def _text(video: _Video, extension: str) -> str:
    """Return the text of the file of an extension beside a video; empty without one."""
    file = video.beside.get(extension)
    if file is None:
        return ""
    try:
        return read_from_tar(video.tar, file, MOST_BYTES_OF_TEXT).decode("utf-8-sig").strip()
    except (ValueError, OSError) as error:
        raise ManifestError(f"its .{extension} cannot be read ({error})") from error


def _texts(values: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    """Yield the texts of some fields; a whole number, as of a class, is a text, too."""
    for name in names:
        value = values.get(name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str | int) and not isinstance(each, bool):
                yield from filter(None, [str(each).strip()])
            elif each is not None:
                raise ManifestError(f"{name} of its .json is neither a text, a number of a class, nor a list of them")
