"""Start of the program that makes runs of several ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY


def run_rank_jobs(jobs: Sequence[dict[str, Any]], folder: Path) -> tuple[list[list[int]], str]:
    """Make runs one after another by `rank_program`, each of real processes over gloo.

    Args:
        jobs: What each run is, see `tests.training.rank_program`.
        folder: Folder for the list of jobs.

    Returns:
        Exit codes of the ranks of each run, and what they wrote to stderr.
    """
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.rank_program", str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr
