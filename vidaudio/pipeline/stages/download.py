"""The download stage: one extraction and one transfer per source, one media file per clip, into one tar per shard."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidaudio.config.corpus import FetchedMedia, FetchPolicy, RateBlock, RunSettings
from vidaudio.corpus.columns import CLIPS_SCHEMA, DOWNLOAD
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.corrupt_hashes import CorruptHashes, read_corrupt_hashes
from vidaudio.corpus.tombstones import read_tombstones
from vidaudio.errors import StoreError
from vidaudio.manifest import Clip
from vidaudio.media.fetch.rate_limit import FileRateLimiter, RateLimiter, Rates, SiteRate, user_rate_folder
from vidaudio.media.fetch.types import ClipSpan, Fetched, FetchOptions
from vidaudio.media.outcomes import State
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.circuit_breaker import TrailingFailures, trailing_failures
from vidaudio.pipeline.stages.equal_answers import SiteAnswers, answers_of
from vidaudio.pipeline.stages.negative_cache import NegativeCache
from vidaudio.pipeline.stages.retry_rounds import (
    AlreadyCommitted,
    RetryPolicy,
    RetryState,
    RoundCallbacks,
    SourceJob,
    fetch_in_rounds,
)
from vidaudio.pipeline.stages.row_check import storable_outcome
from vidaudio.shards.commit import CommitRecord, commit, read_record, table_name
from vidaudio.shards.store import Store
from vidaudio.shards.tar import ShardWriter, list_members

# Seconds between two checks of a remote store whether another build has committed the shard.
REMOTE_LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class DownloadRecord(CommitRecord):
    """The commit record with what this run spent on the shard. The costs go to the run's log, never into a table.

    Attributes:
        requests: Number of requests sent, by site.
        refused: Number of these that were answered with 429 or 503.
        waited_seconds: Seconds spent waiting for the rate limiter, over all threads.
        source_tries: Number of times that sources were tried.
        trailing: Failures in a row at the end of the shard; the driver follows them over all shards.
        answers: Last answers of each site; the driver follows them, too.
    """

    requests: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    waited_seconds: float = 0.0
    source_tries: int = 0
    trailing: TrailingFailures = field(default_factory=TrailingFailures)
    answers: tuple[SiteAnswers, ...] = ()


def download_shard(
    corpus: Corpus,
    shard: int,
    folder: str,
    run: RunSettings,
    advance: Advance = ignore_progress,
    *,
    rate_limiter: RateLimiter | None = None,
) -> DownloadRecord:
    """Fetch every clip of a shard and commit it. Failures are rows of the table.

    Any error that is raised carries what had been spent by then: see `spent_by`.

    Args:
        corpus: The corpus.
        shard: Shard number.
        folder: Folder that the stage commits to.
        run: Settings of this run: cookies, proxy, rates, deadlines, threads.
        advance: Callback for the number of clips that have just been decided; called in any thread.
        rate_limiter: Rate limiter that grants the requests; `run_rate_limiter` by default.

    Raises:
        FetchAborted: When nothing comes through, for a reason that is not the videos' own. Nothing is committed.
    """
    with corpus.store.workspace() as scratch:
        try:
            got = fetch_shard(corpus, shard, scratch, folder, run, advance, rate_limiter=rate_limiter)
        except AlreadyCommitted as spent:
            return committed_elsewhere(corpus, shard, folder, spent)
        with spending(got.report):
            plan_hash, stage = corpus.plan_hash, DOWNLOAD.stage
            done = commit(corpus.store, folder, shard, stage=stage, plan_hash=plan_hash, table=got.table, tar=got.tar)
    got.cache.discard()
    return got.record(done)


@dataclass(frozen=True, slots=True)
class FetchedShard:
    """A fetched shard that is not committed yet: its table, its media as a tar in scratch, and what fetching cost.

    Whoever commits the shard calls `cache.discard()` afterwards.
    """

    table: pa.Table
    tar: Path
    jobs: Sequence[SourceJob]
    report: RetryState
    cache: NegativeCache
    stop_after_equal_answers: int

    def record(self, done: CommitRecord) -> DownloadRecord:
        """Return the commit record with what this run spent on the shard."""
        outcomes = self.report.outcomes(self.jobs)
        return DownloadRecord(
            **asdict(done),
            **_spent(self.report),
            trailing=trailing_failures(outcome for _, outcome in outcomes),
            answers=answers_of(outcomes, self.stop_after_equal_answers),
        )


def fetch_shard(
    corpus: Corpus,
    shard: int,
    scratch: Path,
    folder: str,
    run: RunSettings,
    advance: Advance = ignore_progress,
    *,
    rate_limiter: RateLimiter | None = None,
) -> FetchedShard:
    """Fetch every clip of a shard into a tar in the local folder `scratch`.

    The other arguments, and the other errors, are those of `download_shard`. `folder` is watched for another build's
    commit.

    Raises:
        AlreadyCommitted: When another build, or a process that a killed build left running, committed the shard first.
    """
    rows = corpus.rows(shard)
    # Removed clips are never fetched again.
    removed = read_tombstones(corpus.store).among(rows)
    wanted = [clip for clip in rows if clip.id not in removed]
    policy = run.download
    rules = RetryPolicy(
        tries=policy.tries,
        threads=run.dask.downloads_per_worker,
        wait_seconds=policy.retry_wait_seconds,
        stop_after=policy.stop_after_failures,
        stop_after_equal_answers=policy.stop_after_equal_answers,
    )
    media = scratch / "media"
    media.mkdir()
    hashes = read_corrupt_hashes(corpus.store, [clip.id for clip in wanted]) if corpus.is_retried(shard) else {}
    jobs, report, options = (
        _jobs(wanted, hashes),
        RetryState(advance=advance),
        fetch_options(corpus.settings.download, policy),
    )
    cache = NegativeCache(corpus.store, corpus.plan_hash, shard, options)
    for job in jobs:
        # Dead videos that a killed attempt has requested already.
        report.fetched |= cache.known(job.url, [span.id for span in job.spans])
    with spending(report):
        paid_from = rate_limiter or run_rate_limiter(run)
        standing = _Standing(corpus.store, table_name(folder, shard))
        callbacks = RoundCallbacks(cache.note, standing, cache.retract)
        fetch_in_rounds(jobs, media, options, paid_from, rules, report, callbacks)
        tar = scratch / "shard.tar"
        with ShardWriter(tar) as writer:
            for clip in wanted:
                got = report.fetched[clip.id] = _storable(report.fetched[clip.id])
                if got.path is not None and not got.is_reference:
                    info = json.dumps(dict(got.info), sort_keys=True, ensure_ascii=False).encode()
                    writer.write(clip.id, {got.path.suffix[1:].lower(): got.path, "json": info})
                    got.path.unlink()
        table = _table(rows, removed, report.fetched, tar)
        return FetchedShard(table, tar, jobs, report, cache, policy.stop_after_equal_answers)


def committed_elsewhere(corpus: Corpus, shard: int, folder: str, error: AlreadyCommitted) -> DownloadRecord:
    """Return the record of a shard that another build committed, with what this run had spent on it by then."""
    record = read_record(corpus.store, table_name(folder, shard))
    return DownloadRecord(**asdict(record), **spent_by(error), trailing=TrailingFailures())


class _Standing:
    """Cached check whether a table exists by now; a remote store is asked rarely, because each check is a request."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._pause_seconds = 0.0 if store.local_path(name) is not None else REMOTE_LOOK_SECONDS
        self._lock = threading.Lock()
        self._next_look = 0.0
        self._stands = False

    def __call__(self) -> bool:
        with self._lock:
            if not self._stands and time.monotonic() >= self._next_look:
                # A store that does not answer now proves nothing, and is not the source's fault.
                with contextlib.suppress(OSError, StoreError):
                    self._stands = self._store.exists(self._name)
                self._next_look = time.monotonic() + self._pause_seconds
            return self._stands


