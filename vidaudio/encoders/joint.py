"""Joint encoders: sound and text as vectors of one space, for training on what sounds are called.

Weakly supervised separation (Mahmud et al., ICLR 2024) embeds each predicted waveform and compares it with texts, so
gradients pass through the frozen encoder to the waveform. Two kinds are known: a CLAP, and a scorer of this package,
whose model maps sound to a learned projection of the vectors of CLIP.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vidaudio.correspondence.model import SAMPLE_RATE, CorrespondenceModel
from vidaudio.correspondence.scorer import Scorer, ScorerFileError
from vidaudio.correspondence.windows import WINDOW_SECONDS, window_starts
from vidaudio.encoders.base import without_autocast
from vidaudio.encoders.clap import ClapEncoder, load_clap
from vidaudio.encoders.model_place import is_hub_name, model_place
from vidaudio.encoders.named_by import loading
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import EncoderError
from vidaudio.hashing import sha256_of
from vidaudio.modality_gap.base import GapMethod
from vidaudio.separation.torch_resampling import Resampler
from vidaudio.stream.lru import LruCache

if TYPE_CHECKING:
    from vidaudio.encoders.clip import ClipEncoder

# Texts whose vectors are kept, 2 KB each.
KEPT_TEXTS = 10_000
# Texts that CLIP embeds at a time.
TEXT_BLOCK = 64
# Largest factor on cosines, as in CLIP and in the scorer's training.
MOST_TEMPERATURE = 100.0
SCORER_FILE, CLAP_FILE = "scorer.safetensors", "config.json"


class JointEncoder(ABC):
    """A frozen encoder of sound, with gradient to the waveform, and of text: unit vectors of one space.

    Front ends compute in float32; towers of sound follow the caller's autocast.

    Args:
        dimensions: Dimensions of the space.
        temperature: Learned factor on cosines.
        fingerprint: Everything that affects a vector.
        sample_rate: Sample rate of the sounds that it takes, Hz.
        device: Device of the weights.

    Attributes:
        dimensions: Dimensions of the space.
        temperature: Learned factor on the cosines of a sound with texts, before a softmax (inverse temperature).
        fingerprint: Everything that affects a vector, JSON-able; vectors may be compared only if it is equal.
        sample_rate: Sample rate at which the encoder hears, Hz.
        device: Device of the weights, and of the vectors of texts.
    """

    def __init__(
        self,
        *,
        dimensions: int,
        temperature: float,
        fingerprint: Mapping[str, Any],
        sample_rate: int,
        device: torch.device,
    ) -> None:
        self.dimensions = dimensions
        self.temperature = temperature
        self.fingerprint = dict(fingerprint)
        self.sample_rate = sample_rate
        self.device = device
        self._resamplers: dict[int, Resampler] = {}
        self._texts: LruCache[Tensor] = LruCache(KEPT_TEXTS)

    def embed_sound(self, sound: Tensor, sample_rate: int) -> Tensor:
        """Embed sounds, with gradient to them.

        Args:
            sound: Sounds in [-1, 1], floating point `[N, samples]`, on any device.
            sample_rate: Sample rate of the sounds, Hz.

        Returns:
            Unit vectors, float32 `[N, dimensions]`, on the sound's device.

        Raises:
            EncoderError: When the sounds have another form, no samples, or a sample rate that cannot be resampled.
        """
        if sound.ndim != 2 or not sound.shape[1] or not sound.is_floating_point():
            raise EncoderError(
                f"sounds have the form [N, samples], floating point in [-1, 1], not {sound.dtype} {list(sound.shape)}"
            )
        if not len(sound):
            return torch.zeros(0, self.dimensions, device=sound.device)
        heard = self._resampler(sample_rate)(sound.to(self.device, torch.float32))
        return self._sound_vectors(heard).to(sound.device)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts unchanged; each is computed once, as long as the cache holds it.

        Returns:
            Unit vectors without gradient, float32 `[N, dimensions]`, on the encoder's device; whatever the autocast.
        """
        rows = self._texts.get_many(texts, self._encode_texts)
        return (torch.stack(rows) if rows else torch.zeros(0, self.dimensions)).to(self.device)

    @without_autocast
    def _encode_texts(self, texts: list[str]) -> Tensor:
        # Also where a validation asks first, in inference mode, training may use the vectors.
        with torch.inference_mode(mode=False), torch.no_grad():
            return self._text_vectors(texts).to("cpu", torch.float32, copy=True)

    def to(self, device: torch.device | str) -> Self:
        """Move the encoder to a device, and return it."""
        self.device = torch.device(device)
        for resampler in self._resamplers.values():
            resampler.to(self.device)
        self._move(self.device)
        return self

    def _resampler(self, sample_rate: int) -> Resampler:
        if sample_rate not in self._resamplers:
            try:
                with torch.inference_mode(mode=False):
                    self._resamplers[sample_rate] = Resampler(sample_rate, self.sample_rate).to(self.device)
            except ValueError as error:
                raise EncoderError(f"sound cannot be resampled for the encoder: {error}") from error
        return self._resamplers[sample_rate]

    @abstractmethod
    def _sound_vectors(self, sound: Tensor) -> Tensor:
        """Return unit vectors of sounds `[N, samples]` at the encoder's rate, on its device, with gradient."""

    @abstractmethod
    def _text_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors of texts, `[N, dimensions]`, on any device."""

    @abstractmethod
    def _move(self, device: torch.device) -> None:
        """Move the weights to a device."""


class ClapJoint(JointEncoder):
    """A CLAP as joint encoder.

    Of a sound that is longer than the CLAP's window, the middle is heard, see vidaudio.encoders.clap. Texts are cut
    after 77 tokens.

    Args:
        clap: The CLAP; `to` moves it.
    """

    def __init__(self, clap: ClapEncoder) -> None:
        super().__init__(
            dimensions=clap.dimensions,
            temperature=clap.temperature,
            fingerprint={"joint": "clap", **clap.fingerprint},
            sample_rate=clap.sample_rate,
            device=clap.device,
        )
        self.clap = clap

    def _sound_vectors(self, sound: Tensor) -> Tensor:
        return self.clap.sound_vectors(sound)

    def _text_vectors(self, texts: Sequence[str]) -> Tensor:
        return self.clap.text_states(texts)[0]

    def _move(self, device: torch.device) -> None:
        self.clap.to(device)


class CorrespondenceJoint(JointEncoder):
    """The model of a scorer as joint encoder: its own tower of sound, and CLIP's text through its layer for pictures.

    The model's space is not CLIP's: sound meets pictures behind a linear layer that is learned on CLIP's vectors of
    pictures. Unit vectors of text pass the same layer, which has seen no text: CLIP's vectors of text lie apart from
    those of pictures, and `gap` may map them nearer first.

    Sound is heard in windows of 4 s without overlap, as the scorer hears it: the vector is the mean direction over the
    windows. A rest of less than 1 s is left out, and a shorter window ends in silence.

    Args:
        model: The model; a frozen copy is used.
        clip: The CLIP whose vectors of pictures the model was trained on.
        weights_sha256: Hash of the scorer's file, for the fingerprint.
        gap: Fitted method against the modality gap of that CLIP; None for text as it is.

    Raises:
        EncoderError: When the CLIP's or the method's vectors are not those of the model.
    """

    def __init__(
        self,
        model: CorrespondenceModel,
        clip: ClipEncoder,
        weights_sha256: str,
        *,
        gap: GapMethod | None = None,
    ) -> None:
        wanted = model.config.picture_dimensions
        if clip.dimensions != wanted:
            raise EncoderError(
                f"the scorer is fitted to vectors of {wanted} dimensions, and those of {clip.name} have "
                f"{clip.dimensions}"
            )
        if gap is not None and gap.encoder != clip.weights_sha256:
            raise EncoderError(f"the method against the modality gap is fitted to another encoder than {clip.name}")
        self._model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False).to(clip.device)
        self._clip, self._gap = clip, gap
        fingerprint = {
            "joint": "correspondence",
            "weights_sha256": weights_sha256,
            "dimensions": model.config.dimensions,
            "sample_rate": SAMPLE_RATE,
            "window_seconds": WINDOW_SECONDS,
            "text_architecture": clip.spec.architecture,
            "text_weights_sha256": clip.weights_sha256,
            "gap": None if gap is None else gap.hash,
        }
        super().__init__(
            dimensions=model.config.dimensions,
            temperature=min(float(model.log_scale.detach().exp()), MOST_TEMPERATURE),
            fingerprint=fingerprint,
            sample_rate=SAMPLE_RATE,
            device=clip.device,
        )

    def _sound_vectors(self, sound: Tensor) -> Tensor:
        windows = len(window_starts(sound.shape[1] / SAMPLE_RATE))
        length = round(WINDOW_SECONDS * SAMPLE_RATE)
        parts = F.pad(sound, (0, windows * length - sound.shape[1])).reshape(-1, length)
        with torch.autocast(self.device.type, enabled=False):
            bands = self._model.front_end(parts)
        vectors = self._model.encode_bands(bands).float().unflatten(0, (-1, windows))
        return F.normalize(vectors.mean(dim=1), dim=-1)

    def _text_vectors(self, texts: Sequence[str]) -> Tensor:
        blocks = [texts[first : first + TEXT_BLOCK] for first in range(0, len(texts), TEXT_BLOCK)]
        vectors = torch.cat([torch.from_numpy(self._clip.embed_texts(block)) for block in blocks])
        if self._gap is not None:
            asked = [self._gap.map_words([text], vector) for text, vector in zip(texts, vectors, strict=True)]
            vectors = torch.stack(asked)
        return self._model.encode_pictures(F.normalize(vectors, dim=-1).to(self.device))

    def _move(self, device: torch.device) -> None:
        self._model.to(device)
        self._clip.to(device)


def load_joint(
    place: str,
    *,
    clip: EncoderSpec | None = None,
    gap: GapMethod | None = None,
) -> JointEncoder:
    """Load a joint encoder by what is at a place.

    Args:
        place: A CLAP's folder (with `config.json`) or its hub's name; or a scorer: its `scorer.safetensors`, or the
            folder with it (`CORPUS/scorers/NAME`), whose first model is used, as for `Score.sound`.
        clip: The CLIP whose vectors a scorer was fitted to; its precision does not matter. Not used for a CLAP.
        gap: Fitted method against the modality gap of that CLIP, see `CorrespondenceJoint`. Not used for a CLAP.

    Raises:
        EncoderError: When there is no joint encoder, it cannot be loaded, or the scorer's CLIP is not named or is
            another one; the message explains what to name instead.
    """
    found = model_place(place, named_by=None)
    if not found.is_folder and not place.endswith(".safetensors") and is_hub_name(place):
        return ClapJoint(load_clap(place))
    with loading(place, found.paths if found.is_folder else (found.name,), named_by=None):
        scorer = Path(found.name) / SCORER_FILE if Path(found.name).is_dir() else Path(found.name)
        if scorer.suffix == ".safetensors" and scorer.is_file():
            return _load_correspondence(scorer, clip, gap)
    if not (Path(found.name) / CLAP_FILE).is_file():
        raise EncoderError(
            f"{place} is no joint encoder of sound and text: name a CLAP, by its folder (with {CLAP_FILE}) or its "
            f"hub's name, or a scorer, by its {SCORER_FILE} or its folder CORPUS/scorers/NAME"
        )
    return ClapJoint(load_clap(place))


def _load_correspondence(path: Path, spec: EncoderSpec | None, gap: GapMethod | None) -> CorrespondenceJoint:
    # open_clip is slow to import, and a CLAP does not need it.
    from vidaudio.encoders.clip import ClipEncoder
    from vidaudio.encoders.load import load_encoder

    try:
        scorer = Scorer.from_file(str(path))
    except ScorerFileError as error:
        raise EncoderError(f"{path} is no scorer, or is damaged ({error})") from error
    fitted_to = str(scorer.facts.get("encoder"))
    if spec is None:
        raise EncoderError(
            f"the scorer {path} is fitted to vectors of {fitted_to}: its texts need that CLIP, which queries of a "
            "corpus with these vectors have (--set query.kind=corpus)"
        )
    clip = load_encoder(spec)
    if not isinstance(clip, ClipEncoder):
        raise EncoderError(f"{clip.name} embeds no texts; the scorer {path} needs the CLIP {fitted_to}")
    # The name ends in digits of the weights' hash. The precision in it is that of pictures, and texts are float32.
    if fitted_to.rpartition("-")[2] != clip.weights_sha256[:8]:
        raise EncoderError(
            f"the scorer {path} is fitted to vectors of {fitted_to}, and {clip.name} is another encoder; "
            "vectors of two encoders do not mix"
        )
    return CorrespondenceJoint(scorer.models[0], clip, sha256_of(path), gap=gap)
