"""The parent's side of a worker process: started when first needed, asked over a pipe, killed at a deadline.

Decoders and page parsers crash, hang and use too much memory on what they get from the web. In a process of their own
they cost one clip or one source and not a shard. Starting a process costs as much as its work, so it is kept between
requests. `vidaudio.media.worker_limits` runs inside the process.

The process is started by `subprocess`, because Dask's workers are daemonic and may not have children of
`multiprocessing`.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Self

READ_BYTES = 1 << 20
# Folder from which this package is imported, for the worker process.
PACKAGES = str(Path(__file__).resolve().parents[2])


class WorkerDied(Exception):
    """Error for a process that ended in the middle of a request.

    Attributes:
        code: Exit code of the process; a negative number is the signal that ended it.
    """

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
        self.code = code


class WorkerLate(Exception):
    """Error for a process that did not answer by the deadline."""


class WorkerProcess(abc.ABC):
    """One worker process, replaced after it has ended; must not be shared between threads.

    Messages are lines of JSON, which may be followed by raw bytes that the line announces.

    Attributes:
        what: Name of the process in messages.
        own_group: Whether the process leads a process group that is killed with it, for workers that start programs.
    """

    what: ClassVar[str] = "the worker process"
    own_group: ClassVar[bool] = False

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._buffer = bytearray()
        self._lifeline: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and also the programs that it started if it leads a process group."""
        if self._process is not None:
            if self.own_group:
                # Programs that the process has started may outlive it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        self._buffer.clear()

    @abc.abstractmethod
    def _code(self) -> str:
        """Return the Python program of the process."""

    def _environment(self) -> Mapping[str, str]:
        """Return the environment of the process."""
        return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def _started(self, errors: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen:
        """Return the running process; start it if there is none or if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            # The process holds one end of a pipe that nobody writes to. When the other end closes, the kernel ends the
            # process; see `end_with_parent`.
            read_end, self._lifeline = os.pipe()
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", self._code(), str(read_end)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=self._environment(),
                    pass_fds=(read_end,),
                    process_group=0 if self.own_group else None,
                )
            finally:
                os.close(read_end)
        return self._process

    def _pipe(self, name: Literal["stdin", "stdout"]) -> IO[bytes]:
        """Return a pipe of the running process."""
        pipe = getattr(self._process, name)
        assert pipe is not None, "the process does not run"
        return pipe

    def _send(self, message: Mapping[str, Any]) -> None:
        """Write one message.

        Raises:
            WorkerDied: When the process no longer reads.
        """
        try:
            self._pipe("stdin").write(json.dumps(message).encode() + b"\n")
            self._pipe("stdin").flush()
        except BrokenPipeError:
            raise self._death() from None

    def _read_line(self, deadline: float) -> bytes:
        """Return the next line.

        Args:
            deadline: Time limit as a value of `time.monotonic()`.

        Raises:
            WorkerDied: When the process has ended.
            WorkerLate: When the deadline has passed.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        """Return the next `length` bytes; argument and errors as for `_read_line`."""
        while len(self._buffer) < length:
            self._fill(deadline)
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        output = self._pipe("stdout").fileno()
        # `select` is not used: it takes no descriptor above 1023, and long-lived workers may have more files open.
        ready = select.poll()
        ready.register(output, select.POLLIN)
        if left <= 0 or not ready.poll(left * 1000):
            raise WorkerLate
        data = os.read(output, READ_BYTES)
        if not data:
            raise self._death()
        self._buffer += data

    def _death(self) -> WorkerDied:
        assert self._process is not None
        return WorkerDied(self.what, self._process.wait())
