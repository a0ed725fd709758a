"""Verdicts: what sites said of dead videos, noted as they come, so that a killed shard does not ask for them again.

A shard's outcomes are committed with its media, at its end. Should its worker, its driver or all of them be killed
before, the media are fetched again; the videos that are gone need not be. So every source that is decided without a
file leaves a line beside the journals of runs, and whoever begins the same shard anew takes it as the answer. The lines
go once the shard is committed.

A verdict is permanent under the cookies, the proxy and the options that it was given under, and counts only under them.

On local disk a line is appended: what the system was given outlives any process. An object store has no appending, so
there the lines are written anew, one request a dead video: the extraction that it may save costs more, and of a site
that counts. Sources whose failure may pass, and files of the user's own, leave no line.
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

from vidaudio.errors import CorpusError
from vidaudio.media.fetch.types import Fetched, FetchOptions
from vidaudio.media.outcomes import Outcome, Reason, State
from vidaudio.shards.store import Store

# Beside the journals of runs: no identity check reads it.
FOLDER = "runs/verdicts"
_NAME = re.compile(r"(\d{6,})\.jsonl")
# Whose cookies and passwords these bring, and whether they are the same as before, nobody here can tell.
_UNTOLD = ("cookiesfrombrowser", "usenetrc", "netrc_cmd")


class NegativeCache:
    """The verdicts on one shard's sources. Any number of threads may note them.

    Args:
        store: Of the corpus.
        plan_hash: Of the corpus.
        shard: Which.
        options: The way to the sites.
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
        """What is known of a source's clips from an earlier try at the shard: of all of them, or nothing."""
        if self._given is None:
            return {}
        clips = self._known.get(self._asked(url), {})
        return {clip_id: clips[clip_id] for clip_id in clip_ids} if clips.keys() >= set(clip_ids) else {}

    def note(self, url: str, clips: Sequence[Fetched]) -> None:
        """What a site answered. Only a verdict that is final and without a file is noted."""
        if self._given is None or not all(_is_dead(clip) for clip in clips):
            return
        about = {
            clip.id: [clip.outcome.state, clip.outcome.reason, clip.outcome.message, clip.info, clip.sha256]
            for clip in clips
        }
        # A line begins anew even where the one before was cut off by a kill.
        line = b"\n" + json.dumps({"asked": self._asked(url), "clips": about}).encode()
        # Without its line a video may be asked for once more: no reason to end anything.
        with self._lock, contextlib.suppress(OSError, CorpusError):
            self._write(line)

    def retract(self, urls: Collection[str]) -> None:
        """Delete what was noted of these sources: their answers are not believed any more."""
        if self._given is None or not urls:
            return
        gone = {self._asked(url) for url in urls}
        # What cannot be deleted counts as noted, and is found to be suspicious again with the next equal answer.
        with self._lock, contextlib.suppress(OSError, CorpusError):
            kept = [line for line in self._lines.split(b"\n") if line and not gone & _asked_in(line)]
            self._lines = b"".join(b"\n" + line for line in kept)
            for asked in gone:
                self._known.pop(asked, None)
            if not kept:
                self._store.remove(self._name)
                return
            with self._store.workspace() as scratch:
                (scratch / "verdicts").write_bytes(self._lines)
                self._store.put(self._name, scratch / "verdicts")

    def discard(self) -> None:
        """The shard is committed: its verdicts stand in its table."""
        if self._lines:
            self._store.remove(self._name)

    def _write(self, line: bytes) -> None:
        self._lines += line
        local = self._store.local_path(self._name)
        if local is None:
            with self._store.workspace() as scratch:
                (scratch / "verdicts").write_bytes(self._lines)
                self._store.put(self._name, scratch / "verdicts")
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
    """Delete the verdicts of shards that are committed: of a process that was killed, or was not the first to commit.

    Args:
        store: Of the corpus.
        committed: Shards whose table of the download stage stands.
    """
    for name in store.list(FOLDER):
        match = _NAME.fullmatch(name)
        if match and int(match[1]) in committed:
            store.remove(f"{FOLDER}/{name}")


def request_fingerprint(options: FetchOptions, plan_hash: str) -> str | None:
    """A hash of all that a verdict was given under; None where that cannot be told.

    The options, the contents of the files that they name, the proxies of the environment, and who understood the
    site's answer.
    """
    if any(options.ytdlp.get(name) for name in _UNTOLD):
        return None
    told = asdict(options)
    # How long to wait, and how much memory to take, decides no verdict.
    del told["deadline_seconds"], told["socket_timeout_seconds"], told["retries"], told["memory_gib"]
    told["files"] = dict(_files(options.ytdlp))
    told["proxies"] = urllib.request.getproxies()
    told["versions"] = [version(name) for name in ("vidaudio", "yt-dlp")]
    return _slowly_hashed(json.dumps(told, sort_keys=True, default=str), plan_hash)


@functools.lru_cache(maxsize=8)
def _slowly_hashed(text: str, salt: str) -> str:
    """There may be passwords in it, and the hash of a short one that is quickly made is quickly guessed."""
    return hashlib.scrypt(text.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1, dklen=16).hex()


def _files(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Hashes of the files that options name: cookies, certificates."""
    for name, value in options.items():
        path = Path(value).expanduser() if isinstance(value, str) and value else None
        with contextlib.suppress(OSError, ValueError):  # most options are no names of files at all
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
    """Which source a line is about; nothing where it was cut off."""
    return {asked for asked, _ in _parsed(line)}


def _parsed(lines: bytes) -> Iterator[tuple[str, dict[str, Fetched]]]:
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
            continue  # cut off by a kill, or of a version that knows other reasons: it is asked again
        yield asked, clips
