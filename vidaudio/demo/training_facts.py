"""Record of an encoder's training, stored beside its weights, so that no table contains an untrained encoder.

The record contains the hash of its weights, so that it cannot be used for others.
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
    """Record of how an encoder was trained.

    Attributes:
        command: Command that trained the encoder.
        seed: Seed of the training.
        steps: Number of optimiser steps.
        examples: Number of pictures or sentences that the encoder learned from.
        trained_on: Description of the examples in words.
        weights_sha256: SHA-256 of the weights, as in the encoder's fingerprint.
        measured: Figures on examples that the encoder never saw, by name.
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
    """Return the record of an encoder that was trained.

    Args:
        folder: Folder of the encoder's files.
        weights_sha256: SHA-256 of the weights that were loaded.

    Raises:
        EncoderError: When the record is missing, unreadable or of other weights, or has no step or no figure.
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
