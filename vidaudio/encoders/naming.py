"""The description of an encoder in the folder of its embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def description_bytes(fingerprint: Mapping[str, Any]) -> bytes:
    """Return the contents of an `encoder.json`, a pure function of the encoder's fingerprint."""
    return json.dumps(fingerprint, indent=2, sort_keys=True).encode() + b"\n"
