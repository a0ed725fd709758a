"""Errors of loader processes, each in one sentence: what failed, where, and what to do about it.

An exception is sent to the training process by pickle. An exception whose type pickle cannot find again (S3 clients
create such types at run time) would never arrive, and the training would wait for its batch for ever. So every other
exception in a loader process becomes a `LoaderError` there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from vidaudio.errors import LoaderError, VidaudioError
from vidaudio.text import first_line

SHARED_MEMORY = Path("/dev/shm")
FULL_BELOW_BYTES = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.ENOENT, errno.EACCES, errno.ENOSYS, errno.EROFS)
# Messages of PyTorch and the system when shared memory has no room for a batch.
_NO_SHARED_MEMORY = re.compile(
    r"allocate shared memory|open shared memory object|shared memory limit|out of shared memory|bus error|\(shm\)|"
    r"unable to (resize|mmap|open) (file|memory|\d+ bytes).*(torch_|filename not specified|No space|allocate memory)",
    re.IGNORECASE | re.DOTALL,
)
_TOO_MANY_FILES = re.compile(r"too many open files|received \d+ items of ancdata", re.IGNORECASE)
_FROM_ANOTHER = re.compile(r"^Caught .* in (DataLoader worker process|pin memory thread)")

Item = TypeVar("Item")


def with_readable_errors(batches: Iterator[Item], what: str) -> Iterator[Item]:
    """Yield the items of an iterator in a loader process; convert its exceptions to errors that can be pickled.

    Args:
        batches: The iterator.
        what: Name of the process, for the error message.

    Raises:
        VidaudioError: When the iterator raises one.
        LoaderError: When the iterator raises anything else.
    """
    try:
        yield from batches
    except Exception as error:
        raise readable(error, what) from error


def readable(error: Exception, what: str) -> VidaudioError:
    """Return an error as one that can be sent to another process and shown to a user."""
    if isinstance(error, VidaudioError):
        # Pickle rebuilds an exception from its message: a class whose constructor takes more would not arrive.
        return error if type(error).__init__ is Exception.__init__ else LoaderError(str(error))
    return LoaderError(sentence(what, _in_words(error), error))


def sentence(what: str, cause: str, error: BaseException | None = None) -> str:
    """Return the message for a failure in or around a loader process.

    Args:
        what: What failed.
        cause: Reason that PyTorch or the system gave.
        error: The exception, if it was raised in this process; None otherwise.
    """
    # An error that names a file concerns that file's disk, not shared memory.
    nameless = isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None
    if _NO_SHARED_MEMORY.search(cause) or (nameless and not _shared_memory_serves()):
        return (
            f"{what} found no room for a batch in shared memory: {SHARED_MEMORY} {_room()} ({cause}). Give it more "
            "(docker run --shm-size=2g; mount -o remount,size=2g /dev/shm), or use fewer loader processes "
            "(--set data.workers=0 uses none) or smaller batches"
        )
    if _TOO_MANY_FILES.search(cause):
        return (
            f"{what} could open no more files ({cause}). Allow more (ulimit -n 65536), or use fewer loader processes "
            "(--set data.workers=0 uses none)"
        )
    return f"{what} failed: {cause}"


def sent_error(text: str) -> tuple[str, str] | None:
    """Return type and message of an exception that PyTorch sent from another process or thread; None for other text."""
    if not _FROM_ANOTHER.match(text):
        return None
    lines = text.rstrip().splitlines()
    # The message follows the last line of code.
    code = max((place for place, line in enumerate(lines) if line.startswith("  ")), default=0)
    kind, _, message = "\n".join(lines[code + 1 :] or lines[-1:]).partition(": ")
    return kind.rpartition(".")[2].strip(), message.strip()


def _in_words(error: BaseException) -> str:
    first = first_line(error)
    return first if type(error).__name__ in first else f"{type(error).__name__}: {first}"


def _shared_memory_serves() -> bool:
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return False
    return free >= FULL_BELOW_BYTES and os.access(SHARED_MEMORY, os.W_OK)


def _room() -> str:
    try:
        room = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return "is missing"
    return f"holds {room.total / 1e6:.1f} MB, of which {room.free / 1e6:.1f} MB are free"
