"""benchmarks/gpu_steps.json: a row a variant that was measured, and a sentence a variant that could not be.

Written anew after every variant, so that a run that is cut short has lost none. Rows of other machines and of other
batch sizes stay; a row of the same variant gives way to the newer one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BENCHMARK = "gpu_steps"


@dataclass(frozen=True, slots=True)
class Variant:
    """What is measured, and on what: two rows of one variant are of the same thing.

    Attributes:
        system: Name of its recipe.
        compiled: By torch.compile.
        batch_size: Mixtures a step.
        machine: GPU and processor, in words.
        quick: Only tried, at tiny sizes.
    """

    system: str
    compiled: bool
    batch_size: int
    machine: str
    quick: bool

    def __str__(self) -> str:
        return f"{self.system}{', compiled' if self.compiled else ''}, batches of {self.batch_size}"

    def is_of(self, row: Mapping[str, Any]) -> bool:
        return all(row.get(name, False) == value for name, value in asdict(self).items())


class StepsFile:
    """The file, read when it is opened and written after every change; without a path nothing is.

    Args:
        path: Of the file; None to keep nothing.
        machine: As `benchmarks.common.machine` describes it, of the last who wrote.

    Raises:
        SystemExit: There is such a file, and it is of something else.
    """

    def __init__(self, path: Path | None, machine: Mapping[str, Any]) -> None:
        self.path = path
        self._machine = dict(machine)
        self.rows: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        if path is not None and path.is_file():
            self.rows, self.failed = _read(path)

    def supports(self, variant: Variant, commit: str) -> bool:
        """Whether a variant was measured at this commit.

        Changes that are not committed do not count: where this file is kept in the tree, it is one itself.
        """
        clean = commit.removesuffix("-dirty")
        return any(variant.is_of(row) and row["commit"].removesuffix("-dirty") == clean for row in self.rows)

    def add(self, variant: Variant, figures: Mapping[str, Any]) -> None:
        """Keep a variant's figures, in the place of older ones and of a failure."""
        self.rows = [row for row in self.rows if not variant.is_of(row)] + [_row(variant, figures)]
        self.failed = [row for row in self.failed if not variant.is_of(row)]
        self._write(figures["commit"])

    def note_failure(self, variant: Variant, said: Mapping[str, Any]) -> None:
        """Keep why a variant could not be measured; what an earlier commit reached stays true."""
        self.failed = [row for row in self.failed if not variant.is_of(row)] + [_row(variant, said)]
        self._write(said["commit"])

    def _write(self, commit: str) -> None:
        if self.path is None:
            return
        written = {
            "benchmark": BENCHMARK,
            "commit": commit,
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": self._machine,
            "settings": {"quick": all(row.get("quick", False) for row in [*self.rows, *self.failed])},
            "results": self.rows,
            "failed": self.failed,
        }
        temporary = self.path.with_suffix(".json.tmp")
        temporary.write_text(json.dumps(written, indent=2) + "\n")
        temporary.replace(self.path)


def _row(variant: Variant, figures: Mapping[str, Any]) -> dict[str, Any]:
    """System and figures first, as they are read; where and when last."""
    named = asdict(variant)
    return {
        **{name: named[name] for name in ("system", "compiled", "batch_size")},
        **figures,
        "machine": variant.machine,
        **({"quick": True} if variant.quick else {}),
    }


def _read(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_text())
        rows, failed = content["results"], content.get("failed", [])
        for row in [*rows, *failed]:
            if not isinstance(row["commit"], str) or not isinstance(row["system"], str):
                raise ValueError("a row without system or commit")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{path} is no file of {BENCHMARK} ({error!r}); name another: --output FILE") from None
    return rows, failed
