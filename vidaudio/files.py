"""Files that are written whole or not at all, with the mode that the umask gives."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from vidaudio.text import is_utf8

# Of a name that would become too long with what is put around it, a hash takes the place.
LONGEST_NAME_BYTES = 200


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` that takes its place when the block ends without an error.

    The temporary file lies in the same folder, so that taking the place is one rename and never a copy: a process that
    is killed, a full disk or a power cut leaves the file that was there before, or none. Libraries that create files
    for their owner alone (safetensors, `tempfile`) change nothing about the mode: it is the one that the umask gives.

    Raises:
        OSError: Creating, syncing or renaming failed; it names `path` where the system named no file.
    """
    temporary = path.with_name(f".{_short(path.name)}.{secrets.token_hex(8)}.tmp")
    with naming(path, temporary):
        try:
            mode = _create(temporary)
            yield temporary
            if stat.S_IMODE(temporary.stat().st_mode) != mode:
                temporary.chmod(mode)
            sync(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path | str, instead_of: Path | None = None) -> Iterator[None]:
    """Put a file's name into errors of the system that have none: those of reading and writing an open file.

    Args:
        path: The file.
        instead_of: Another name that is replaced by this one.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(instead_of):
            error.filename = str(path)
        raise


def remove_temporaries(folder: Path, name: str = "*") -> list[Path]:
    """Remove the temporary files that killed processes left of `atomic_write`; returns them.

    Only where no process can be writing there.

    Args:
        folder: Where the final files lie.
        name: Pattern of the final names.
    """
    found = sorted({*folder.glob(f".{name}.*.tmp"), *folder.glob(f".{name}.tmp")})
    for path in found:
        path.unlink(missing_ok=True)
    return found


def name_for_c(path: str | Path) -> str | bytes:
    """Return a path for a C library that encodes texts itself: its bytes where they are not UTF-8, else the text."""
    return str(path) if is_utf8(str(path)) else os.fsencode(path)


def sync(path: Path) -> None:
    """Wait until a file's bytes are on disk: a name must not survive a power cut that its bytes did not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on disk, on file systems that can sync a folder."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise


def _create(path: Path) -> int:
    """Create an empty file; returns its mode. Asking for the umask itself would change it for all threads."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _short(name: str) -> str:
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST_NAME_BYTES else hashlib.sha256(encoded).hexdigest()[:32]
