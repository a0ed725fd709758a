"""Power-function profiles: how much each step counts in an average of weights, in closed form.

After t steps, the profile of exponent gamma weighs step tau by (gamma + 1) tau^gamma / t^(gamma + 1), so the first
steps count for nothing, however long the run becomes (Karras et al., CVPR 2024, section 3.1). Its width sigma_rel is
the standard deviation of tau as a share of t. A profile of any width is nearly a weighted sum of a few others (section
3.2), so averages of other widths follow from snapshots of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The width at which all steps would count alike is 1 / sqrt(12).
LEAST_WIDTH, MOST_WIDTH = 0.001, 0.28


@dataclass(frozen=True, slots=True)
class PowerProfile:
    """Profile of an average.

    Attributes:
        sigma_rel: Width, as a share of the steps.
        steps: Steps that were averaged.
    """

    sigma_rel: float
    steps: int

    @property
    def exponent(self) -> float:
        """Return gamma."""
        return exponent_of(self.sigma_rel)


def exponent_of(sigma_rel: float) -> float:
    """Return the exponent gamma of the profile of a width: the largest root of a cubic (appendix C)."""
    inverse = sigma_rel**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def new_weight(exponent: float, step: int) -> float:
    """Return the weight of the newest weights when the average of `step` steps is made of that of one step less.

    It is 1 - (1 - 1 / step)^(gamma + 1) (section 3.1): step tau then counts for the integral of the profile
    from tau - 1 to tau.
    """
    return 1.0 if step == 1 else float(-np.expm1((exponent + 1) * np.log1p(-1 / step)))


def inner_product(one: PowerProfile, other: PowerProfile) -> float:
    """Return the integral of the product of two profiles (appendix C)."""
    shorter, longer = sorted((one, other), key=lambda profile: profile.steps)
    ours, theirs = shorter.exponent, longer.exponent
    share = (shorter.steps / longer.steps) ** theirs
    return (ours + 1) * (theirs + 1) * share / ((ours + theirs + 1) * longer.steps)


def coefficients(profiles: Sequence[PowerProfile], wanted: PowerProfile) -> tuple[np.ndarray, float]:
    """Return the factors with which profiles sum up to a wanted one, by least squares.

    Args:
        profiles: Profiles of the averages at hand, no two of them equal.
        wanted: Profile to approximate.

    Returns:
        Factors, one a profile, and the error of the sum: its distance from the wanted profile as a share of that
        profile's norm.
    """
    if wanted in profiles:
        return np.array([float(profile == wanted) for profile in profiles]), 0.0
    products = np.array([[inner_product(one, other) for other in profiles] for one in profiles])
    with_wanted = np.array([inner_product(profile, wanted) for profile in profiles])
    norms = np.sqrt(np.diag(products))
    # With profiles of norm 1, rounding is the same for all.
    scaled = np.linalg.lstsq(products / np.outer(norms, norms), with_wanted / norms, rcond=None)[0]
    factors = scaled / norms
    norm = inner_product(wanted, wanted)
    distance = norm - 2 * factors @ with_wanted + factors @ products @ factors
    return factors, float(np.sqrt(max(distance, 0.0) / norm))
