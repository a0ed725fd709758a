"""What an encoder of the demo world was trained on, beside its weights: no table may hold one that was not trained.

The facts bear the hash of the weights they are about, so that they cannot be carried over to others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vidaudio.errors import EncoderError

FACTS_FILE = "training.json"


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """How an encoder came to be.

    Attributes:
        command: That trained it.
        seed: Of the run.
        steps: Optimiser steps.
        examples: Pictures or sentences it learned from.
        trained_on: What those were, in words.
        weights_sha256: Of the weights as the encoder's fingerprint has it.
        measured: Figures on examples that it never saw, by name.
    """

    command: str
    seed: int
    steps: int
    examples: int
    trained_on: str
    weights_sha256: str
    measured: Mapping[str, float]


def write_facts(folder: str | os.PathLike[str], facts: TrainingFacts) -> None:
    """Write `training.json` into an encoder's folder."""
    text = json.dumps(asdict(facts), indent=2, sort_keys=True) + "\n"
    (Path(folder) / FACTS_FILE).write_text(text, encoding="utf-8")


def require_trained(folder: str | os.PathLike[str], weights_sha256: str) -> TrainingFacts:
    """The facts of an encoder that was trained.

    Args:
        folder: Where its files are.
        weights_sha256: Of the weights that were loaded.

    Raises:
        EncoderError: There are no facts, they are about other weights, or they tell of no step or no figure.
    """
    path = Path(folder) / FACTS_FILE
    try:
        facts = TrainingFacts(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise EncoderError(f"{folder} does not say what its encoder was trained on: there is no {FACTS_FILE}") from None
    except (ValueError, TypeError) as error:
        raise EncoderError(f"{path} holds no facts of a training ({error})") from error
    if facts.weights_sha256 != weights_sha256:
        raise EncoderError(f"{path} is about other weights than those in the folder; train anew: {facts.command}")
    if facts.steps < 1 or not facts.measured:
        raise EncoderError(f"{path} tells of no training step or of no measurement; train anew: {facts.command}")
    return facts
