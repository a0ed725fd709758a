"""What is heard from off screen: speech without a speaker in the picture, music without a player.

Speech is found by silero-vad, whose package carries its weights. Music is found by a tagger that the user brings, since
none has its weights in a package. Who is seen is told by CLIP: which sentences the clip's pictures are nearest to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidaudio.correspondence.windows import unit
from vidaudio.torchscript import load_torchscript, without_deprecations

SAMPLE_RATE = 16_000
FULL_SCALE = 32768.0
# Probability from which a piece of sound counts as speech, or as music.
HEARD_FROM = 0.5
# Voice-over, music over a picture: heard in at least this share of the time, and seen with less than this probability.
LEAST_HEARD = 0.3
LEAST_SEEN = 0.2
# CLIP's own scale of cosines.
LOGIT_SCALE = 100.0
# -60 dB: a separator leaves more than that behind, by its windows alone.
LEAST_SHARE = 1e-6
# Sentences by what they show.
PROMPTS: Mapping[str, tuple[str, ...]] = {
    "speaker": (
        "a photo of a person talking",
        "a photo of people talking to each other",
        "a close-up photo of a face",
        "a photo of a news anchor in a studio",
    ),
    "player": (
        "a photo of a person playing a musical instrument",
        "a photo of a person singing",
        "a photo of a band on a stage",
        "a photo of an orchestra",
    ),
    "nobody": (
        "a photo of an animal",
        "a photo of a landscape",
        "a photo of a vehicle",
        "a photo of a machine",
        "a photo of an object",
        "a drawing",
        "a picture of a text",
        "a black picture",
    ),
}


@dataclass(frozen=True)
class Offscreen:
    """What is known of the sound of a clip that its pictures do not show.

    Attributes:
        speech_share: Share of the time with speech, 0 to 1.
        music_share: Share of the time with music, 0 to 1; None without a tagger.
        speaker_seen, player_seen: Probability that the pictures show a speaker, a player or singer; None where the
            pictures' encoder knows no words.
        residual_db: Energy that a separator, asked by the clip's own pictures, leaves behind, relative to the whole
            sound, at most 0 dB; None without a separator, or for digital silence.
    """

    speech_share: float
    music_share: float | None
    speaker_seen: float | None
    player_seen: float | None
    residual_db: float | None

    @property
    def voice_over(self) -> bool | None:
        """Whether there is speech and nobody is seen who may speak; None where it is not known who is seen."""
        if self.speaker_seen is None or self.player_seen is None:
            return None
        return self.speech_share >= LEAST_HEARD and self.speaker_seen + self.player_seen < LEAST_SEEN

    @property
    def music_over_picture(self) -> bool | None:
        """Whether there is music and no player is seen; None where either is not known."""
        if self.music_share is None or self.player_seen is None:
            return None
        return self.music_share >= LEAST_HEARD and self.player_seen < LEAST_SEEN


class SpeechDetector:
    """silero-vad, in this process."""

    def __init__(self) -> None:
        import silero_vad

        threads = torch.get_num_threads()
        with without_deprecations():
            self._model = silero_vad.load_silero_vad()
        # The package takes all threads but one from the whole process.
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def share(self, samples: np.ndarray) -> float:
        """Return the share of the time with speech, 0 to 1, of a sound, int16 `[samples]` at 16 kHz."""
        self._model.reset_states()
        sound = torch.from_numpy(samples.astype(np.float32) / FULL_SCALE)
        heard = self._model.audio_forward(sound[None], sr=SAMPLE_RATE)
        return float((heard >= HEARD_FROM).float().mean())


class MusicTagger:
    """A tagger that the user brings: TorchScript that maps a sound to probabilities of classes.

    Args:
        path: The TorchScript file; it takes float32 `[samples]` at 16 kHz, full scale 1, and gives `[classes]` or
            `[times, classes]`.
        classes: Numbers of the classes that are music.

    Raises:
        ValueError: When the file is no TorchScript, or gives something else.
    """

    def __init__(self, path: str, classes: Sequence[int]) -> None:
        self._model = load_torchscript(path)
        self._path, self._classes = path, list(classes)

    @torch.inference_mode()
    def share(self, samples: np.ndarray) -> float:
        """Return the share of the time with music, 0 to 1; of a tagger without times, the probability of music."""
        said = self._model(torch.from_numpy(samples.astype(np.float32) / FULL_SCALE))
        if not isinstance(said, Tensor) or said.ndim not in (1, 2) or said.shape[-1] <= max(self._classes):
            raise ValueError(f"{self._path} does not give probabilities, [classes] or [times, classes], of all classes")
        music = said.float()[..., self._classes].amax(-1)
        return float(music if music.ndim == 0 else (music >= HEARD_FROM).float().mean())


def seen(pictures: np.ndarray, prompts: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the probability of each group of sentences for the pictures of a clip, the mean over the pictures.

    It is CLIP's zero-shot classification (Radford et al., ICML 2021): a softmax over the cosines with all sentences,
    summed over those of a group.

    Args:
        pictures: Vectors of the pictures `[pictures, D]`.
        prompts: Vectors of the sentences `[sentences, D]`, by group.
    """
    sentences = unit(np.concatenate(list(prompts.values())).astype(np.float32))
    logits = LOGIT_SCALE * unit(pictures.astype(np.float32)) @ sentences.T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    each = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
    edges = np.cumsum([len(vectors) for vectors in prompts.values()])[:-1]
    return {group: float(part.sum()) for group, part in zip(prompts, np.split(each, edges), strict=True)}


def residual_db(mixture: np.ndarray, separated: np.ndarray) -> float | None:
    """Return the energy of what a separator leaves behind, relative to the mixture's, dB, at most 0.

    Args:
        mixture: Sound `[samples]`.
        separated: What the separator takes from it `[samples]`.

    Returns:
        The level; None for digital silence, of which nothing can be left behind.
    """
    whole = float(np.square(mixture, dtype=np.float64).sum())
    if not whole:
        return None
    left = float(np.square(mixture - separated, dtype=np.float64).sum())
    return float(np.clip(10 * np.log10(max(left / whole, LEAST_SHARE)), None, 0.0))
