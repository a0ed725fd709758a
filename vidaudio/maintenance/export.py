"""`export`: writes clips of a corpus as loose files (WAV, JPEG and one CSV file) for tools that read nothing else.

Files are named by clip ids, which are safe file names; names from video sites are never used in a path. Every file
appears only when it is complete, and `clips.csv` is written last, so the same command resumes an interrupted export. A
clip with damaged bytes is left out and reported; the other clips are still exported.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import itertools
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from vidaudio.corpus.columns import EXTRACT, Column, columns_in_order
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.superseded import superseded
from vidaudio.errors import CorpusError, PackError, StoreError, UsageError
from vidaudio.media.flac import BadSound, write_wav
from vidaudio.packs.description import PACK_FILE, read_pack_file
from vidaudio.packs.selection import (
    CLIP_FACTS,
    SelectionError,
    check_complete,
    columns_with,
    joined,
    parse_selection,
    selected,
)
from vidaudio.paths import local_target
from vidaudio.shards.commit import committed_shards, read_table, table_name
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.read import TarReader
from vidaudio.text import number_of

TABLE_FILE = "clips.csv"
MARK_FILE = ".vidaudio-export.json"
UNFINISHED = ".unfinished"
SHOWN = 5
COLUMNS = (
    *("id", "source", "dataset", "split", "labels", "captions", "start_seconds", "end_seconds", "audio"),
    *("sample_rate", "samples", "audio_start_seconds", "frames", "frame_seconds"),
)


@dataclass(frozen=True, slots=True)
class DamagedClip:
    """A clip that could not be exported.

    Attributes:
        id: Clip id.
        file: File of the corpus that contains the clip's sound and pictures.
        what: Description of the damage.
    """

    id: str
    file: str
    what: str


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Result of an export.

    Attributes:
        folder: Folder with the exported files.
        clips: Number of clips in `clips.csv`.
        files: Number of sound and picture files, including those of earlier runs.
        written: Number of these files that this run wrote.
        unknown: Requested ids that match no usable clip.
        damaged: Clips that were left out because their data in the corpus is damaged.
    """

    folder: str
    clips: int
    files: int
    written: int
    unknown: tuple[str, ...] = ()
    damaged: tuple[DamagedClip, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict for `--json`."""
        return asdict(self) | {"unknown": list(self.unknown), "damaged": [asdict(clip) for clip in self.damaged]}

    def __str__(self) -> str:
        text = (
            f"{self.folder}: {number_of(self.clips, 'clip')}, {number_of(self.files, 'file')}, "
            f"{self.written:,} of them written now"
        )
        if self.unknown:
            entries = number_of(len(self.unknown), "entry names", "entries name")
            text = f"{text}\n  {entries} no usable clip: {_first_of(self.unknown)}"
        for clip in self.damaged[:SHOWN]:
            text = f"{text}\n  {clip.id} was left out: {clip.what}"
        if len(self.damaged) > SHOWN:
            others = Counter(clip.file for clip in self.damaged[SHOWN:])
            left_out = number_of(others.total(), "clip more was", "clips more were")
            text = f"{text}\n  {left_out} left out, of {_first_of(sorted(others))}"
        if self.damaged:
            text = (
                f"{text}\n  `vidaudio verify` names the remedy; afterwards the same command exports what was left out"
            )
        return text


def export(
    corpus: str,
    folder: str | Path,
    *,
    pack: str | None = None,
    ids: Collection[str] | None = None,
    where: str | None = None,
    progress: bool = True,
) -> ExportResult:
    """Write clips of a corpus as loose files.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        folder: Local folder to write to: new, empty, or with the same export, which is then resumed.
        pack: Name of a pack: export only its clips, with their splits in the pack. None exports all usable clips.
        ids: Clip ids or sources to export; None for no such limit.
        where: Expression that clips must satisfy, as for `pack --where`; None for no such limit.
        progress: Whether to show a progress bar.

    Returns:
        Counts of what was exported. Callers that need every clip must check `damaged`, which names the clips left out.

    Raises:
        UsageError, CorpusError, StoreError: When the corpus or pack does not exist, no clip is selected, the folder
            contains something else or is a URL, or the disk is full.
        RecipeError: When `where` is not a valid selection.
    """
    opened = open_corpus(corpus)
    out = local_target(folder, "exports")
    splits = None if pack is None else _pack_splits(opened, pack)
    wanted = None if ids is None else frozenset(ids)
    chosen = {"corpus": opened.plan_hash, "pack": pack, "ids": None if ids is None else sorted(ids), "where": where}
    with _disk_errors(out):
        total = opened.clips if splits is None else len(splits)
        met: set[str] = set()
        further = _further_columns(opened, where)
        shards = _chosen_rows(opened, splits, wanted, where, met, further)
        # Evaluate the first rows before the folder is claimed: an invalid or empty selection must not leave a folder
        # marked as its export.
        first = next((chosen_rows for chosen_rows in shards if not chosen_rows[1].empty), None)
        if first is None:
            raise CorpusError(f"nothing to export from {corpus}: {_nothing_chosen(wanted, met)}")
        _claim(out, chosen)
        with (
            tqdm(total=total, desc="exporting", unit="clip", disable=not progress, dynamic_ncols=True) as bar,
            _replaced(out / TABLE_FILE) as temporary,
        ):
            clips = files = written = 0
            damaged: list[DamagedClip] = []
            with temporary.open("w", newline="", encoding="utf-8") as sink:
                facts = [name for column in further for name in column.selectable]
                table = csv.DictWriter(sink, [*COLUMNS, *facts])
                table.writeheader()
                for shard, rows in itertools.chain([first], shards):
                    for row, new in _export_shard(opened, shard, rows, out, splits, facts, damaged):
                        table.writerow(row)
                        clips, written = clips + 1, written + new
                        files += 1 + len(json.loads(row["frames"]))
                        bar.update()
    unknown = tuple(sorted((wanted or frozenset()) - met))
    return ExportResult(str(out), clips, files, written, unknown, tuple(damaged))


def _nothing_chosen(wanted: Collection[str] | None, met: Collection[str]) -> str:
    """Explain why no clip was chosen, as far as the requested entries show."""
    unknown = sorted(set(wanted or ()) - set(met))
    if not unknown:
        return "no usable clip is chosen"
    return f"no usable clip goes by {_first_of(unknown)} (a clip id, or a source site:video, is wanted)"


def _first_of(entries: Sequence[str]) -> str:
    return ", ".join(entries[:SHOWN]) + (" ..." if len(entries) > SHOWN else "")


def _pack_splits(corpus: Corpus, name: str) -> dict[str, str]:
    """Return the split of every clip in a pack."""
    folder = f"training/{name}"
    if "/" in name or not corpus.store.exists(f"{folder}/{PACK_FILE}"):
        names = ", ".join(corpus.store.folders("training")) or "none"
        raise PackError(f"{corpus.url} has no pack {name!r}; its packs are: {names}")
    splits: dict[str, str] = {}
    for shard in read_pack_file(corpus.store, folder).shards:
        table, _ = read_table(corpus.store, f"{folder}/{shard}.parquet")
        splits.update(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))
    return splits


def _further_columns(corpus: Corpus, where: str | None) -> list[Column]:
    """Return the columns besides extract whose selectable fields are exported: those that every extracted shard has.

    Raises:
        CorpusError: When the selection names a field of a column that not every extracted shard has.
        RecipeError: When `where` is not a valid selection.
    """
    named = columns_with(parse_selection(where, named="--where").columns) if where else []
    if any(column.per_model for column in named):
        raise SelectionError(
            where or "",
            "reads scores, of which a corpus may have several; pack by them: vidaudio pack --where",
            "--where",
        )
    further = []
    for column in columns_in_order():
        if column.selectable and column.stage != EXTRACT.stage and not column.per_model:
            extracted = committed_shards(corpus.store, EXTRACT.folder)
            standing = extracted & committed_shards(corpus.store, column.folder)
            if column in named:
                check_complete(corpus.url, column, len(standing), len(extracted))
            if standing == extracted:
                further.append(column)
    return further


def _chosen_rows(
    corpus: Corpus,
    splits: Mapping[str, str] | None,
    wanted: Collection[str] | None,
    where: str | None,
    met: set[str],
    further: Sequence[Column],
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield each shard's chosen clips, as fields of manifest, av and further columns; add ids and sources to `met`."""
    older = superseded(corpus)
    for shard in sorted(committed_shards(corpus.store, EXTRACT.folder)):
        av = EXTRACT.completed(read_table(corpus.store, table_name(EXTRACT.folder, shard))[0])
        # Filter before the conversion to pandas: missing values would turn the integer offsets into floats.
        speaks = pa.array(older.is_current(shard, av["id"].to_pylist()), pa.bool_())
        done = av.filter(pc.and_(pc.equal(av["state"], "done"), speaks))
        facts = done.select([*(c for c in CLIP_FACTS if c != "state"), "frame_offsets", "frame_lengths"])
        for column in further:
            table, _ = read_table(corpus.store, table_name(column.folder, shard))
            facts = joined(facts, column, table, column.selectable)
        listed = corpus.table(shard).to_pandas()
        rows = listed.merge(facts.to_pandas(), on="id", how="inner", validate="one_to_one")
        if wanted is not None:
            rows = rows[rows["id"].isin(wanted) | rows["source"].isin(wanted)]
            met.update(rows["id"], rows["source"])
        if splits is not None:
            rows = rows[rows["id"].isin(splits)]
        yield shard, selected(rows, where, named="--where")


def _export_shard(
    corpus: Corpus,
    shard: int,
    rows: pd.DataFrame,
    out: Path,
    splits: Mapping[str, str] | None,
    facts: Sequence[str],
    damaged: list[DamagedClip],
) -> Iterator[tuple[dict[str, Any], int]]:
    """Write one shard's clips; yield each clip's CSV row and number of new files, or add it to `damaged`.

    `facts` are the fields of further columns that a row has at its end.
    """
    if rows.empty:
        return
    _, record = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    folder = f"{shard:06d}"
    (out / folder).mkdir(exist_ok=True)
    name = f"{EXTRACT.folder}/{record.tar}"
    try:
        tar = TarReader(corpus.store, name, whole=False)
    except CorruptFileError as error:
        damaged += [DamagedClip(clip_id, name, str(error)) for clip_id in rows["id"]]
        return
    with tar:
        clip: Any  # a row of the table; the fields of pandas' rows have no types
        for clip in rows.itertuples():
            audio = f"{folder}/{clip.id}.wav"
            frames = [f"{folder}/{clip.id}.{number:03d}.jpg" for number in range(len(clip.frame_offsets))]
            try:
                missing = _missing_files(tar, clip, audio, frames, out)
                # Write the sound first: decoding may show that its bytes are damaged.
                if audio in missing:
                    _write_sound(missing[audio], f"{corpus.url}/{name}", clip, out / audio)
            except CorruptFileError as error:
                damaged.append(DamagedClip(clip.id, name, str(error)))
                continue
            for file in filter(missing.__contains__, frames):
                with _replaced(out / file) as temporary:
                    temporary.write_bytes(missing[file])
            split = clip.split if splits is None else splits[clip.id]
            further = {name: _cell(getattr(clip, name)) for name in facts}
            yield _line(corpus, clip, split, audio, frames) | further, len(missing)


def _missing_files(tar: TarReader, clip: Any, audio: str, frames: Sequence[str], out: Path) -> dict[str, bytes]:
    """Return those of a clip's files that do not exist yet, with their bytes in the tar; the sound is FLAC.

    Raises:
        CorruptFileError: When the tar does not contain the files whole.
    """
    missing = {}
    if not (out / audio).exists():
        missing[audio] = tar.read(int(clip.audio_offset), int(clip.audio_length))
    for name, *span in zip(frames, clip.frame_offsets, clip.frame_lengths, strict=True):
        if not (out / name).exists():
            missing[name] = tar.read(*map(int, span))
    return missing


def _write_sound(flac: bytes, tar_url: str, clip: Any, path: Path) -> None:
    """Write a clip's sound as a WAV file, without libsndfile, which does not report a full disk.

    Raises:
        CorruptFileError: When the bytes do not decode to this sound; no file is left behind.
    """
    with _replaced(path) as temporary, temporary.open("wb") as file:
        try:
            write_wav(flac, int(clip.samples), file)
        except BadSound as error:
            raise CorruptFileError(tar_url, f"{tar_url}: {clip.id}.flac is damaged: {error}") from error


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
        "sample_rate": corpus.settings.extract.sample_rate,
        "samples": int(clip.samples),
        "audio_start_seconds": clip.audio_start_seconds,
        "frames": json.dumps(frames),
        "frame_seconds": json.dumps([float(seconds) for seconds in clip.frame_seconds]),
    }


