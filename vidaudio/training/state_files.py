"""States on disk: written whole or not at all, checked to the last byte, and only so many of them.

Lightning writes a state in the system's folder for temporary files and moves it to its name, which is a copy where that
is another disk: a run that is killed meanwhile leaves half a state there. So states are written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError

from vidaudio.errors import CheckpointError
from vidaudio.files import atomic_write, remove_temporaries
from vidaudio.training.checkpoint import BEST_FILE, LAST_FILE
from vidaudio.training.state_reading import STATES_FOLDER, step_of

if TYPE_CHECKING:
    from vidaudio.tasks.separation.module import SeparationModule


class StateIO(TorchCheckpointIO):
    """Writes the trainer's states."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a state; the file appears complete or not at all.

        Raises:
            CheckpointError: It cannot be written.
        """
        with plain_errors(Path(path)):
            write_state(checkpoint, Path(path))


class PeriodicStates(pl.Callback):
    """Writes `states/step-N.ckpt` every so many steps and keeps the last ones, whichever start of the run wrote them.

    Args:
        folder: Of the run.
        every_steps: How often.
        keep_last: How many stay.
    """

    def __init__(self, folder: Path, every_steps: int, keep_last: int) -> None:
        self._folder = folder / STATES_FOLDER
        self._every_steps = every_steps
        self._keep_last = keep_last

    def on_train_start(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self._seen = trainer.global_step
        self._remove_superfluous(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, module: SeparationModule, *_: Any) -> None:
        step = trainer.global_step
        if step == self._seen:
            return
        self._seen = step
        if step % self._every_steps == 0:
            trainer.save_checkpoint(self._folder / f"step-{step:08d}.ckpt")
            self._remove_superfluous(trainer)

    def _remove_superfluous(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            written = [path for path in periodic_states(self._folder) if step_of(path) <= trainer.global_step]
            for path in written[: -self._keep_last]:
                path.unlink(missing_ok=True)


def periodic_states(folder: Path) -> list[Path]:
    """Return the states in a run's folder of states, by step."""
    found = [path for path in folder.glob("*.ckpt") if step_of(path) is not None]
    return sorted(found, key=lambda path: (step_of(path), path.name))


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a state under its name, complete or not at all.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        sink = _Sink(temporary)
        try:
            with sink.file:
                torch.save(state, sink)
        except Exception:
            # PyTorch raises an error of its own about an archive that was not finished.
            if sink.error is not None:
                raise sink.error from None
            raise


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove what killed starts of a run left half written.

    Args:
        folder: Of the run.
        names: Of further files in it that are written whole.
    """
    for name in (LAST_FILE, BEST_FILE, *names):
        remove_temporaries(folder, name)
    remove_temporaries(folder / STATES_FOLDER, "step-*.ckpt")


@contextmanager
def plain_errors(target: Path) -> Iterator[None]:
    """Turn a full disk and the like into one sentence; what stood there before stands."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        stands = "the one written before stands" if target.is_file() else _others(target)
        raise CheckpointError(f"{target} could not be written: {why}; {stands}. Make room and --resume") from error


def _others(target: Path) -> str:
    run = target.parent.parent if target.parent.name == STATES_FOLDER else target.parent
    written = (run / LAST_FILE).is_file() or bool(periodic_states(run / STATES_FOLDER))
    return "states written before stand" if written else "there is none from before"


class _Sink:
    """A file that remembers why it could not be written."""

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
