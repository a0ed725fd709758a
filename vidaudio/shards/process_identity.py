"""Identity of a process that is valid across machines and containers which share a disk.

Containers often have equal host names, and each has a process 1. So a process is identified by the machine's current
boot, the namespace of its process number, the number, and its start time. Whether a process lives can be seen only from
the same namespace of the same boot; from anywhere else it is unknown.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

_TEXT = re.compile(r"([0-9a-f]{8})([0-9a-f]{8})-(\d+)-(\d+)-(\d+)(?!\d)")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Identity of one process among those of all machines and times.

    Attributes:
        boot: Hash of the kernel's current boot id; containers of one machine share it.
        host: Hash of the host's name, which distinguishes virtual machines that were started from one snapshot.
        namespace: Inode of the namespace of process numbers; 0 if the system has none.
        number: Process id in that namespace.
        started: Start time in the system's ticks since boot; 0 if unknown.
    """

    boot: str
    host: str
    namespace: int
    number: int
    started: int

    def __str__(self) -> str:
        """Return a text for file names, without dots and slashes; `parse_identity` reads it."""
        return f"{self.boot}{self.host}-{self.namespace}-{self.number}-{self.started}"

    def sees(self, other: ProcessIdentity) -> bool:
        """Return whether this process can find out if another process lives."""
        return (self.boot, self.host, self.namespace) == (other.boot, other.host, other.namespace)


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process."""
    number = os.getpid()
    return ProcessIdentity(_hash(boot_id()), _hash(socket.gethostname()), namespace(), number, started(number))


def parse_identity(text: str) -> ProcessIdentity | None:
    """Return the identity at the beginning of a text; None if there is none."""
    found = _TEXT.match(text)
    return ProcessIdentity(found[1], found[2], *map(int, found.groups()[2:])) if found else None


def is_alive(process: ProcessIdentity) -> bool | None:
    """Return whether a process lives; None if that cannot be seen from here."""
    if not this_process().sees(process):
        return None
    try:
        now = started(process.number)
    except ProcessLookupError:
        return False
    return now == process.started or 0 in (now, process.started)


def started(number: int) -> int:
    """Return the ticks from boot to a process's start; 0 if the system does not show them.

    Unlike a time of day, this number does not change when the clock is set. A process that has ended but has not been
    waited for counts as gone.

    Raises:
        ProcessLookupError: When no such process exists.
    """
    if not _proc_counts_as_we_do():
        return _started_without_proc(number)
    try:
        # The process name, in brackets, may contain any character.
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        # The process may be hidden rather than gone.
        _require_process(number)
        return 0
    except OSError:
        return 0
    if fields[0] in (b"Z", b"X", b"x"):
        raise ProcessLookupError(number)
    return int(fields[19])


@functools.cache
def boot_id() -> str:
    """Return the kernel's id of its current boot; empty if it has none."""
    told = Path("/proc/sys/kernel/random/boot_id")
    return told.read_text().strip() if told.exists() else ""


def namespace() -> int:
    """Return the inode of this process's namespace of process numbers; 0 if there is none."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _proc_counts_as_we_do() -> bool:
    """Return whether /proc shows the namespace of this process, not that of an outer container."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _started_without_proc(number: int) -> int:
    _require_process(number)
    if Path("/proc/self").exists():
        return 0
    import psutil

    try:
        process = psutil.Process(number)
        if process.status() == psutil.STATUS_ZOMBIE:
            raise ProcessLookupError(number)
        return int(process.create_time() * 100)
    except psutil.AccessDenied:
        return 0
    except psutil.NoSuchProcess:
        raise ProcessLookupError(number) from None


def _require_process(number: int) -> None:
    try:
        os.kill(number, 0)
    except PermissionError:
        return
