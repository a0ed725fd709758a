"""The extract stage: decodes every fetched clip to JPEG pictures and FLAC audio, with the true time of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import AV_SCHEMA, DOWNLOAD, EXTRACT, SILENT_DBFS
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import media_not_kept, release_name
from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object
from vidaudio.manifest import Clip
from vidaudio.media.decode.extractor import Extracted, ExtractOptions, Extractor, MediaSpan
from vidaudio.media.decode.pool import decoders
from vidaudio.media.fetch.types import TIME_JUMPS, is_remote
from vidaudio.media.outcomes import Outcome, Reason, State
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.crash_attribution import POISON_CLIP, Attempt, attempt
from vidaudio.pipeline.stages.facts_table import facts_row, replace_facts
from vidaudio.pipeline.stages.row_check import storable_outcome
from vidaudio.shards.commit import CommitRecord, commit, read_table, table_name
from vidaudio.shards.tar import Member, ShardWriter, list_members

# A larger number in a table is taken as damage and ignored.
MOST_JUMPS = 1_000_000

FACTS = (
    *("seconds", "video_seconds", "samples", "audio_start_seconds", "frame_seconds", "grid_seconds", "rms_dbfs"),
    *("motion", "decode_errors", "audio_gaps"),
    *("time_jumps", "filled_seconds", "held_seconds", "audio_channel", "tone_mapped"),
)


@dataclass(frozen=True, slots=True)
class FetchedMedia:
    """Media of a shard on the local disk.

    Attributes:
        clips: Rows of the shard as the download stage wrote them.
        tar: Local tar that the rows' offsets refer to; None where all rows refer to the user's own files.
    """

    clips: pa.Table
    tar: Path | None


def extract_shard(
    corpus: Corpus, shard: int, folder: str, run: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Decode every fetched clip of a shard; a clip that cannot be used becomes a row with its reason.

    Raises:
        CorpusError: When media that the shard's table refers to do not exist.
    """
    clips, record = read_table(corpus.store, table_name(DOWNLOAD.folder, shard))
    with corpus.store.workspace() as scratch:
        tar = media_tar(corpus, shard, record, clips, scratch)
        return extract_fetched(corpus, shard, folder, run, FetchedMedia(clips, tar), scratch, advance=advance)


def extract_fetched(
    corpus: Corpus,
    shard: int,
    folder: str,
    run: RunSettings,
    media: FetchedMedia,
    scratch: Path,
    before_commit: Callable[[Path], None] = lambda tar: None,
    advance: Advance = ignore_progress,
) -> CommitRecord:
    """Decode every clip of a shard from local media; `extract_shard` fetches them from the store first.

    Args:
        corpus: The corpus.
        shard: Shard number.
        folder: Folder that the stage commits to.
        run: Settings of this run, with the decoder's deadline and memory limit.
        media: Clips of the shard and their media.
        scratch: Workspace of the corpus's store.
        before_commit: Callback for the finished tar, before the commit.
        advance: Callback for the number of clips that have just been decoded.
    """
    rows = {clip.id: clip for clip in corpus.rows(shard)}
    with attempt(corpus.store, shard, run.id) as trial, decoders.borrowed(decoder_options(corpus, run)) as extractor:
        tar = scratch / "av.tar"
        results: dict[str, Extracted] = {}
        measured: dict[str, Mapping[str, Any]] = {}
        with ShardWriter(tar) as writer:
            for fetched in media.clips.to_pylist():
                result = extract_clip(extractor, trial, fetched, rows[fetched["id"]], media.tar)
                advance(1)
                if result is None:
                    continue
                result = _storable(result)
                if result.outcome.state is State.DONE:
                    measured[fetched["id"]] = result.measured
                    described = {"id": fetched["id"], **result.facts}
                    writer.write(
                        fetched["id"], {**result.parts, "json": json.dumps(described, sort_keys=True).encode()}
                    )
                # The tar holds the encoded members now; keep only the facts.
                results[fetched["id"]] = Extracted(result.outcome, result.facts)
        table = _table(results, list_members(tar))
        before_commit(tar)
        # Before av, without which nobody reads them: a shard whose av stands has the facts of these media.
        replace_facts(corpus, shard, [facts_row(clip_id, found) for clip_id, found in measured.items()])
        plan_hash = corpus.plan_hash
        return commit(corpus.store, folder, shard, stage=EXTRACT.stage, plan_hash=plan_hash, table=table, tar=tar)


def decoder_options(corpus: Corpus, run: RunSettings) -> ExtractOptions:
    """Return what the decoder keeps of a corpus's clips, within the limits of a run."""
    return ExtractOptions(**(run.extract.model_dump() | corpus.settings.extract.model_dump()))


