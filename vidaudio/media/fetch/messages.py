"""Messages of the fetching process to its parent: `Fetched` as plain JSON values, and an exit code."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from vidaudio.media.fetch.types import Fetched
from vidaudio.media.outcomes import Outcome, Reason, State

# Exit code of a process that has reached its memory limit.
OUT_OF_MEMORY = 75


def describe_fetched(clip: Fetched) -> dict[str, Any]:
    """Return the record as JSON values."""
    values = {field.name: getattr(clip, field.name) for field in fields(clip)}
    outcome = clip.outcome
    return values | {
        "path": None if clip.path is None else str(clip.path),
        "outcome": [outcome.state, outcome.reason, outcome.message],
    }


def read_fetched(values: dict[str, Any]) -> Fetched:
    """Return the record from the values of `describe_fetched`."""
    state, reason, message = values["outcome"]
    outcome = Outcome(State(state), None if reason is None else Reason(reason), message)
    path = None if values["path"] is None else Path(values["path"])
    return Fetched(**values | {"outcome": outcome, "path": path})
