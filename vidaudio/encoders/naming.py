"""Name of an encoder's folder of embeddings, and the description in that folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def encoder_name(architecture: str, precision: str, weights_sha256: str) -> str:
    """Return a name of architecture, dtype and the first 8 digits of the weights' hash."""
    stem = Path(architecture.removeprefix("hf-hub:").removeprefix("local-dir:")).stem
    words = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return f"{words}-{precision}-{weights_sha256[:8]}"


def description_bytes(fingerprint: Mapping[str, Any]) -> bytes:
    """Return the contents of an `encoder.json`, a pure function of the encoder's fingerprint."""
    return json.dumps(fingerprint, indent=2, sort_keys=True).encode() + b"\n"