@contextlib.contextmanager
def spending(report: RetryState) -> Iterator[None]:
    """Attach what had been spent to errors that are raised inside; `spent_by(error)` returns it."""
    try:
        yield
    except Exception as error:
        error.spent = _spent(report)  # type: ignore[attr-defined]  # travels with it, see `spent_by`
        raise


def _spent(report: RetryState) -> dict[str, Any]:
    """Return the costs of a download, named as in `DownloadRecord`."""
    return {
        "requests": report.traffic.requests,
        "refused": report.traffic.refused,
        "waited_seconds": report.traffic.waited_seconds,
        "source_tries": report.tries,
    }


def spent_by(error: BaseException | None) -> dict[str, Any]:
    """Return what a download had cost when it ended in this error, named as in `DownloadRecord`; else an empty dict."""
    return dict(getattr(error, "spent", {}))


def fetch_options(media: FetchedMedia, policy: FetchPolicy) -> FetchOptions:
    """Return the fetcher's options: what to fetch for a corpus, and how this run reaches the sites."""
    return FetchOptions(
        min_short_side=media.min_short_side,
        copy_local=media.copy_local,
        keep_whole=media.keep_whole,
        deadline_seconds=policy.deadline_seconds,
        max_source_gib=policy.max_source_gib,
        memory_gib=policy.memory_gib,
        allow_private_addresses=policy.allow_private_addresses,
        allow_file_urls=policy.allow_file_urls,
        ytdlp=policy.ytdlp,
        extractors=policy.extractors,
    )


