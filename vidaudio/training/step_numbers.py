"""Numbers of a logged step and of a validation: sums over parts of a batch, and their means over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vidaudio.training.distributed import all_gather_object, sum_by_name


class StepNumbers:
    """Sums of the numbers of a step that will be logged; they stay on the device until they are taken."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}

    def add(self, totals: Mapping[str, Tensor], *, examples: int, counts: Mapping[str, int]) -> None:
        """Add a part of the step.

        Args:
            totals: Sum of each number over the part's examples; logged as a mean.
            examples: Examples of the part that count for the means.
            counts: Counts of the part; logged as sums, such as samples that replace damaged ones.
        """
        found: dict[str, Tensor | float] = {f"mean {name}": value.detach().double() for name, value in totals.items()}
        found |= {f"count {name}": value for name, value in {"examples": examples, **counts}.items()}
        for name, value in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self, device: torch.device) -> dict[str, float]:
        """Return and reset the numbers, over all ranks; every rank must call it.

        There are no means for a step in which no example counts.
        """
        sums, self._sums = self._sums, {}
        total = sum_by_name(sums, device)
        examples = total.pop("count examples")
        numbers = {}
        for key, value in total.items():
            kind, _, name = key.partition(" ")
            if kind == "count" or examples:
                numbers[f"train/{name}"] = value if kind == "count" else value / examples
        return numbers


def means_over_ranks(sums: Mapping[str, float], examples: int) -> dict[str, float]:
    """Return the mean of each number over the examples of all ranks; nothing if there are no examples.

    Args:
        sums: This rank's sums.
        examples: This rank's examples; 0 where the sums are empty.
    """
    ranks = all_gather_object((dict(sums), examples))
    total = sum(count for _, count in ranks)
    names: Mapping[str, float] = next((found for found, count in ranks if count), {})
    return {name: sum(found.get(name, 0.0) for found, _ in ranks) / total for name in names}