def extract_clip(
    extractor: Extractor, trial: Attempt, fetched: Mapping[str, Any], clip: Clip, tar_path: Path | None
) -> Extracted | None:
    """Extract one clip; None where its fetch failed.

    Args:
        extractor: Decoder process.
        trial: This attempt at the shard, which knows the clips that ended a decoder with it.
        fetched: Row of the clip as the download stage wrote it.
        clip: Row of the manifest.
        tar_path: Local tar of the shard's media; None where all of them are the user's own files.
    """
    if fetched["state"] != State.DONE:
        return None
    zero = fetched["media_start_seconds"] or 0.0
    start = max(0.0, clip.start_seconds - zero)
    end = None if clip.end_seconds is None else clip.end_seconds - zero
    if fetched["path"] is None:
        assert tar_path is not None, "rows without a path refer to the tar"
        span = MediaSpan(tar_path, start, end, fetched["offset"], fetched["length"])
    else:
        path = Path(fetched["path"])
        if not path.is_file():
            gone = "the file was there when the corpus was begun and is gone"
            return Extracted(Outcome.failed(Reason.NOT_FOUND, gone))
        if path.stat().st_size != fetched["size_bytes"]:
            changed = "the file has another size than when the corpus was begun"
            return Extracted(Outcome.failed(Reason.CORRUPT, changed))
        span = MediaSpan(path, start, end)
    if trial.is_poisoned(clip.id):
        return Extracted(POISON_CLIP)
    return _with_jumps_of_cut(fetched, _as_fetched(clip, extractor.extract(span, alone=trial.alone)))


def _with_jumps_of_cut(fetched: Mapping[str, Any], result: Extracted) -> Extracted:
    """Return the extraction with the clock jumps added that were already joined when the clip was cut out."""
    try:
        info = parse_object(fetched.get("info") or "{}")
    except ValueError:
        return result
    jumps = info.get(TIME_JUMPS)
    # All numbers among these facts are stored as floats.
    if isinstance(jumps, bool) or not isinstance(jumps, int | float) or not 1 <= jumps <= MOST_JUMPS:
        return result
    if result.outcome.state is not State.DONE:
        return result
    return replace(result, facts={**result.facts, "time_jumps": result.facts["time_jumps"] + int(jumps)})


def _as_fetched(clip: Clip, result: Extracted) -> Extracted:
    """Return the extraction; for media from the web, turn a drop as `corrupt` into a failure as fetched this time.

    By its headers the file was complete, so the transfer may be at fault. A retried clip is `corrupt` for good if its
    file has the same bytes again (see `same_bytes`).
    """
    corrupt = result.outcome.state is State.DROPPED and result.outcome.reason is Reason.CORRUPT
    if not corrupt or not is_remote(clip.url):
        return result
    return Extracted(Outcome.failed(Reason.CORRUPT_FETCHED, result.outcome.message))


def _storable(result: Extracted) -> Extracted:
    """Return the extraction; a failed one where its facts cannot be written."""
    facts = {name: result.facts[name] for name in FACTS} if result.outcome.state is State.DONE else {}
    refused = storable_outcome(facts | {"message": result.outcome.message}, result.facts, AV_SCHEMA)
    return result if refused is None else Extracted(refused)


def media_tar(corpus: Corpus, shard: int, record: CommitRecord, clips: pa.Table, scratch: Path) -> Path | None:
    """Provide the shard's media on local disk under a private name; None where all rows refer to the user's own files.

    The tar's own name may disappear at any moment, when clips are removed from it or another build releases it. That
    must not become a row: a missing tar says nothing about its clips.
    """
    rows = zip(clips["state"].to_pylist(), clips["path"].to_pylist(), strict=True)
    if not any(state == State.DONE and path is None for state, path in rows):
        return None
    if record.tar is None:
        raise CorpusError(media_not_kept(corpus.url, shard))
    name, own = f"{DOWNLOAD.folder}/{record.tar}", scratch / "media.tar"
    local = corpus.store.local_path(name)
    if local is None:
        if not corpus.store.exists(name):
            raise CorpusError(_media_gone(corpus, shard, name))
        corpus.store.download(name, own)
        return own
    try:
        own.hardlink_to(local)
    except FileNotFoundError:
        raise CorpusError(_media_gone(corpus, shard, name)) from None
    except OSError:
        return local  # a file system without hard links
    return own


def _media_gone(corpus: Corpus, shard: int, name: str) -> str:
    if corpus.store.exists(release_name(shard)):
        return media_not_kept(corpus.url, shard)
    return f"{corpus.url}/{name} is gone, and its table still stands; delete that to download again"


def _table(results: Mapping[str, Extracted], inside: Mapping[str, Member]) -> pa.Table:
    columns: dict[str, list] = {name: [] for name in AV_SCHEMA.names}
    for clip_id, result in results.items():
        values: dict[str, Any] = dict.fromkeys(AV_SCHEMA.names)
        values |= {
            "id": clip_id,
            "state": result.outcome.state.value,
            "reason": result.outcome.reason and result.outcome.reason.value,
            "message": result.outcome.message,
        }
        if result.outcome.state is State.DONE:
            frames = [inside[f"{clip_id}.{n:03d}.jpg"] for n in range(len(result.facts["frame_seconds"]))]
            sound = inside[f"{clip_id}.flac"]
            values |= {name: result.facts[name] for name in FACTS}
            values |= {
                "silent": result.facts["rms_dbfs"] < SILENT_DBFS,
                "audio_offset": sound.offset,
                "audio_length": sound.length,
                "frame_offsets": [frame.offset for frame in frames],
                "frame_lengths": [frame.length for frame in frames],
            }
        for name, value in values.items():
            columns[name].append(value)
    return pa.table(columns, schema=AV_SCHEMA)
