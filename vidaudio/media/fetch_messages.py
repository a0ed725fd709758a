"""`Fetched` as plain JSON values, for the pipe between the fetching process and its parent."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from vidaudio.media.fetch_types import Fetched
from vidaudio.media.reasons import Outcome, Reason, State


def describe_fetched(clip: Fetched) -> dict[str, Any]:
    """Return the record as values that JSON has."""
    values = {field.name: getattr(clip, field.name) for field in fields(clip)}
    outcome = clip.outcome
    return values | {
        "path": None if clip.path is None else str(clip.path),
        "outcome": [outcome.state, outcome.reason, outcome.message],
    }


def read_fetched(values: dict[str, Any]) -> Fetched:
    """Return the record that `describe_fetched` described."""
    state, reason, message = values["outcome"]
    outcome = Outcome(State(state), None if reason is None else Reason(reason), message)
    path = None if values["path"] is None else Path(values["path"])
    return Fetched(**values | {"outcome": outcome, "path": path})
