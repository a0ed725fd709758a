"""A small disk that can be filled: a tmpfs where mounting is allowed."""

from __future__ import annotations

import subprocess
from pathlib import Path

MEGABYTES = 48


class Disk:
    """A folder to build in.

    Attributes:
        folder: Where.
        small: Whether it is a file system of its own; elsewhere a full disk is make-believe (`tests.chaos.points`).
    """

    def __init__(self, folder: Path, control: Path) -> None:
        folder.mkdir()
        self.folder, self._control = folder, control
        options = ["-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
        self.small = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0

    def make_room(self) -> None:
        """Take back what `tests.chaos.points.fill` has done."""
        (self.folder / "filler").unlink(missing_ok=True)
        (self._control / "full").unlink(missing_ok=True)

    def close(self) -> None:
        if self.small:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
