"""`export`: clips of a corpus as loose files, for tools that read nothing else: wav, jpg and one csv.

Files are named by clip ids, which are safe names; what a site called a video goes nowhere near a path. Every file
appears complete, `clips.csv` last of all, so the same command again goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import soundfile
from tqdm import tqdm

from vidaudio.errors import CorpusError
from vidaudio.pipeline.corpus import Corpus, open_corpus
from vidaudio.pipeline.pack_plan import PACK_FILE
from vidaudio.pipeline.pack_select import CLIP_FACTS, selected
from vidaudio.pipeline.superseded import superseded
from vidaudio.shards.commit import committed_shards, read_table, table_name
from vidaudio.shards.read import TarReader
from vidaudio.wording import number_of

TABLE_FILE = "clips.csv"
MARK_FILE = ".vidaudio-export.json"
UNFINISHED = ".unfinished"
SHOWN = 5
COLUMNS = ("id", "source", "dataset", "split", "labels", "captions", "start_seconds", "end_seconds", "audio")
COLUMNS += ("sample_rate", "samples", "audio_start_seconds", "frames", "frame_seconds")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did.

    Attributes:
        folder: Where the files are.
        clips: In `clips.csv`.
        files: Sounds and pictures, those of earlier runs included.
        written: Of these, now.
        unknown: Ids that were asked for and are not among the usable clips.
    """

    folder: str
    clips: int
    files: int
    written: int
    unknown: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for `--json`."""
        return asdict(self) | {"unknown": list(self.unknown)}

    def __str__(self) -> str:
        text = (
            f"{self.folder}: {number_of(self.clips, 'clip')}, {number_of(self.files, 'file')}, "
            f"{self.written:,} of them written now"
        )
        if not self.unknown:
            return text
        entries = number_of(len(self.unknown), "entry names", "entries name")
        return f"{text}\n  {entries} no usable clip: {_first_of(self.unknown)}"


def export(
    corpus: str,
    folder: str | Path,
    *,
    pack: str | None = None,
    ids: Collection[str] | None = None,
    where: str | None = None,
    progress: bool = True,
) -> Exported:
    """Write clips of a corpus as loose files.

    Args:
        corpus: Folder or fsspec URL.
        folder: A local folder: new, empty, or of the same export, which is gone on with.
        pack: Only clips of this pack, with the splits they have there.
        ids: Only these clips, by id or by source.
        where: Only clips for which this holds, as for `pack --where`.
        progress: Show a progress bar.

    Raises:
        CorpusError: No such corpus or pack, no clips, a folder that holds something else, a full disk.
        RecipeError: `where` is no selection.
    """
    opened = open_corpus(corpus)
    out = Path(folder)
    splits = None if pack is None else _pack_splits(opened, pack)
    wanted = None if ids is None else frozenset(ids)
    chosen = {"corpus": opened.plan_hash, "pack": pack, "ids": None if ids is None else sorted(ids), "where": where}
    with _disk_errors(out):
        total = opened.clips if splits is None else len(splits)
        met: set[str] = set()
        shards = _chosen_rows(opened, splits, wanted, where, met)
        # A selection that is none, or chooses nothing, must leave no folder behind that is said to be of it.
        first = next((chosen_rows for chosen_rows in shards if not chosen_rows[1].empty), None)
        if first is None:
            raise CorpusError(f"nothing to export from {corpus}: {_nothing_chosen(wanted, met)}")
        _claim(out, chosen)
        with (
            tqdm(total=total, desc="exporting", unit="clip", disable=not progress, dynamic_ncols=True) as bar,
            _replaced(out / TABLE_FILE) as temporary,
        ):
            clips = files = written = 0
            with temporary.open("w", newline="", encoding="utf-8") as sink:
                table = csv.DictWriter(sink, COLUMNS)
                table.writeheader()
                for shard, rows in itertools.chain([first], shards):
                    for row, new in _export_shard(opened, shard, rows, out, splits):
                        table.writerow(row)
                        clips, written = clips + 1, written + new
                        files += 1 + len(json.loads(row["frames"]))
                        bar.update()
    return Exported(str(out), clips, files, written, tuple(sorted((wanted or frozenset()) - met)))


def _nothing_chosen(wanted: Collection[str] | None, met: Collection[str]) -> str:
    """Why no clip was chosen, as far as the entries that were asked for say."""
    unknown = sorted(set(wanted or ()) - set(met))
    if not unknown:
        return "no usable clip is chosen"
    return f"no usable clip goes by {_first_of(unknown)} (a clip id, or a source site:video, is wanted)"


def _first_of(entries: Sequence[str]) -> str:
    return ", ".join(entries[:SHOWN]) + (" ..." if len(entries) > SHOWN else "")


def _pack_splits(corpus: Corpus, name: str) -> dict[str, str]:
    """The split of every clip in a pack."""
    folder = f"training/{name}"
    if "/" in name or not corpus.store.exists(f"{folder}/{PACK_FILE}"):
        names = ", ".join(corpus.store.folders("training")) or "none"
        raise CorpusError(f"{corpus.url} has no pack {name!r}; its packs are: {names}")
    splits: dict[str, str] = {}
    for shard in json.loads(corpus.store.read(f"{folder}/{PACK_FILE}"))["shards"]:
        table, _ = read_table(corpus.store, f"{folder}/{shard}.parquet")
        splits.update(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))
    return splits


def _chosen_rows(
    corpus: Corpus,
    splits: Mapping[str, str] | None,
    wanted: Collection[str] | None,
    where: str | None,
    met: set[str],
) -> Iterator[tuple[int, pd.DataFrame]]:
    """By shard, the chosen clips: columns of the list and of av. Adds to `met` what of `wanted` there is."""
    older = superseded(corpus)
    for shard in sorted(committed_shards(corpus.store, "av")):
        av, _ = read_table(corpus.store, table_name("av", shard))
        # Before pandas sees it: rows without facts would make floats of the offsets.
        speaks = pa.array(older.speaks(shard, av["id"].to_pylist()), pa.bool_())
        done = av.filter(pc.and_(pc.equal(av["state"], "done"), speaks))
        facts = done.select([*(c for c in CLIP_FACTS if c != "state"), "frame_offsets", "frame_lengths"]).to_pandas()
        rows = corpus.table(shard).to_pandas().merge(facts, on="id", how="inner", validate="one_to_one")
        if wanted is not None:
            rows = rows[rows["id"].isin(wanted) | rows["source"].isin(wanted)]
            met.update(rows["id"], rows["source"])
        if splits is not None:
            rows = rows[rows["id"].isin(splits)]
        yield shard, selected(rows, where, named="--where")


def _export_shard(
    corpus: Corpus, shard: int, rows: pd.DataFrame, out: Path, splits: Mapping[str, str] | None
) -> Iterator[tuple[dict[str, Any], int]]:
    """Write one shard's clips; each one's line of the table and how many files were new."""
    if rows.empty:
        return
    _, record = read_table(corpus.store, table_name("av", shard))
    folder = f"{shard:06d}"
    (out / folder).mkdir(exist_ok=True)
    with TarReader(corpus.store, f"av/{record.tar}", whole=False) as tar:
        for clip in rows.itertuples():
            audio = f"{folder}/{clip.id}.wav"
            new = 0
            if not (out / audio).exists():
                with _replaced(out / audio) as temporary:
                    sound = io.BytesIO(tar.read(int(clip.audio_offset), int(clip.audio_length)))
                    values, rate = soundfile.read(sound, dtype="int16")
                    soundfile.write(temporary, values, rate, format="WAV", subtype="PCM_16")
                new += 1
            frames = []
            for number, span in enumerate(zip(clip.frame_offsets, clip.frame_lengths, strict=True)):
                frames.append(f"{folder}/{clip.id}.{number:03d}.jpg")
                if not (out / frames[-1]).exists():
                    with _replaced(out / frames[-1]) as temporary:
                        temporary.write_bytes(tar.read(*map(int, span)))
                    new += 1
            split = clip.split if splits is None else splits[clip.id]
            yield _line(corpus, clip, split, audio, frames), new


def _line(corpus: Corpus, clip: Any, split: Any, audio: str, frames: list[str]) -> dict[str, Any]:
    return {
        "id": clip.id,
        "source": clip.source,
        "dataset": clip.dataset,
        "split": "" if pd.isna(split) else split,
        "labels": _texts(clip.labels),
        "captions": _texts(clip.captions),
        "start_seconds": clip.start_seconds,
        "end_seconds": "" if pd.isna(clip.end_seconds) else clip.end_seconds,
        "audio": audio,
        "sample_rate": corpus.recipe.extract.sample_rate,
        "samples": int(clip.samples),
        "audio_start_seconds": clip.audio_start_seconds,
        "frames": json.dumps(frames),
        "frame_seconds": json.dumps([float(seconds) for seconds in clip.frame_seconds]),
    }


def _texts(values: Any) -> str:
    return json.dumps([] if values is None else list(values), ensure_ascii=False)


def _claim(out: Path, chosen: Mapping[str, Any]) -> None:
    """Make the folder ours, or find that it is already."""
    mark = json.dumps(chosen, indent=2, sort_keys=True) + "\n"
    if out.exists() and not out.is_dir():
        raise CorpusError(f"{out} is a file; name a folder to export to")
    out.mkdir(parents=True, exist_ok=True)
    standing = out / MARK_FILE
    if standing.is_file():
        if standing.read_text() != mark:
            raise CorpusError(f"{out} holds an export of another corpus or selection; name another folder")
    elif any(out.iterdir()):
        raise CorpusError(f"{out} is not empty and no export of ours; name a new folder")
    else:
        with _replaced(standing) as temporary:
            temporary.write_text(mark)


@contextlib.contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """A temporary file beside `target` that takes its place when all went well."""
    temporary = target.with_name(target.name + UNFINISHED)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, soundfile.SoundFileError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full and not isinstance(error, PermissionError):
            raise
        what = "the disk is full" if full else "it may not be written to"
        raise CorpusError(f"cannot export to {out}: {what}; the same command goes on from there") from error
