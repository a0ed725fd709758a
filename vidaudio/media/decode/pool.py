"""Decoder processes that wait for the next shard: few, and not for long.

Starting a decoder costs as much as decoding a clip, so a worker keeps its own between shards. A process that lives
long, a notebook or a service, must not keep one for every setting that it ever decoded with, nor any for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from vidaudio.cpus import available_cores
from vidaudio.media.decode.extractor import ExtractOptions, Extractor

# A build's next shard comes within a second; what waits longer is not needed any more.
IDLE_SECONDS = 60.0


class DecoderPool:
    """Idle decoders, the one that was used last taken first.

    Args:
        most: As many wait at most; one a core by default.
        idle_seconds: One that has waited for so long is closed.
        make: Makes a decoder; `Extractor` by default.
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
        """Lend a decoder with these options; after an error it does not come back."""
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
        """Close all that wait."""
        with self._lock:
            waiting, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for _, extractor in waiting:
            extractor.close()

    def _watch(self) -> None:
        """See to it that the oldest is closed in time; only with the lock."""
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
