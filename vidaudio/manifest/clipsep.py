"""Reader of CLIPSep's index lists: `audio path, frame folder, number of frames, label`, without a header.

They are evaluation lists. They name videos and labels, not cuts, and have two layouts, recognised by the folders in the
path:

- `.../<instrument>/<id>.wav` (MUSIC): whole videos. They are read as the `music` reader reads them, so that ids agree.
- `.../<first character>/<second character>/<id>.wav` (VGGSound): 10-s cuts *whose start the list does not state*. The
  start is looked up in another list (`starts_from`). If that list does not determine it, the row is kept as an
  evaluation row by source: id and source name the video, and the cut is open (0 s to the end). Such a row serves to
  choose clips by `source`, or for files that are named by the video's id alone, as CLIPSep's own are. Built from its
  URL, it would be the whole video.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.fields import split_from_name
from vidaudio.manifest.rows import BadRow, Listing, Parsed, collect, parse_rows
from vidaudio.manifest.schema import clips_from_table
from vidaudio.manifest.store import read_manifest
from vidaudio.manifest.text import csv_rows
from vidaudio.manifest.vggsound import read_vggsound
from vidaudio.manifest.youtube import check_video_id, watch_url, youtube_clip


def read_clipsep(
    *paths: str | Path,
    starts_from: str | Path | Iterable[Clip] | None = None,
    split: str | None = None,
    skip_bad_rows: bool = False,
) -> Listing:
    """Read CLIPSep index lists, one after the other.

    Args:
        paths: `val.csv`, `test.csv`, `test-good.csv` ...; the split is taken from the name.
        starts_from: Where the cuts of VGGSound rows are looked up by video id: VGGSound's csv, a manifest, or clips;
            None looks nothing up. A clip found there gives id, cut and URL, and also its label if that differs only in
            commas (CLIPSep's lists have lost them). If a video has several cuts there, the label must determine the
            cut.
        split: Split of every row; None takes the split from the file name.
        skip_bad_rows: Whether malformed rows are left out; otherwise the list is refused.

    Raises:
        ManifestError: As `collect`; or when a list is missing.
    """
    known = _Cuts(_starts(starts_from)) if starts_from is not None else None
    found: Counter[str] = Counter()
    rows: list[Parsed[Clip] | BadRow] = []
    for path in map(Path, paths):
        rows.extend(parse_rows(csv_rows(path), _parser(split or split_from_name(path), known, found)))
    return collect(rows, skip_bad_rows=skip_bad_rows, notes=_notes(found, known))


class _Cuts:
    """Known cuts of YouTube videos, by video id."""

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._by_video: dict[str, list[Clip]] = defaultdict(list)
        for clip in clips:
            if clip.site == "youtube":
                self._by_video[clip.video_id].append(clip)

    def find(self, video_id: str, label: str) -> tuple[Clip | None, str]:
        """Return the clip or None, and `found`, `several` or `absent`."""
        clips = self._by_video.get(video_id, [])
        if len(clips) > 1:
            clips = [clip for clip in clips if label in map(_without_commas, clip.labels)] or clips
        if len(clips) == 1:
            return clips[0], "found"
        return None, "several" if clips else "absent"


@dataclass(frozen=True, slots=True)
class _Row:
    """One index row; `cut` is True for a cut of unknown start, and False for the whole video."""

    video_id: str
    label: str
    cut: bool


def _parser(split: str | None, known: _Cuts | None, found: Counter[str]) -> Callable[[list[str]], Clip]:
    def parse(fields: list[str]) -> Clip:
        row = _row(fields)
        if not row.cut:
            return youtube_clip(row.video_id, dataset="clipsep", split=split, labels=(row.label,))
        clip, how = known.find(row.video_id, row.label) if known else (None, "absent")
        found[how] += 1
        if clip is None:
            return Clip(
                id=row.video_id,
                source=f"youtube:{row.video_id}",
                dataset="clipsep",
                url=watch_url(row.video_id),
                split=split,
                labels=(row.label,),
            )
        labels = tuple(label for label in clip.labels if _without_commas(label) == row.label) or (row.label,)
        return replace(clip, dataset="clipsep", split=split, labels=labels, shard=None)

    return parse


def _row(fields: list[str]) -> _Row:
    if len(fields) not in (3, 4):
        raise ManifestError(f"it has {len(fields)} columns; CLIPSep's lists have 4 (audio, frames, number, label)")
    path = PurePosixPath(fields[0].replace("\\", "/"))
    video_id = check_video_id(path.stem)
    cut = path.parts[-3:-1] == (video_id[0], video_id[1])
    label = fields[3] if len(fields) == 4 else ""
    if not label and not cut:
        label = path.parent.name  # MUSIC's train list has lost its fourth column; the folder is the instrument
    if not label:
        raise ManifestError("it has no label")
    return _Row(video_id, label if cut else label.replace("_", " "), cut)


def _without_commas(label: str) -> str:
    return label.replace(", ", " ")


def _starts(starts_from: str | Path | Iterable[Clip]) -> Iterable[Clip]:
    if not isinstance(starts_from, str | Path):
        return starts_from
    if Path(starts_from).suffix == ".parquet":
        return clips_from_table(read_manifest(starts_from))
    return read_vggsound(starts_from).clips


def _notes(found: Counter[str], known: _Cuts | None) -> tuple[str, ...]:
    total = found.total()
    if total == found["found"]:
        return (f"the cuts of all {total:,} VGGSound rows were found",) if total else ()
    if known is None:
        return (
            f"{total:,} rows name a video without saying where it is cut: they are kept by source, with the video's id "
            "and an open cut; --starts-from vggsound.csv looks the cuts up",
        )
    return (
        f"the cuts of {found['found']:,} of {total:,} VGGSound rows were found; {found['several']:,} videos have "
        f"several cuts there that the label does not tell apart, {found['absent']:,} are not there: these are kept by "
        "source, with the video's id and an open cut",
    )
