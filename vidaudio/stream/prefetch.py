"""Fetching of the next block's shards while the present block is read."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence

from vidaudio.errors import CorpusError, StoreError
from vidaudio.stream.cache import CachedTars

# Threads of a single process, and the minimum for each of several processes. A store has a latency per request and
# answers any number of requests at once, so a single process needs as many requests as several processes together.
MOST_THREADS = 8
LEAST_THREADS = 2


class Prefetcher:
    """Background threads that make copies of the shards requested last, one prefetcher per process.

    Every loader process of a machine wants the same shards. Each begins at another place in the list and skips a shard
    that another process is fetching, so that together they fetch different shards at a time.

    Args:
        tars: Tars of the corpus, which fetch the copies.
    """

    def __init__(self, tars: CachedTars) -> None:
        self._tars = tars
        self._wanted: list[int] = []
        self._process = -1

    def want(self, *blocks: Sequence[int], reader_index: int = 0, reader_count: int = 1) -> None:
        """Fetch the shards of these blocks, one block after another, and forget earlier requests.

        Args:
            blocks: Shard numbers of each block.
            reader_index: Number of this process among those that read the same blocks.
            reader_count: Number of processes that read the same blocks.
        """
        self._start(reader_count)
        with self._change:
            self._wanted = []
            for shards in blocks:
                begin = len(shards) * reader_index // reader_count
                self._wanted += [*shards[begin:], *shards[:begin]]
            self._change.notify_all()

    def _start(self, reader_count: int) -> None:
        """Start this process's threads: a fork does not inherit the threads of its parent."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._wanted = []
        self._change = threading.Condition()
        for _ in range(max(LEAST_THREADS, MOST_THREADS // reader_count)):
            threading.Thread(target=self._work, daemon=True, name="vidaudio-prefetch").start()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._wanted:
                    self._change.wait()
                shard = self._wanted.pop(0)
            # The reader will try the same when it comes to this shard, and report the error.
            with contextlib.suppress(CorpusError, StoreError, OSError):
                self._tars.prefetch(shard)
