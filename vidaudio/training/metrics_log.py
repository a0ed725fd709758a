"""Log of a run's numbers and speed: `logs/metrics.csv`, and TensorBoard or W&B.

Every number is of a whole step, over all ranks and accumulated parts, so that it does not depend on their number. Steps
count from 1: the row of step 50 describes the 50th step.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidaudio.files import atomic_write, naming, remove_temporaries
from vidaudio.training.log_writers import LogWriter

LOGS_FOLDER, METRICS_FILE = "logs", "metrics.csv"


class MetricsFile:
    """CSV file that a resumed run continues; rows of steps that the run makes again are dropped.

    Args:
        path: Path of the file.
        step: Steps that the run has made.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path.parent, path.name)
        self._columns, rows = ["step"], []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                # The last line may be incomplete if the process was killed.
                rows = [row for row in reader if (row.get("step") or "").isdigit() and int(row["step"]) <= step]
                self._columns = list(reader.fieldnames or self._columns)
        self._rows = rows
        self._write_all()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the row of a step; new numbers become new columns."""
        row: dict[str, Any] = {"step": step, **{name: repr(float(value)) for name, value in numbers.items()}}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns = ["step", *sorted({*self._columns, *new} - {"step"})]
            self._write_all()
            return
        with naming(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _write_all(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self._rows)
        with atomic_write(self.path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")


class MetricsLogger:
    """Writer of the numbers of every so many steps, and of every validation; only rank 0 writes.

    Args:
        folder: Folder of the run.
        batch_size: Examples per step.
        example: Word for one example.
        writers: Further destinations of the numbers; empty on ranks that do not write.
        writes: Whether this process writes, which is rank 0.
    """

    def __init__(
        self, folder: Path, batch_size: int, example: str, writers: Sequence[LogWriter], *, writes: bool
    ) -> None:
        self._path = folder / LOGS_FOLDER / METRICS_FILE
        self._batch_size = batch_size
        self._example = example
        self.writers = writers
        self._writes = writes
        self._file: MetricsFile | None = None

    def begin(self, step: int) -> None:
        """Open the file, and measure speed from now on; `step` steps are done."""
        if self._writes:
            self._file = MetricsFile(self._path, step)
        self._restart(step)

    def _restart(self, step: int) -> None:
        self._began, self._first_step = time.perf_counter(), step
        self._waited = self._elsewhere = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of the speed."""
        began = time.perf_counter()
        yield
        self._elsewhere += time.perf_counter() - began

    def log_step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a step, and the speed since the last time."""
        seconds = max(time.perf_counter() - self._began - self._elsewhere, 1e-9)
        speed = {
            f"speed/{self._example}s_per_second": (step - self._first_step) * self._batch_size / seconds,
            "speed/waiting_for_data": self._waited / seconds,
        }
        self._write(step, {**numbers, **speed})
        self._restart(step)

    def log_validation(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a validation."""
        self._write(step, numbers)

    def _write(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._file is None:
            return
        self._file.add(step, numbers)
        for writer in self.writers:
            writer.add_numbers(numbers, step)

    def close(self) -> None:
        """Close the writers."""
        for writer in self.writers:
            writer.close()
