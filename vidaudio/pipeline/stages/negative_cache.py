"""Negative cache: records permanent failures of sources at once, so that a killed shard does not request them again.

A shard's outcomes are committed with its media, at its end. If its worker or driver is killed before, the media are
fetched again, but dead videos need not be. So every source that is decided without a file leaves a line beside the run
logs, and the next attempt at the same shard takes the line as the answer. The lines are deleted once the shard is
committed.

A failure is permanent only under the cookies, the proxy and the options of its request, and the cache applies only
under the same ones.

On local disk a line is appended: data that was handed to the system outlives any process. An object store cannot
append, so there all lines are written anew, one request per dead video. The extraction that this may save costs more,
and counts against a site. Sources whose failure may pass, and the user's own files, leave no line.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import threading
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vidaudio.errors import StoreError
from vidaudio.media.fetch.types import Fetched, FetchOptions
from vidaudio.media.outcomes import Outcome, Reason, State
from vidaudio.shards.store import Store

# In the folder of the run logs: no identity check reads it.
FOLDER = "runs/verdicts"
_NAME = re.compile(r"(\d{6,})\.jsonl")
# Nothing here can determine which cookies or passwords these options supply, or whether they changed.
_UNTOLD = ("cookiesfrombrowser", "usenetrc", "netrc_cmd")


class NegativeCache:
    """The recorded permanent failures of one shard's sources. Any number of threads may add to it.

    Args:
        store: Store of the corpus.
        plan_hash: Plan hash of the corpus.
        shard: Shard number.
        options: Fetch options, which decide whether recorded failures still apply.
    """

    def __init__(self, store: Store, plan_hash: str, shard: int, options: FetchOptions) -> None:
        self._store, self._name = store, f"{FOLDER}/{shard:06d}.jsonl"
        self._given = request_fingerprint(options, plan_hash)
        self._lock = threading.Lock()
        self._lines = _read(store, self._name)
        self._known: dict[str, dict[str, Fetched]] = {}
        for asked, clips in _parsed(self._lines):
            self._known.setdefault(asked, {}).update(clips)

    def known(self, url: str, clip_ids: Collection[str]) -> dict[str, Fetched]:
        """Return what an earlier attempt recorded of a source's clips; an empty dict unless all clips are recorded."""
        if self._given is None:
            return {}
        clips = self._known.get(self._asked(url), {})
        return {clip_id: clips[clip_id] for clip_id in clip_ids} if clips.keys() >= set(clip_ids) else {}

    def note(self, url: str, clips: Sequence[Fetched]) -> None:
        """Record a site's answer about a source, if all its clips are decided for good without media."""
        if self._given is None or not all(_is_dead(clip) for clip in clips):
            return
        about = {
            clip.id: [clip.outcome.state, clip.outcome.reason, clip.outcome.message, clip.info, clip.sha256]
            for clip in clips
        }
        # The leading newline starts a new line even where a kill cut off the line before.
        line = b"\n" + json.dumps({"asked": self._asked(url), "clips": about}).encode()
        # Without its line a video may be requested once more: no reason to stop.
        with self._lock, contextlib.suppress(OSError, StoreError):
            self._write(line)

    def retract(self, urls: Collection[str]) -> None:
        """Delete the records of these sources: their answers are no longer believed."""
        if self._given is None or not urls:
            return
        gone = {self._asked(url) for url in urls}
        # A record that cannot be deleted still applies; the next equal answer makes it suspicious again.
        with self._lock, contextlib.suppress(OSError, StoreError):
            kept = [line for line in self._lines.split(b"\n") if line and not gone & _asked_in(line)]
            self._lines = b"".join(b"\n" + line for line in kept)
            for asked in gone:
                self._known.pop(asked, None)
            if not kept:
                self._store.remove(self._name)
                return
            self._store.replace(self._name, self._lines)

    def discard(self) -> None:
        """Delete the cache of a committed shard: its table holds the outcomes now."""
        if self._lines:
            self._store.remove(self._name)

    def _write(self, line: bytes) -> None:
        self._lines += line
        local = self._store.local_path(self._name)
        if local is None:
            self._store.replace(self._name, self._lines)
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(local, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _asked(self, url: str) -> str:
        return hashlib.sha256(f"{self._given} {url}".encode()).hexdigest()[:32]


def sweep_negative_caches(store: Store, committed: Collection[int]) -> None:
    """Delete the caches of committed shards, left by processes that were killed or were not the first to commit.

    Args:
        store: Store of the corpus.
        committed: Shards whose table of the download stage exists.
    """
    for name in store.list(FOLDER):
        match = _NAME.fullmatch(name)
        if match and int(match[1]) in committed:
            store.remove(f"{FOLDER}/{name}")


def request_fingerprint(options: FetchOptions, plan_hash: str) -> str | None:
    """Return a hash of the circumstances of a request; None where they cannot be determined.

    They are the options (without waiting times, retries and memory), the contents of the files that the options name,
    the proxies of the environment, and the versions of vidaudio and yt-dlp.
    """
    if any(options.ytdlp.get(name) for name in _UNTOLD):
        return None
    told = asdict(options)
    # Waiting times and memory do not decide whether a failure is permanent.
    del told["deadline_seconds"], told["socket_timeout_seconds"], told["retries"], told["memory_gib"]
    told["files"] = dict(_files(options.ytdlp))
    told["proxies"] = urllib.request.getproxies()
    told["versions"] = [version(name) for name in ("vidaudio", "yt-dlp")]
    return _slowly_hashed(json.dumps(told, sort_keys=True, default=str), plan_hash)


@functools.lru_cache(maxsize=8)
def _slowly_hashed(text: str, salt: str) -> str:
    """Hash slowly: the text may contain passwords, and a fast hash of a short password is easily guessed."""
    return hashlib.scrypt(text.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1, dklen=16).hex()


def _files(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and hash of the files that options name: cookies, certificates."""
    for name, value in options.items():
        path = Path(value).expanduser() if isinstance(value, str) and value else None
        with contextlib.suppress(OSError, ValueError):  # most options do not name files
            if path is not None and path.is_file():
                yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def _is_dead(clip: Fetched) -> bool:
    return clip.outcome.state is not State.DONE and not clip.outcome.transient


def _read(store: Store, name: str) -> bytes:
    try:
        return store.read(name)
    except FileNotFoundError:
        return b""


def _asked_in(line: bytes) -> set[str]:
    """Return the source that a line is about; an empty set where the line was cut off."""
    return {asked for asked, _ in _parsed(line)}


def _parsed(lines: bytes) -> Iterator[tuple[str, dict[str, Fetched]]]:
    """Yield source and clips of each line; damaged lines are left out."""
    for line in lines.split(b"\n"):
        try:
            told = json.loads(line)
            clips = {
                clip_id: Fetched(
                    clip_id, Outcome(State(state), Reason(reason), message), sha256="".join(sha), info=info
                )
                for clip_id, (state, reason, message, info, *sha) in told["clips"].items()
            }
            asked = told["asked"]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # cut off by a kill, or by a version with other reasons: fetched again
        yield asked, clips
