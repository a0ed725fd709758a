"""What tests of the listening test share: folders of short tones, and tables of items about them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def tone(path: Path, *, hertz: float = 440.0, seconds: float = 0.1, amplitude: float = 0.1, channels: int = 1) -> Path:
    """Write a sine, by the suffix's format."""
    values = amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(values[:, None], channels, axis=1), RATE)
    return path


def make_systems(folder: Path, systems: Sequence[str], items: Sequence[str], **sound: float) -> dict[str, Path]:
    """A folder of tones for every system, every one of another pitch."""
    for place, system in enumerate(systems):
        for number, item in enumerate(items):
            tone(folder / system / f"{item}.wav", hertz=200 + 50 * place + 300 * number, **sound)
    return {system: folder / system for system in systems}


def write_items(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """A CSV table with the first row's keys as header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
