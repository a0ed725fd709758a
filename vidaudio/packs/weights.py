"""Weights of a pack's samples: the value of a column of their clips, by which training draws them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.errors import PackError, RecipeError
from vidaudio.packs.selection import selectable_types


def check_weight(column: str | None) -> None:
    """Check that `pack.weight` names a column of numbers.

    Raises:
        RecipeError: When it does not.
    """
    if column is None:
        return
    kind = selectable_types().get(column)
    if kind is None or not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise RecipeError(
            f"pack.weight {column[:80]!r} is no column of numbers of the clips; name one between 0 and 1, such as "
            "p_corresponds, p_in_sync or silent_share"
        )


def clip_weights(clips: pd.DataFrame, column: str) -> np.ndarray:
    """Return the weight of every clip, float32 `[clips]`; 0 where the column has no value.

    Raises:
        PackError: When a value is below 0 or above 1.
    """
    values = clips[column].to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero((values < 0) | (values > 1))
    if len(wrong):
        raise PackError(
            f"pack.weight: {column} of the clip {clips['id'].iloc[wrong[0]]} is {values[wrong[0]]:g}, and a weight is "
            "between 0 and 1; name a probability or a share, or keep such clips out with pack.where"
        )
    return np.nan_to_num(values, nan=0.0).astype(np.float32)