def site_rates(block: RateBlock) -> Rates:
    """Return the rates of a recipe; values that a site's own block omits are those of all sites."""
    default = SiteRate(**block.model_dump(exclude={"sites", "folder"}))
    own = {site: values.model_dump(exclude_none=True) for site, values in block.sites.items()}
    return Rates(default, {site: replace(default, **values) for site, values in own.items()})


def shared_rate_limiter(block: RateBlock) -> FileRateLimiter:
    """Return the rate limiter shared by this user's processes on this machine, or by all that name one folder."""
    return FileRateLimiter(Path(block.folder) if block.folder else user_rate_folder(), site_rates(block))


def run_rate_limiter(run: RunSettings) -> RateLimiter:
    """Return the rate limiter of a run.

    That is the one of the recipe's folder; without a folder, on a cluster, the scheduler's; else the one of this
    machine.
    """
    rate = run.download.rate
    if rate.folder is None and run.dask.spans_machines:
        from vidaudio.pipeline.dask.shared_rate_limit import cluster_rate_limiter

        rate_limiter = cluster_rate_limiter(site_rates(rate))
        if rate_limiter is not None:
            return rate_limiter
    return shared_rate_limiter(rate)


def _jobs(rows: Sequence[Clip], hashes: Mapping[str, CorruptHashes]) -> list[SourceJob]:
    """Return one job per source and URL, so that their clips are fetched together.

    Args:
        rows: Clips to fetch.
        hashes: Hashes of corrupt files that earlier runs fetched for these clips, by clip id.
    """

    def where(clip: Clip) -> tuple[str, str]:
        return clip.source, clip.url

    def span(clip: Clip) -> ClipSpan:
        known = hashes.get(clip.id, CorruptHashes())
        place = clip.start_seconds, clip.end_seconds, clip.media_start_seconds
        return ClipSpan(clip.id, *place, known.fetched, known.undecodable)

    return [SourceJob(url, tuple(map(span, clips))) for (_, url), clips in groupby(sorted(rows, key=where), key=where)]


def _storable(got: Fetched) -> Fetched:
    """Return the fetched clip; if its row cannot be written, a failed clip without its file."""
    refused = storable_outcome(_facts(got), dict(got.info), CLIPS_SCHEMA)
    if refused is None:
        return got
    if got.path is not None and not got.is_reference:
        got.path.unlink(missing_ok=True)
    return Fetched(got.id, refused)


def _facts(got: Fetched) -> dict[str, Any]:
    """Return a row's columns, except the position of the media in the tar."""
    return {
        "id": got.id,
        "state": got.outcome.state.value,
        "reason": got.outcome.reason and got.outcome.reason.value,
        "message": got.outcome.message,
        "path": str(got.path) if got.path is not None and got.is_reference else None,
        "size_bytes": got.size_bytes,
        "sha256": got.sha256,
        "media_start_seconds": got.media_start_seconds,
    }


def _table(rows: Sequence[Clip], removed: Collection[str], fetched: dict[str, Fetched], tar: Path) -> pa.Table:
    inside = list_members(tar)
    columns: dict[str, list] = {name: [] for name in CLIPS_SCHEMA.names}
    for clip in rows:
        if clip.id in removed:
            for name in CLIPS_SCHEMA.names:
                columns[name].append({"id": clip.id, "state": State.REMOVED.value}.get(name))
            continue
        got = fetched[clip.id]
        member = None
        if got.path is not None and not got.is_reference:
            member = inside[f"{clip.id}.{got.path.suffix[1:].lower()}"]
        values = _facts(got) | {
            "member": member and member.name,
            "offset": member and member.offset,
            "length": member and member.length,
            "info": json.dumps(dict(got.info), sort_keys=True, ensure_ascii=False),
        }
        for name, value in values.items():
            columns[name].append(value)
    return pa.table(columns, schema=CLIPS_SCHEMA)
