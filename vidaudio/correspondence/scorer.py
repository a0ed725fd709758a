"""A fitted scorer: two models, each for the sources that it was not trained on, and what its scores mean.

A clip is always scored by the model that has not heard its source, also one that is added later, so that scores of a
corpus and of what grows beside it are of one kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vidaudio.correspondence.calibration import Calibration
from vidaudio.correspondence.model import SAMPLE_RATE, CorrespondenceModel, ScorerConfig
from vidaudio.correspondence.normalisation import Partners
from vidaudio.correspondence.timing import Timing, TimingHead, measure_timing
from vidaudio.correspondence.windows import picture_of_window, sound_window, unit, window_starts

FOLDS = 2
FULL_SCALE = 32768.0


class ScorerFileError(ValueError):
    """The bytes are not a scorer, or are damaged."""


@dataclass(frozen=True)
class ScoredClip:
    """What is scored of a clip.

    Attributes:
        samples: Mono sound, int16 `[samples]`.
        audio_start_seconds: When the sound begins, on the clip's clock.
        grid_seconds: When each picture is on screen, on the clip's clock.
        vectors: Vectors of the pictures `[pictures, D]`.
        source: Hash of the clip's source.
        motion: Motion envelope, 25 values a second; None where it is not known.
        onsets: Onset envelope, 100 values a second; None where it is not known.
    """

    samples: np.ndarray
    audio_start_seconds: float
    grid_seconds: Sequence[float]
    vectors: np.ndarray
    source: int
    motion: np.ndarray | None = None
    onsets: np.ndarray | None = None


@dataclass(frozen=True)
class Score:
    """Scores of a clip.

    Attributes:
        raw: Mean cosine of sound and pictures in the scorer's space, -1 to 1.
        normalised: Mean distance from the scores with partners of other sources, both ways, standard deviations.
        p_corresponds: Probability that sound and pictures belong together, 0 to 1.
        timing: Offset of the sound against the pictures; None where the envelopes are not known.
        sound: Unit vector of the whole sound, float32 `[D]`, of the first model for all clips.
    """

    raw: float
    normalised: float
    p_corresponds: float
    timing: Timing | None
    sound: np.ndarray


def fold_of(source: int) -> int:
    """Return the fold of a source by its hash, 0 or 1: the bits of a hash are as good as drawn."""
    return int(source >> 17) % FOLDS


class Scorer:
    """Scores clips; see `fit_scorer`.

    Args:
        models: One a fold; the model of fold f was trained on sources of the other fold.
        partners: One a fold, of sources that the fold's model was not trained on.
        calibration: What the normalised score means.
        heads: Timing heads, one a fold; None where they could not be trained.
        facts: What else is known of the scorer, JSON-able: its encoder, its corpus, its measures.
    """

    def __init__(
        self,
        models: Sequence[CorrespondenceModel],
        partners: Sequence[Partners],
        calibration: Calibration,
        heads: Sequence[TimingHead] | None,
        facts: Mapping[str, Any],
    ) -> None:
        self.models = tuple(model.eval().requires_grad_(requires_grad=False) for model in models)
        self.heads = tuple(head.eval().requires_grad_(requires_grad=False) for head in heads or ())
        self.partners, self.calibration, self.facts = tuple(partners), calibration, dict(facts)

    def score(self, clip: ScoredClip) -> Score:
        """Return the scores of a clip; it must have sound and a picture."""
        fold = fold_of(clip.source)
        sounds, pictures = encode_clip(self.models[fold], clip)
        raw, normalised = self.partners[fold].normalised(sounds, pictures, clip.source)
        timing = None
        if self.heads and clip.motion is not None and clip.onsets is not None:
            timing = measure_timing(self.heads[fold], clip.motion, clip.onsets)
        # A clip's own model may be the one or the other, whose spaces differ.
        sound = unit((sounds if fold == 0 else encode_windows(self.models[0], clip)).mean(axis=0))
        return Score(raw, normalised, float(self.calibration.probability(np.array(normalised))), timing, sound)

    def to_bytes(self) -> bytes:
        """Return the scorer as a safetensors file."""
        tensors: dict[str, Tensor] = {}
        for fold, (model, partners) in enumerate(zip(self.models, self.partners, strict=True)):
            tensors |= {f"{fold}.model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
            tensors[f"{fold}.partners.sounds"] = torch.from_numpy(partners.sounds)
            tensors[f"{fold}.partners.pictures"] = torch.from_numpy(partners.pictures)
            # safetensors has no uint64 in every version that PyTorch reads: the same bits, signed.
            tensors[f"{fold}.partners.sources"] = torch.from_numpy(partners.sources.view(np.int64))
        for fold, head in enumerate(self.heads):
            tensors |= {f"{fold}.timing.{name}": tensor.contiguous() for name, tensor in head.state_dict().items()}
        values = asdict(self.calibration)
        tensors["calibration.knots"] = torch.from_numpy(values.pop("knots"))
        tensors["calibration.probabilities"] = torch.from_numpy(values.pop("probabilities"))
        described = {"config": self.models[0].config.as_dict(), "calibration": values, "facts": self.facts}
        return save(tensors, {"vidaudio.scorer": json.dumps(described, sort_keys=True)})

    @classmethod
    def from_file(cls, path: str) -> Scorer:
        """Return the scorer in a file of `to_bytes`.

        Raises:
            ScorerFileError: When the file is none, or is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                described = json.loads((file.metadata() or {})["vidaudio.scorer"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            config = ScorerConfig(**described["config"])
            models, partners, heads = [], [], []
            for fold in range(FOLDS):
                model = CorrespondenceModel(config)
                model.load_state_dict(_within(tensors, f"{fold}.model."))
                models.append(model)
                if timing := _within(tensors, f"{fold}.timing."):
                    head = TimingHead()
                    head.load_state_dict(timing)
                    heads.append(head)
                sounds, pictures, sources = (
                    tensors[f"{fold}.partners.{name}"].numpy() for name in ("sounds", "pictures", "sources")
                )
                partners.append(Partners(sounds, pictures, sources.view(np.uint64)))
            calibration = Calibration(
                **described["calibration"],
                knots=tensors["calibration.knots"].numpy(),
                probabilities=tensors["calibration.probabilities"].numpy(),
            )
            return cls(models, partners, calibration, heads, described["facts"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ScorerFileError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def encode_clip(model: CorrespondenceModel, clip: ScoredClip) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors of the sound and of the pictures of a clip's windows, float32 `[windows, D]` each."""
    starts = window_starts(len(clip.samples) / SAMPLE_RATE)
    pictures = [picture_of_window(clip.vectors, clip.grid_seconds, clip.audio_start_seconds, s) for s in starts]
    with torch.inference_mode():
        seen = model.encode_pictures(torch.from_numpy(np.stack(pictures))).numpy()
    return encode_windows(model, clip), seen


@torch.inference_mode()
def encode_windows(model: CorrespondenceModel, clip: ScoredClip) -> np.ndarray:
    """Return the unit vectors of the sound of a clip's windows, float32 `[windows, D]`."""
    starts = window_starts(len(clip.samples) / SAMPLE_RATE)
    sound = np.stack([sound_window(clip.samples, SAMPLE_RATE, start) for start in starts])
    return model.encode_sound(torch.from_numpy(sound.astype(np.float32) / FULL_SCALE)).numpy()
