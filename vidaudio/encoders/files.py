"""Local files of an encoder, and their versions, which are cache keys of loaded encoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent


def local_files(*names: str | None) -> Iterator[Path]:
    """Yield the files of those names that are local paths; sorted within each folder.

    Args:
        names: Architecture and weights, as in `EncoderSpec`; None is skipped.
    """
    for name in names:
        path = Path(name.replace("{package}", str(PACKAGE_FOLDER))).expanduser() if name else None
        if path is None or not path.exists():
            continue
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                yield file


def file_versions(*names: str | None) -> tuple[tuple[str, int, int], ...]:
    """Return path, size in bytes and modification time of every local file of an encoder, see `local_files`.

    Weights may be replaced under the same name between two builds of one process.
    """
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in local_files(*names))
