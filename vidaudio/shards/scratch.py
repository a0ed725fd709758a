"""Scratch folders inside a local store, named after their process, so that those of dead ones can be told apart."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path

PREFIX = ".tmp-"


def scratch_prefix() -> str:
    """What this process's scratch folders begin with: `.tmp-<host>-<process id>-`."""
    return f"{PREFIX}{_host()}-{os.getpid()}-"


def sweep_scratch(root: Path) -> list[str]:
    """Remove scratch folders whose process on this machine is dead; returns their names.

    Folders of other machines stay: from here nobody can tell whether their processes live.
    """
    swept = []
    if not root.is_dir():
        return swept
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(PREFIX) and owner_lives(entry.name) is False:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(entry)
            swept.append(entry.name)
    return swept


def owner_lives(name: str) -> bool | None:
    """Whether the process that made a scratch folder of this name lives; None for those of other machines."""
    host, _, process = name.removeprefix(PREFIX).rpartition("-")[0].rpartition("-")
    if host != _host() or not process.isdigit():
        return None
    return _alive(int(process))


def _host() -> str:
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
