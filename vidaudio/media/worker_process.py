"""The parent's side of a worker process: started when it is first needed, asked over a pipe, killed at a deadline.

Decoders and page parsers crash, hang and eat memory over what the web sends. In a process of their own they take one
clip or one source with them and not a shard. Starting one costs as much as its work, so it is kept between requests.
`vidaudio.media.worker_limits` is what runs inside the process.

It is started by `subprocess`: Dask's workers are daemonic, and may not have children of `multiprocessing`.
"""

from __future__ import annotations

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
from typing import IO, Any, ClassVar, Self

READ_BYTES = 1 << 20
# The folder this very package is imported from, for the worker process.
PACKAGES = str(Path(__file__).resolve().parents[2])


class WorkerDied(Exception):
    """The process ended in the middle of a request.

    Attributes:
        code: Its exit code; negative: the signal that ended it.
    """

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
        self.code = code


class WorkerLate(Exception):
    """The process had not answered by the deadline."""


class WorkerProcess:
    """One worker process, replaced after it has ended. Not to be shared between threads.

    Messages are lines of JSON, which may be followed by raw bytes that the line announces.

    Attributes:
        what: The process as messages call it.
        own_group: Whether the process leads a process group, which ends with it: for workers that start programs.
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
        """End the process, and the programs it has started where it leads a group."""
        if self._process is not None:
            if self.own_group:
                # Whatever the process has started may outlive it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        self._buffer.clear()

    def _code(self) -> str:
        """Return the Python program of the process."""
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str]:
        """Return the environment of the process."""
        return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def _started(self, errors: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen:
        """Return the process, and start it first where there is none or where it has ended."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            # The process holds one end of a pipe that nobody writes to. The kernel ends it when the other end goes,
            # see `end_with_parent`.
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

    def _send(self, message: Mapping[str, Any]) -> None:
        """Write one message.

        Raises:
            WorkerDied: Nobody reads it any more.
        """
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _read_line(self, deadline: float) -> bytes:
        """Return the next line.

        Args:
            deadline: `time.monotonic()` by which it must have come.

        Raises:
            WorkerDied: The process has ended.
            WorkerLate: The deadline has passed.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        """Return the next `length` bytes; arguments and errors as for `_read_line`."""
        while len(self._buffer) < length:
            self._fill(deadline)
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        output = self._process.stdout.fileno()
        # Not `select`, which takes no descriptor above 1023: long-lived workers may have more files open.
        ready = select.poll()
        ready.register(output, select.POLLIN)
        if left <= 0 or not ready.poll(left * 1000):
            raise WorkerLate
        data = os.read(output, READ_BYTES)
        if not data:
            raise self._death()
        self._buffer += data

    def _death(self) -> WorkerDied:
        return WorkerDied(self.what, self._process.wait())
