"""Last check before a clip's row is written: one row that cannot be stored must not cost its whole shard.

Texts and numbers from outside are cleaned where they enter. If a bad value gets past that, only its clip fails, and its
message names the column. The other clips of the shard are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.text import first_line

# Errors that Arrow and text encoders raise for a value that a column cannot hold.
_UNSTORABLE = (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError)


def storable_outcome(values: Mapping[str, Any], facts: Mapping[str, Any], schema: pa.Schema) -> Outcome | None:
    """Return the failure of a clip whose row or JSON member cannot be written; None where both can.

    Args:
        values: Values of the row by column; missing columns are not checked.
        facts: Content of the clip's JSON member.
        schema: Schema of the stage's table.
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
    reason = first_line(error)
    return Outcome.failed(Reason.UNKNOWN, f"{what} cannot be stored: {reason}")
