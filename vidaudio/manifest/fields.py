"""Parsers of fields that several formats share: times in seconds, and splits in file names."""

from __future__ import annotations

import math
import re
from pathlib import Path

from vidaudio.errors import ManifestError

# 31 years: still a 64-bit integer in nanoseconds, as media files count time, and below today's seconds since 1970.
MAX_SECONDS = 1e9
RANGE = f"a time is 0 s or later and at most {MAX_SECONDS:g} s"
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def parse_seconds(text: str, what: str) -> float:
    """Return `30`, `30.000` or a clock time (`1:05`, `1:02:05.5`) in seconds; `what` names the field in messages.

    Raises:
        ManifestError: When the text is neither a number nor a clock time, or a number is not finite, negative, or above
            `MAX_SECONDS`.
    """
    text = text.strip()
    clock = _CLOCK.fullmatch(text)
    if clock:
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    # Not float(): it also takes "nan", "inf" and "1_0".
    if not _PLAIN.fullmatch(text):
        raise ManifestError(f"the {what} {text!r} is not a number of seconds")
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ManifestError(f"the {what} {text!r} is not a time of 0 s or later")
    if value > MAX_SECONDS:
        raise ManifestError(f"the {what} is {text} s; {RANGE}")
    return value


def split_from_name(path: Path) -> str | None:
    """Return the split that a published list's file name states: `train`, `val` or `test`; None if it states none.

    `balanced_train_segments` and `unbalanced_train_segments` are train, `eval_segments` is test, `test-good` is test.
    """
    words = re.split(r"[^a-z]+", path.stem.lower())
    for split, names in (("train", {"train"}), ("val", {"val", "valid", "validation"}), ("test", {"test", "eval"})):
        if names & set(words):
            return split
    return None
