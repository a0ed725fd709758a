"""Pool of idle decoder processes that wait for the next shard, limited in number and in time.

Starting a decoder costs as much as decoding a clip, so a worker keeps its decoder between shards. A process that lives
long, such as a notebook or a service, must not keep one for every setting it ever decoded with, nor any decoder
forever.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from vidaudio.cpus import available_cores
from vidaudio.media.decode.extractor import ExtractOptions, Extractor

# A build's next shard comes within a second; a decoder that waits longer is no longer needed.
IDLE_SECONDS = 60.0


class DecoderPool:
    """Pool of idle decoders; the most recently used one with the same options is taken first.

    Args:
        most: Maximum number of idle decoders; None means one per available core.
        idle_seconds: Idle time after which a decoder is closed, seconds.
        make: Function that creates a decoder from its options.
    """

    def __init__(
        self,
        most: int | None = None,
        idle_seconds: float = IDLE_SECONDS,
        make: Callable[[ExtractOptions], Extractor] = Extractor,
    ) -> None:
        self._most = available_cores() if most is None else most
        self._idle_seconds, self._make = idle_seconds, make
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Extractor]] = []
        self._timer: threading.Timer | None = None

    def __len__(self) -> int:
        return len(self._idle)

    @contextlib.contextmanager
    def borrowed(self, options: ExtractOptions) -> Iterator[Extractor]:
        """Lend a decoder with these options; after an error it is closed instead of returned to the pool."""
        with self._lock:
            found = next((n for n in reversed(range(len(self._idle))) if self._idle[n][1].options == options), None)
            extractor = None if found is None else self._idle.pop(found)[1]
        extractor = extractor or self._make(options)
        try:
            yield extractor
        except BaseException:
            extractor.close()
            raise
        with self._lock:
            self._idle.append((time.monotonic(), extractor))
            excess = [self._idle.pop(0)[1] for _ in range(len(self._idle) - self._most)]
            self._watch()
        for surplus in excess:
            surplus.close()

    def clear(self) -> None:
        """Close all idle decoders."""
        with self._lock:
            waiting, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for _, extractor in waiting:
            extractor.close()

    def _watch(self) -> None:
        """Start a timer that closes the oldest decoder in time; the caller must hold the lock."""
        if self._timer is None and self._idle:
            wait = max(0.0, self._idle[0][0] + self._idle_seconds - time.monotonic())
            self._timer = threading.Timer(wait, self._close_old)
            self._timer.daemon = True
            self._timer.start()

    def _close_old(self) -> None:
        with self._lock:
            self._timer = None
            before = time.monotonic() - self._idle_seconds
            old = [extractor for since, extractor in self._idle if since <= before]
            self._idle = [(since, extractor) for since, extractor in self._idle if since > before]
            self._watch()
        for extractor in old:
            extractor.close()


decoders = DecoderPool()
atexit.register(decoders.clear)
