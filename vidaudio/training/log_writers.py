"""Writers of a run's numbers, images and sounds beside `logs/metrics.csv`: TensorBoard and W&B."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidaudio.errors import RecipeError
from vidaudio.files import atomic_write

if TYPE_CHECKING:
    from vidaudio.training.blocks import LogBlock

TENSORBOARD_FOLDER, WANDB_FILE = "tensorboard", "wandb_id.txt"


class LogWriter(ABC):
    """Destination of a run's numbers, images and sounds."""

    @abstractmethod
    def add_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by name."""

    @abstractmethod
    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 `[height, width, 3]`."""

    @abstractmethod
    def add_audio(self, name: str, samples: np.ndarray, sample_rate: int, step: int) -> None:
        """Write a sound, float `[samples]` in [-1, 1]."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left and close the destination."""


class TensorBoardWriter(LogWriter):
    """Writer of event files for TensorBoard.

    Args:
        folder: Folder of the event files.
        step: Steps that the run has made; entries of later steps, from a killed process, are hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def add_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by name."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 `[height, width, 3]`."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def add_audio(self, name: str, samples: np.ndarray, sample_rate: int, step: int) -> None:
        """Write a sound, float `[samples]` in [-1, 1]."""
        self._writer.add_audio(name, samples, step, sample_rate=sample_rate)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbWriter(LogWriter):
    """Writer to a W&B run; a resumed run continues the same W&B run.

    Args:
        folder: Folder of the run; its name is the W&B run's name, and it keeps the W&B run's id.
        project: W&B project.

    Raises:
        RecipeError: When W&B is not installed.
    """

    def __init__(self, folder: Path, project: str) -> None:
        try:
            import wandb
        except ImportError:
            raise RecipeError(
                "log.to is wandb, and wandb is not installed: pip install wandb, or --set log.to=tensorboard"
            ) from None
        remembered = folder / WANDB_FILE
        known = remembered.read_text().strip() if remembered.is_file() else None
        self._wandb = wandb
        self._run = wandb.init(name=folder.name, project=project, dir=str(folder), id=known, resume="allow")
        with atomic_write(remembered) as temporary:
            temporary.write_text(f"{self._run.id}\n")

    def add_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by name."""
        self._log(dict(numbers), step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 `[height, width, 3]`."""
        self._log({name: self._wandb.Image(image)}, step)

    def add_audio(self, name: str, samples: np.ndarray, sample_rate: int, step: int) -> None:
        """Write a sound, float `[samples]` in [-1, 1]."""
        self._log({name: self._wandb.Audio(samples, sample_rate=sample_rate)}, step)

    def _log(self, values: dict, step: int) -> None:
        # W&B drops entries of a step that it has passed, so the step is an entry of its own, to order by.
        self._run.log({**values, "step": step})

    def close(self) -> None:
        """Upload what is left and end the process of W&B."""
        self._run.finish()


def make_writer(block: LogBlock, folder: Path, step: int) -> LogWriter | None:
    """Return the writer that a recipe names; None if it names none.

    Args:
        block: The recipe's `log` block.
        folder: Folder of the run.
        step: Steps that the run has made.

    Raises:
        RecipeError: When W&B is wanted and not installed.
    """
    if block.to == "tensorboard":
        return TensorBoardWriter(folder / TENSORBOARD_FOLDER, step)
    if block.to == "wandb":
        return WandbWriter(folder, block.wandb_project)
    return None
