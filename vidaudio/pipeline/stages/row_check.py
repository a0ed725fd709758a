"""The last check before a clip's row is written: one row that cannot be stored must not cost its whole shard.

Texts and numbers from outside are cleaned where they enter. Should one get past that, its clip fails alone and says
which column was to blame; the other clips of the shard are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from vidaudio.media.outcomes import Outcome, Reason

# What Arrow and the encoders of text raise for a value that has no place in a column.
_UNSTORABLE = (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError)


def storable_outcome(values: Mapping[str, Any], facts: Mapping[str, Any], schema: pa.Schema) -> Outcome | None:
    """Return why a clip's row or its JSON member cannot be written; None where both can.

    Args:
        values: The row's values by column; columns that are missing are not checked.
        facts: What goes into the clip's JSON member.
        schema: Of the stage's table.
    """
    for name, value in values.items():
        try:
            pa.array([value], schema.field(name).type)
        except _UNSTORABLE as error:
            return _failed(f"its {name}", error)
    try:
        json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()
    except _UNSTORABLE as error:
        return _failed("what is known about it", error)
    return None


def _failed(what: str, error: Exception) -> Outcome:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Outcome.failed(Reason.UNKNOWN, f"{what} cannot be stored: {reason}")
