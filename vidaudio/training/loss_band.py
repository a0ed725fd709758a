"""Loss band: whether a run's loss lies where that of healthy runs of its recipe lies, early in the run.

A wrong learning rate, a wrong scale of the sounds or silent sounds show in the loss within the first steps. A recipe
may hold the range of healthy runs at some steps (`vidaudio.training.blocks.BandBlock`). The geometric mean of the last
logged values is compared with it, because single values are noisy. A run that leaves its band goes on: the band only
warns.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from vidaudio.training.blocks import BandBlock

Side = Literal["above", "below", "not finite"]

# Name in the log: 1 while the mean is inside the band, 0 while it is outside.
INSIDE = "train/inside_band"
_STATE_TYPES = {"number": str, "values": list, "is_outside": bool, "inside_since_exit": int, "exits": list}
_CAUSES: Mapping[Side, str] = {
    "above": (
        "optimiser.learning_rate is far too high or too low, the weights do not change, the sounds have another level "
        "than those of other corpora, or the loss does not fit the model"
    ),
    "below": "the sounds are silent or nothing but noise, or the loss is scaled down",
    "not finite": "optimiser.learning_rate is too high, or numbers overflow (precision=float32 helps)",
}


@dataclass(frozen=True, slots=True)
class BandExit:
    """Moment at which a run's loss left the band of its recipe.

    Attributes:
        step: Steps done.
        side: `above`, `below` or `not finite`.
        mean: Geometric mean of the last logged values.
        low, high: Band at this step; None where the recipe has none and the loss is not finite.
    """

    step: int
    side: Side
    mean: float
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a mean that is not finite is None."""
        return asdict(self) | {"mean": self.mean if math.isfinite(self.mean) else None}


def limits(block: BandBlock, step: int) -> tuple[float, float] | None:
    """Return the band at a step, interpolated linearly in the logarithms of step and value; None outside its points."""
    steps = [point[0] for point in block.points]
    if not steps[0] <= step <= steps[-1]:
        return None
    after = max(1, bisect.bisect_left(steps, step))
    (begin, *begin_values), (end, *end_values) = block.points[after - 1 : after + 1]
    share = math.log(step / begin) / math.log(end / begin)
    low, high = (a ** (1 - share) * b**share for a, b in zip(begin_values, end_values, strict=True))
    return low, high


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean; a value below 0 counts as 0, and one that is not finite is returned itself."""
    unusable = [value for value in values if not math.isfinite(value)]
    if unusable:
        return unusable[-1]
    if min(values) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def side_of(mean: float, band: tuple[float, float] | None) -> Side | None:
    """Return on which side of a band a mean lies; None if it is inside."""
    if not math.isfinite(mean) or band is None:
        return "not finite"
    return "below" if mean < band[0] else "above" if mean > band[1] else None


class BandWatch:
    """Comparison of a run's logged loss with the band of its recipe.

    An exit is reported once. The run has come back when its loss was inside the band for as many logged values as the
    mean has; only then, another exit is reported.

    Args:
        block: The recipe's `band` block.
        state: What `state` returned at an earlier start of the run; None for a new run.

    Attributes:
        exits: All exits of the run, in order.
        numbers: What the log keeps of the last logged step; empty where nothing is compared.
    """

    def __init__(self, block: BandBlock, state: Mapping[str, Any] | None = None) -> None:
        self.block = block
        self.exits: list[BandExit] = []
        self.numbers: dict[str, float] = {}
        self._values: list[float] = []
        self._is_outside = False
        self._inside_since_exit = 0
        self._is_missing_reported = False
        if state is not None and state["number"] == block.number:
            self.exits = exits_of(state)
            self._values, self._is_outside = list(state["values"]), state["is_outside"]
            self._inside_since_exit = state["inside_since_exit"]

    def update(self, step: int, numbers: Mapping[str, float]) -> str | None:
        """Add the numbers of a logged step; return a warning if the run has just left the band."""
        self.numbers = {}
        if self.block.number not in numbers:
            return self._missing(step, numbers)
        self._values = [*self._values, float(numbers[self.block.number])][-self.block.values :]
        mean, band = geometric_mean(self._values), limits(self.block, step)
        if math.isfinite(mean) and (band is None or len(self._values) < self.block.values):
            return None
        side = side_of(mean, band)
        self.numbers = {INSIDE: float(side is None)}
        if side is None:
            self._inside_since_exit += 1
            self._is_outside = self._is_outside and self._inside_since_exit < self.block.values
            return None
        was_outside, self._is_outside, self._inside_since_exit = self._is_outside, True, 0
        if was_outside:
            return None
        self.exits.append(BandExit(step, side, mean, *(band or (None, None))))
        return self._warning(self.exits[-1])

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain values."""
        return {
            "number": self.block.number,
            "values": list(self._values),
            "is_outside": self._is_outside,
            "inside_since_exit": self._inside_since_exit,
            "exits": [asdict(each) for each in self.exits],
        }

    def _missing(self, step: int, numbers: Mapping[str, float]) -> str | None:
        """Return a warning if the number was never logged; a step may lack it, such as one without any label."""
        if self._values or self._is_missing_reported:
            return None
        self._is_missing_reported = True
        logged = ", ".join(sorted(numbers))
        return f"step {step} logs no {self.block.number} to compare with the recipe's band (band.number), only {logged}"

    def _warning(self, left: BandExit) -> str:
        number, values = self.block.number, len(self._values)
        if left.side == "not finite":
            found = f"{number} is {left.mean}"
        else:
            found = (
                f"{number} is {left.mean:.3g} (mean of the last {values} logged values), {left.side} the "
                f"{left.low:.3g} to {left.high:.3g} of healthy runs of this recipe"
            )
        return (
            f"step {left.step}: {found}. Frequent causes: {_CAUSES[left.side]}. The run goes on; if its settings "
            "differ from the recipe's on purpose, --set band=null turns this warning off"
        )


def exits_of(state: Mapping[str, Any] | None) -> list[BandExit]:
    """Return the exits in what `BandWatch.state` returned."""
    return [] if state is None else [BandExit(**each) for each in state["exits"]]


def is_band_state(value: Any) -> bool:
    """Return whether a value, which may come from any file, is what `BandWatch.state` returns."""
    if not isinstance(value, dict) or value.keys() != _STATE_TYPES.keys():
        return False
    fits = all(type(value[name]) is kind for name, kind in _STATE_TYPES.items())
    return fits and all(type(each) is float for each in value["values"]) and all(map(_is_exit, value["exits"]))


def _is_exit(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {each.name for each in fields(BandExit)}:
        return False
    numbers = type(value["step"]) is int and type(value["mean"]) is float
    band = value["low"], value["high"]
    return numbers and value["side"] in _CAUSES and (band == (None, None) or all(type(each) is float for each in band))
