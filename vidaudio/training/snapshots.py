"""Snapshots of a run's power-function averages, from which averages of other widths are made after training.

A snapshot is a safetensors file, `averages/step-N.safetensors`, which appears complete or not at all. It holds the
weights of every width, each under the number of its width and its own name, and the widths in its header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidaudio.errors import CheckpointError
from vidaudio.files import atomic_write, remove_temporaries
from vidaudio.json_values import parse_object
from vidaudio.training.power_profiles import LEAST_WIDTH, MOST_WIDTH
from vidaudio.training.state_reading import SNAPSHOTS_FOLDER, is_count

SNAPSHOT_FORMAT = 1
_METADATA_KEY = "vidaudio_averages"
_NAME = re.compile(r"step-(\d+)\.safetensors")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Snapshot on disk.

    Attributes:
        path: Path of the file.
        step: Steps of the run that were averaged.
        widths: Widths sigma_rel of the averages.
    """

    path: Path
    step: int
    widths: tuple[float, ...]

    @contextmanager
    def open(self) -> Iterator[OpenSnapshot]:
        """Open the file to read tensors one at a time.

        Raises:
            CheckpointError: When the file cannot be read.
        """
        with _readable(self.path), safe_open(self.path, framework="pt") as opened:
            yield OpenSnapshot(opened)


class OpenSnapshot:
    """Snapshot whose tensors can be read.

    Args:
        opened: File that safetensors opened.
    """

    def __init__(self, opened: safe_open) -> None:
        self._opened = opened
        self._names = set(opened.keys())

    def tensor(self, width: int, name: str) -> Tensor | None:
        """Return a tensor of the average of a width, by the number of the width; None if the file lacks it."""
        full = f"{width}/{name}"
        return self._opened.get_tensor(full) if full in self._names else None


def snapshot_path(run: Path, step: int) -> Path:
    """Return the path of a run's snapshot after some steps."""
    return run / SNAPSHOTS_FOLDER / f"step-{step:08d}.safetensors"


def write_snapshot(path: Path, averages: Mapping[float, Mapping[str, Tensor]], step: int, *, half: bool) -> None:
    """Write averages of several widths.

    Args:
        path: Path of the file.
        averages: Weights by width and name.
        step: Steps that were averaged.
        half: Whether to write half precision; tensors with values beyond its range are written as they are.

    Raises:
        OSError, SafetensorError: When it cannot be written.
    """
    tensors = {
        f"{number}/{name}": _halved(tensor) if half else tensor.detach().cpu().contiguous()
        for number, weights in enumerate(averages.values())
        for name, tensor in weights.items()
    }
    described = {"format": SNAPSHOT_FORMAT, "step": step, "sigma_rel": list(averages)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(described)})


def read_snapshots(run: Path) -> list[Snapshot]:
    """Return the snapshots of a run, ordered by step; only their headers are read.

    Raises:
        CheckpointError: When a snapshot is damaged.
    """
    found = [_described(path, step) for path, step in _files(run)]
    return sorted(found, key=lambda snapshot: snapshot.step)


def remove_later_snapshots(run: Path, step: int) -> None:
    """Delete the snapshots of more than `step` steps, and temporary files of killed processes."""
    remove_temporaries(run / SNAPSHOTS_FOLDER, "step-*.safetensors")
    for path, own in _files(run):
        if own > step:
            path.unlink(missing_ok=True)


def _files(run: Path) -> list[tuple[Path, int]]:
    named = [(path, _NAME.fullmatch(path.name)) for path in (run / SNAPSHOTS_FOLDER).glob("*.safetensors")]
    return [(path, int(match[1])) for path, match in named if match is not None]


def _halved(tensor: Tensor) -> Tensor:
    own = tensor.detach().cpu().contiguous()
    if own.dtype != torch.float32:
        return own
    half = own.half()
    return half if bool(torch.isfinite(half).all()) else own


def _described(path: Path, step: int) -> Snapshot:
    with _readable(path), safe_open(path, framework="pt") as opened:
        text = (opened.metadata() or {}).get(_METADATA_KEY)
    try:
        described = parse_object(text or "")
    except ValueError:
        described = {}
    widths = described.get("sigma_rel")
    is_whole = described.get("format") == SNAPSHOT_FORMAT and is_count(described.get("step")) and _are_widths(widths)
    if not is_whole or described["step"] != step or not step:
        raise CheckpointError(f"{path} is not a snapshot of averages as a training writes it; delete it")
    return Snapshot(path, step, tuple(map(float, widths or ())))


def _are_widths(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(width, float) and LEAST_WIDTH <= width <= MOST_WIDTH for width in value)
        and len(set(value)) == len(value)
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole snapshot of averages ({error}); delete it") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
