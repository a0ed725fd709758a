"""Packing of labelled sound files without pictures, for LabelSep, PIT and systems that are queried with words.

Nothing is fetched, decoded to pictures or embedded, so a single pass in one process is enough. The result is what
`pack` writes: the same shards, the same index, the same loader. A corpus of videos takes its windows from the grid of
its pictures; here the grid contains only times, ten per second.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from vidaudio.config.corpus import PackBlock, stable_hash
from vidaudio.corpus.corpus import check_corpus_name
from vidaudio.errors import PackError
from vidaudio.hashing import sha256_of
from vidaudio.manifest import Clip, clips_from_table, read_manifest
from vidaudio.manifest.public_url import public_url
from vidaudio.media.container import open_media, start_time
from vidaudio.media.decode.audio_track import SoundTrack
from vidaudio.media.fetch.types import is_remote, local_path
from vidaudio.output_folder import output_folder
from vidaudio.packs.advice import MOST_SOURCES_DRAWN, changed_settings, long_enough, split_warnings
from vidaudio.packs.description import PACK_FILE, SOUND_SETTINGS, PackDescription
from vidaudio.packs.sample_format import describe, encode_sound, sample_members, sample_places, sound_format
from vidaudio.packs.segments import Segment, whole_segments
from vidaudio.packs.selection import Splits
from vidaudio.paths import local_target
from vidaudio.shards.tar import ShardWriter, list_members
from vidaudio.stream.index import INDEX_FILE, NO_VECTORS, SAMPLE_SCHEMA, table_schema, write_index
from vidaudio.stream.vector_columns import OWN_MEMBER, only_column
from vidaudio.stream.windows import WindowShape
from vidaudio.text import first_line

DEFAULT_SAMPLE_RATE = 16_000
TIMES_PER_SECOND = 10
SHOWN_FAILURES = 20
# Longer than any file: the end of a cut that names no end.
NO_END_SECONDS = 1e6


@dataclass(frozen=True, slots=True)
class SoundPack:
    """Result of packing sound files.

    Attributes:
        folder: Folder to train on.
        clips, samples: Number of clips in the manifest, and of samples made from them: long sound is cut into several.
        seconds: Duration of the packed sound, in seconds.
        splits: Number of samples of each split.
        failed: Reason that a clip could not be read, by clip id.
        warnings: What training or evaluation will refuse, and what to do.
    """

    folder: Path
    clips: int
    samples: int
    seconds: float
    splits: Mapping[str, int]
    failed: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        return {
            "folder": str(self.folder),
            "clips": self.clips,
            "samples": self.samples,
            "seconds": round(self.seconds, 3),
            "splits": dict(self.splits),
            "failed": dict(self.failed),
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
        lines = [
            f"{self.clips - len(self.failed):,} of {self.clips:,} sounds, {self.seconds / 3600:.2f} h, packed into "
            f"{self.folder}: {self.samples:,} samples ({splits})"
        ]
        shown = list(self.failed.items())[:SHOWN_FAILURES]
        lines += [f"  not read: {clip}: {reason}" for clip, reason in shown]
        if len(self.failed) > len(shown):
            lines.append(f"  and {len(self.failed) - len(shown):,} more, all in {self.folder / PACK_FILE}")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def pack_sounds(
    manifest: str | Path,
    folder: str | Path,
    *,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    settings: PackBlock | None = None,
    progress: bool = True,
) -> SoundPack:
    """Pack the sound files of a manifest into a folder for training systems that use no pictures.

    Args:
        manifest: Manifest of local files, with labels and optional splits; missing splits are drawn by source.
        folder: Folder to write. `index.arrow` is written last and makes the folder usable for training.
        sample_rate: Sample rate of the packed mono sound, Hz.
        settings: Pack settings, of which `audio`, `clips_per_shard`, `split_fractions`, `max_segment_seconds` and
            `seed` apply; None for the defaults.
        progress: Whether to show a progress bar.

    Raises:
        ManifestError: When the manifest cannot be read.
        PackError: When the folder already contains a pack or is a URL, the manifest lists no sound or a file that is
            not local, or none of its files could be read.
    """
    settings = settings or PackBlock()
    folder = local_target(folder, "packed sounds")
    check_corpus_name(str(folder))
    if (folder / INDEX_FILE).exists():
        raise PackError(f"{folder} holds packed sounds already, and packs never change; name another folder")
    clips = _clips(manifest)
    listed = pd.DataFrame([{"source": clip.source, "split": clip.split} for clip in clips])
    drawn = Splits(settings)
    drawn.add(listed)
    names, codes = drawn.decided()
    splits = [names[code] for code in codes]
    with output_folder(folder):
        failed: dict[str, str] = {}
        tables: list[pa.Table] = []
        tars: list[str] = []
        hashes: list[str] = []
        with tqdm(total=len(clips), desc="packing", unit="sound", disable=not progress, dynamic_ncols=True) as bar:
            for split in sorted(set(splits)):
                chosen = [clip for clip, its in zip(clips, splits, strict=True) if its == split]
                # Ordering by a hash is a global shuffle that does not depend on the manifest's order.
                chosen.sort(key=lambda clip: hashlib.sha256(f"{settings.seed}:{clip.id}".encode()).hexdigest())
                for number, first in enumerate(range(0, len(chosen), settings.clips_per_shard)):
                    group = chosen[first : first + settings.clips_per_shard]
                    name = f"{split}-{number:06d}.tar"
                    table = _write_shard(folder / name, group, split, sample_rate, settings, failed, bar)
                    if table is None:
                        continue
                    tables.append(table.append_column("shard", pa.array(np.full(len(table), len(tars)), pa.int32())))
                    tars.append(name)
                    hashes.append(sha256_of(folder / name))
        if not tables:
            clip, reason = next(iter(failed.items()))
            raise PackError(f"none of the {len(clips)} files of {manifest} could be read; the first, {clip}: {reason}")
        table = pa.concat_tables(tables).select(SAMPLE_SCHEMA.names).cast(SAMPLE_SCHEMA)
        _finish(folder, table, tars, hashes, sample_rate, settings, failed)
    counts = table["split"].to_pandas().value_counts().sort_index()
    seconds = float(np.sum(table["samples"].to_numpy())) / sample_rate
    longest = table.select(["id", "samples"]).group_by("id").aggregate([("samples", "max")])
    lengths = dict(zip(longest["id"].to_pylist(), longest["samples_max"].to_pylist(), strict=True))
    usable = [long_enough(lengths.get(clip.id, 0), sample_rate, WindowShape().frames) for clip in clips]
    texts = {clip.source for clip, flag in zip(clips, usable, strict=True) if flag}
    command = f"vidaudio pack-sounds {shlex.quote(str(manifest))} -o FOLDER"
    command += f" --sample-rate {sample_rate}" if sample_rate != DEFAULT_SAMPLE_RATE else ""
    few = texts if len(texts) <= MOST_SOURCES_DRAWN else None
    warnings = split_warnings(
        drawn, np.asarray(usable, bool), few, settings, command, changed_settings(settings, PackBlock())
    )
    return SoundPack(folder, len(clips), len(table), seconds, counts.to_dict(), failed, warnings)


def _clips(manifest: str | Path) -> list[Clip]:
    clips = list(clips_from_table(read_manifest(manifest)))
    if not clips:
        raise PackError(f"{manifest} lists no sound")
    other = next((clip for clip in clips if local_path(clip.url) is None), None)
    if other is not None:
        remedy = "fetch them first" if is_remote(other.url) else "list them by their paths"
        raise PackError(f"{manifest} lists {public_url(other.url)}: sounds are packed from local files; {remedy}")
    return clips


def _write_shard(
    path: Path,
    clips: Sequence[Clip],
    split: str,
    sample_rate: int,
    settings: PackBlock,
    failed: dict[str, str],
    bar: tqdm,
) -> pa.Table | None:
    """Write one tar and return its table rows; None if none of its files could be read."""
    audio = sound_format(settings.audio)
    temporary = path.with_name(f".{path.name}.tmp")
    rows: list[dict[str, Any]] = []
    with ShardWriter(temporary) as writer:
        for clip in clips:
            try:
                sound = read_clip_sound(clip, sample_rate)
            except (av.FFmpegError, OSError, ValueError) as error:
                failed[clip.id] = first_line(error, without_paths=True)
                sound = None
            for segment, facts, parts in _samples(clip, sound, split, sample_rate, settings):
                key = f"{clip.id}{segment.suffix}"
                writer.write(key, parts)
                rows.append({"key": key, **facts})
            bar.update()
    if not rows:
        temporary.unlink()
        return None
    temporary.replace(path)
    inside, columns = list_members(path), [only_column(NO_VECTORS)]
    for row in rows:
        row |= sample_places(inside, row["key"], audio, columns)
    return pa.Table.from_pylist(rows, schema=table_schema(columns))


def read_clip_sound(clip: Clip, sample_rate: int) -> np.ndarray:
    """Read a clip's section of a sound file as mono int16 `[samples]`, resampled in the same way as a corpus's sound.

    Raises:
        ValueError: When the file or the section contains no sound.
        OSError, av.FFmpegError: When the file does not exist or cannot be decoded.
    """
    zero = clip.media_start_seconds or 0.0
    begin = clip.start_seconds - zero
    end = NO_END_SECONDS if clip.end_seconds is None else clip.end_seconds - zero
    with open_media(Path(clip.url)) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise ValueError("the file holds no sound")
        track = SoundTrack(sample_rate, end - begin)
        origin = float(start_time(container)) + begin
        for frame in container.decode(stream):
            if frame.time is not None and frame.samples:
                track.push(frame, frame.time - origin)
            if track.passed():
                break
        samples = track.finish().samples
    if not len(samples):
        raise ValueError("there is no sound in the cut")
    return samples


def _samples(
    clip: Clip, sound: np.ndarray | None, split: str, sample_rate: int, settings: PackBlock
) -> Iterator[tuple[Segment, dict[str, Any], dict[str, bytes]]]:
    """Yield the segments of a clip's sound, each with its facts and tar members; nothing without sound."""
    if sound is None:
        return
    grid = (np.arange(-(-len(sound) * TIMES_PER_SECOND // sample_rate)) / TIMES_PER_SECOND).tolist()
    for segment in whole_segments(len(sound), sample_rate, 0.0, grid, settings.max_segment_seconds):
        first = segment.start_sample or 0
        values = sound[first : first + segment.samples]
        audio = sound_format(settings.audio)
        facts = describe(
            clip,
            split,
            start_seconds=clip.start_seconds + first / sample_rate,
            samples=len(values),
            audio_start_seconds=0.0,
            frame_seconds=[],
            grid_seconds=[s - first / sample_rate for s in grid[segment.first_frame :][: segment.frames]],
        )
        vectors = np.zeros((len(facts["grid_seconds"]), 0), np.float16)
        yield (
            segment,
            facts,
            sample_members(audio, encode_sound(values, sample_rate, audio), {OWN_MEMBER: vectors}, facts),
        )


def _finish(
    folder: Path,
    table: pa.Table,
    tars: Sequence[str],
    hashes: Sequence[str],
    sample_rate: int,
    settings: PackBlock,
    failed: Mapping[str, str],
) -> None:
    """Write `pack.json` and then the index, which appears under its name only when it is complete."""
    # Hash the same description as older versions, so that equal sounds have equal hashes.
    hashed = {
        "settings": {**settings.model_dump(mode="json", include=set(SOUND_SETTINGS)), "sample_rate": sample_rate},
        "shards": dict(zip(tars, hashes, strict=True)),
        "failed": dict(failed),
    }
    described = PackDescription(
        settings=settings,
        plan_hash=stable_hash(hashed),
        encoder="",
        shards=tuple(name.removesuffix(".tar") for name in tars),
        samples=len(table),
        clips=pc.count_distinct(table["id"]).as_py(),
        left_out={"not_read": len(failed)} if failed else {},
        sample_rate=sample_rate,
        tar_sha256=hashed["shards"],
        failed=failed,
    )
    (folder / PACK_FILE).write_bytes(described.encode())
    metadata = {
        "tars": list(tars),
        "audio": sound_format(settings.audio),
        "sample_rate": sample_rate,
        "frames_per_second": float(TIMES_PER_SECOND),
        "encoder": NO_VECTORS,
        "plan_hash": described.plan_hash,
    }
    temporary = folder / f".{INDEX_FILE}.tmp"
    write_index(temporary, table, metadata)
    temporary.replace(folder / INDEX_FILE)
