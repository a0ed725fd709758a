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
        host, _, rest = entry.name.removeprefix(PREFIX).rpartition("-")[0].rpartition("-")
        if not (entry.name.startswith(PREFIX) and host == _host() and rest.isdigit()):
            continue
        if not _alive(int(rest)):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(entry)
            swept.append(entry.name)
    return swept


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
