"""Progress bar of a run: steps done, time left, and the numbers that say whether the model learns."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from torch import Tensor
from tqdm import tqdm

# Reading the loss makes the device wait, so it is not read at every step of a fast system.
REFRESH_SECONDS = 2.0


class ProgressBar:
    """Progress bar on stderr.

    Args:
        steps: Steps of the whole run.
        done: Steps that are made already.
    """

    def __init__(self, steps: int, done: int) -> None:
        self._bar = tqdm(total=steps, initial=done, desc="training", unit="step", dynamic_ncols=True)
        self._next_refresh = -math.inf

    def update(self, step: int, loss: Tensor, headline: Mapping[str, str]) -> None:
        """Show that `step` steps are done, with the last loss and the figures of the last validation."""
        self._bar.update(step - self._bar.n)
        if time.monotonic() >= self._next_refresh:
            self._next_refresh = time.monotonic() + REFRESH_SECONDS
            self._bar.set_postfix({"loss": f"{float(loss):.3f}", **headline}, refresh=False)

    def close(self) -> None:
        """Close the bar; it remains on the screen."""
        self._bar.close()