def _cell(value: Any) -> Any:
    """Return a fact as one cell of the table: lists as JSON, nothing for a missing value."""
    if isinstance(value, np.ndarray):
        return json.dumps(value.tolist(), ensure_ascii=False)
    return "" if pd.isna(value) else value


def _texts(values: Any) -> str:
    return json.dumps([] if values is None else list(values), ensure_ascii=False)


def _claim(out: Path, chosen: Mapping[str, Any]) -> None:
    """Mark the folder as the target of this export, or check that it already is."""
    mark = json.dumps(chosen, indent=2, sort_keys=True) + "\n"
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder to export to")
    out.mkdir(parents=True, exist_ok=True)
    standing = out / MARK_FILE
    if standing.is_file():
        if standing.read_text() != mark:
            raise UsageError(f"{out} holds an export of another corpus or selection; name another folder")
    elif any(out.iterdir()):
        raise UsageError(f"{out} is not empty and no export of ours; name a new folder")
    else:
        with _replaced(standing) as temporary:
            temporary.write_text(mark)


@contextlib.contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """Yield a temporary file beside `target`; it replaces `target` if no error occurs."""
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
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        what = "the disk is full" if full else "it may not be written to"
        raise StoreError(f"cannot export to {out}: {what}; the same command goes on from there") from error
