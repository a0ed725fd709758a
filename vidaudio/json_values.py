"""JSON from a file that somebody else may have written: parsed within bounds, every fault a ValueError."""

from __future__ import annotations

import json
from typing import Any

# The largest of ours is a `pack.json` that names some ten thousand shards.
MAX_JSON_BYTES = 64 << 20


def parse_json(data: bytes | str) -> Any:
    """Return the values of a JSON text.

    Raises:
        ValueError: It is no JSON, too long, nested too deep, or holds text that is not Unicode (half of a surrogate
            pair), which no file could take.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"it has more than {MAX_JSON_BYTES >> 20} MiB")
    try:
        values = json.loads(data)
        # An escape may stand for half of a character: found where the text is written out again.
        json.dumps(values, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return values


def parse_object(data: bytes | str) -> dict[str, Any]:
    """Return the keys and values of a JSON text that is an object.

    Raises:
        ValueError: As `parse_json`, or it is no object.
    """
    values = parse_json(data)
    if not isinstance(values, dict):
        raise ValueError("it holds no keys and values")
    return values
