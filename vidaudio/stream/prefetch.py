"""Fetching the next block's shards while this one is read."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence

from vidaudio.errors import CorpusError
from vidaudio.stream.cache import CachedTars

# Of a process alone, and of each where there are many: a store takes its time for every request and answers any number
# of them at once, so one worker must have as many under way as several together would.
MOST_THREADS = 8
LEAST_THREADS = 2


class Prefetcher:
    """Background threads that make copies of the shards last asked for. One a process.

    Every worker of a machine wants the same shards; each begins elsewhere in the list, and what one is fetching the
    others pass over, so that together they fetch different ones at a time.

    Args:
        tars: What fetches.
    """

    def __init__(self, tars: CachedTars) -> None:
        self._tars = tars
        self._wanted: list[int] = []
        self._process = -1

    def want(self, *blocks: Sequence[int], reader_index: int = 0, reader_count: int = 1) -> None:
        """Fetch the shards of these blocks, one block after another, and forget what was wanted before.

        Args:
            blocks: Numbers of shards.
            turn, turns: This process among those that read the same blocks.
        """
        self._start(reader_count)
        with self._change:
            self._wanted = []
            for shards in blocks:
                begin = len(shards) * reader_index // reader_count
                self._wanted += [*shards[begin:], *shards[:begin]]
            self._change.notify_all()

    def _start(self, reader_count: int) -> None:
        """Threads of this process: those of a process that it was forked from did not come along."""
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
            # The reader, when it comes to this shard, will try the same and say what is wrong.
            with contextlib.suppress(CorpusError, OSError):
                self._tars.prefetch(shard)
