"""Writing of a run's state files: each appears under its name complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError

from vidaudio.errors import CheckpointError
from vidaudio.files import atomic_write, remove_temporaries
from vidaudio.training.checkpoint import BEST_FILE
from vidaudio.training.state_reading import LAST_FILE, SNAPSHOTS_FOLDER, STATES_FOLDER, step_of


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a state as `write_state` does, with plain errors.

    Raises:
        CheckpointError: When it cannot be written.
    """
    with plain_errors(path):
        write_state(state, path)


def periodic_states(folder: Path) -> list[Path]:
    """Return the states in a run's `states` folder, ordered by step."""
    found = [path for path in folder.glob("*.ckpt") if step_of(path) is not None]
    return sorted(found, key=lambda path: (step_of(path), path.name))


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a state; the file appears complete or not at all.

    Raises:
        OSError: When it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        sink = _Sink(temporary)
        try:
            with sink.file:
                torch.save(state, sink)  # type: ignore[arg-type] # PyTorch only writes and flushes
        except Exception:
            # PyTorch raises an error of its own about an archive that was not finished.
            if sink.error is not None:
                raise sink.error from None
            raise


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove temporary files that killed starts of a run left behind.

    Args:
        folder: Folder of the run.
        names: Names of further files in the folder that are written through temporary files.
    """
    for name in (LAST_FILE, BEST_FILE, *names):
        remove_temporaries(folder, name)
    remove_temporaries(folder / STATES_FOLDER, "step-*.ckpt")


@contextmanager
def plain_errors(target: Path) -> Iterator[None]:
    """Turn write errors, such as a full disk, into a CheckpointError of one sentence; the earlier file is kept."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        stands = "the one written before stands" if target.is_file() else _others(target)
        raise CheckpointError(f"{target} could not be written: {why}; {stands}. Make room and --resume") from error


def _others(target: Path) -> str:
    run = target.parent.parent if target.parent.name in (STATES_FOLDER, SNAPSHOTS_FOLDER) else target.parent
    written = (run / LAST_FILE).is_file() or bool(periodic_states(run / STATES_FOLDER))
    return "states written before stand" if written else "there is none from before"


class _Sink:
    """File that keeps the first error of writing it."""

    def __init__(self, path: Path) -> None:
        self.file: IO[bytes] = path.open("wb")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()
