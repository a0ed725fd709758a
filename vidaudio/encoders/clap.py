"""CLAP through transformers: converts sound and sentences to vectors of one space (Wu et al., ICASSP 2023).

It makes the conditions of CLAP-TTA, and hears how well a sound fits words. Sound is 10 s at 48 kHz: shorter sound is
repeated as the model's own feature extractor has it, and of longer sound the middle is heard, where the feature
extractor would draw a part at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidaudio.encoders.base import Encoder, weights_hash, without_autocast
from vidaudio.encoders.library_settings import cache_only_where_hub_is_silent, progress_bars, quiet_libraries
from vidaudio.encoders.long_texts import LongTexts
from vidaudio.encoders.model_place import ModelPlace, missing_from, model_place, unfit_tokenizer
from vidaudio.encoders.named_by import NamedByFile, loading
from vidaudio.encoders.prompts import fill
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import EncoderError
from vidaudio.separation.resampling import resample
from vidaudio.text import first_line

if TYPE_CHECKING:
    from transformers import ClapModel

# Sounds, or sentences of one length, that are computed together on a GPU: always as many, so that no vector depends on
# the others.
GPU_BLOCK = 16
# Tokens of a sentence as LAION's own code pads and cuts it.
TEXT_TOKENS = 77
# A CLAP's files; of each group there is one.
FILES = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    # A whole processor is saved as one file.
    ("preprocessor_config.json", "processor_config.json"),
)
# Power below which a mel band is silent.
LEAST_POWER = 1e-10


class ClapEncoder(Encoder):
    """A frozen CLAP: converts sound and sentences to unit vectors of one space, float32.

    No vector depends on what is embedded beside it.

    Args:
        spec: Choice of the model; its sample rate is the model's own.
        model: The loaded model.
        features: The model's feature extractor.
        tokenizer: The model's tokenizer.

    Attributes:
        preparation: Settings of the feature extractor, JSON.
    """

    def __init__(self, spec: EncoderSpec, model: ClapModel, features: Any, tokenizer: Any) -> None:
        super().__init__(spec, weights_hash(model))
        self.dimensions = int(model.projection_dim)
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._mel = ClapMel(features).to(self.device)
        self._tokenizer = tokenizer
        self.preparation: str = features.to_json_string()
        # The first positions of a RoBERTa are not used for tokens.
        text: Any = model.config.text_config
        self._most_tokens = min(tokenizer.model_max_length, text.max_position_embeddings - text.pad_token_id - 1)
        self._long_texts: dict[int, LongTexts] = {}

    @property
    def state_dimensions(self) -> int:
        """Dimensions of the states of a text's tokens."""
        text: Any = self._model.config.text_config
        return int(text.hidden_size)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the sound that goes in, Hz."""
        assert self.spec.sample_rate is not None, "see `load_clap`"
        return self.spec.sample_rate

    @property
    def window_seconds(self) -> float:
        """Length of the sound that is heard at once, seconds."""
        return self._mel.samples / self.sample_rate

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that affects an embedding; windows of a longer sound would lie side by side."""
        return super().fingerprint | {"window_seconds": self.window_seconds, "hop_seconds": self.window_seconds}

    @property
    def temperature(self) -> float:
        """Learned factor on cosines of a sound with texts, before a softmax over the texts: `exp(logit_scale_a)`."""
        return float(self._model.logit_scale_a.exp())

    def to(self, device: torch.device | str) -> Self:
        """Move the encoder to a device, and return it."""
        self.device = torch.device(device)
        self._model.to(self.device)
        self._mel.to(self.device)
        return self

    @without_autocast
    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed sentences unchanged, one by one; `[texts, dimensions]` on the CPU.

        A sentence that is longer than the model's maximum is cut at its end.
        """
        rows = [torch.zeros(0, self.dimensions)]
        for text in texts:
            self._watch(text, self._most_tokens)
            tokens = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=self._most_tokens)
            found = self._model.get_text_features(
                input_ids=tokens.input_ids.to(self.device), attention_mask=tokens.attention_mask.to(self.device)
            )
            rows.append(found.pooler_output.float().cpu())
        return torch.cat(rows).clone()

    def _watch(self, text: str, most: int) -> None:
        # The name of a model is a place, whose last part says enough.
        name = f"the CLAP {Path(self.spec.architecture).name}"
        self._long_texts.setdefault(most, LongTexts(name, most)).check(
            text, len(self._tokenizer(text, verbose=False).input_ids)
        )

    @without_autocast
    def text_states(self, texts: Sequence[str], tokens: int = TEXT_TOKENS) -> tuple[Tensor, Tensor]:
        """Embed sentences, with the text tower's last hidden states, as BiModal separation reads them.

        States of padding are not masked: they are what the released code of Mahmud et al. (ICLR 2024) attends to.

        Args:
            texts: Sentences, unchanged. One of more tokens is cut at its end, in the vectors as well; shorter ones have
                the vectors of `embed_text`, up to rounding.
            tokens: Tokens that every sentence is padded or cut to, at least 3, with those that mark begin and end;
                the model's maximum if that is shorter.

        Returns:
            Unit vectors `[N, dimensions]` and states `[N, tokens, hidden size]`, float32 on the CPU.

        Raises:
            EncoderError: When there are fewer than 3 tokens.
        """
        if tokens < 3:
            raise EncoderError(f"a sentence has at least 3 tokens, with its begin and its end, not {tokens}")
        length = min(tokens, self._most_tokens)
        vectors, states = [torch.zeros(0, self.dimensions)], [torch.zeros(0, length, self.state_dimensions)]
        size = GPU_BLOCK if self.device.type == "cuda" else 1
        for first in range(0, len(texts), size):
            numbers = [min(number, len(texts) - 1) for number in range(first, first + size)]
            for text in texts[first : first + size]:
                self._watch(text, length)
            block = self._tokenizer(
                [texts[number] for number in numbers],
                return_tensors="pt",
                padding="max_length",
                truncation=True,
                max_length=length,
            )
            with torch.inference_mode():
                found = self._model.get_text_features(
                    input_ids=block.input_ids.to(self.device), attention_mask=block.attention_mask.to(self.device)
                )
            vectors.append(found.pooler_output[: len(texts) - first].float().cpu())
            states.append(found.last_hidden_state[: len(texts) - first].float().cpu())
        return torch.cat(vectors), torch.cat(states)

    def embed_label(self, label: str, templates: tuple[str, ...] = ("{}",)) -> Tensor:
        """Return the mean vector of a label in every template, `[dimensions]`."""
        return self.embed_text(fill(templates, label)).mean(dim=0)

    @without_autocast
    @torch.inference_mode()
    def embed_audio(self, sound: Tensor) -> Tensor:
        """Embed sounds of the model's sample rate; `[N, samples]` in [-1, 1] to `[N, dimensions]` on the CPU.

        Raises:
            EncoderError: When there are no samples.
        """
        _check_form(sound)
        block = GPU_BLOCK if self.device.type == "cuda" else 1
        rows = [torch.zeros(0, self.dimensions)]
        for first in range(0, len(sound), block):
            numbers = [min(number, len(sound) - 1) for number in range(first, first + block)]
            found = self._tower(sound[numbers].to(self.device, torch.float32))
            rows.append(found[: len(sound) - first].float().cpu())
        return torch.cat(rows).clone()

    def sound_vectors(self, sound: Tensor) -> Tensor:
        """Embed sounds of the model's sample rate as one batch, with gradient to the sound.

        The weights stay frozen. Nothing is drawn at random: sound is repeated or cut as in `embed_audio`, whose vectors
        these are, up to rounding. The spectrogram is float32; the tower follows the caller's autocast.

        Args:
            sound: Sounds in [-1, 1], floating point `[N, samples]`, on any device. The gradient of silence is finite:
                zero in bands that are silent.

        Returns:
            Unit vectors, float32 `[N, dimensions]`, on the sound's device.

        Raises:
            EncoderError: When there are no samples.
        """
        _check_form(sound)
        if not len(sound):
            return torch.zeros(0, self.dimensions, device=sound.device)
        return F.normalize(self._tower(sound.to(self.device, torch.float32)).float(), dim=-1).to(sound.device)

    def _tower(self, sound: Tensor) -> Tensor:
        """Return vectors of sounds on the model's device, `[N, samples]` to `[N, dimensions]`."""
        with torch.autocast(self.device.type, enabled=False):
            mels = self._mel(sound)
        whole = torch.zeros(len(mels), 1, dtype=torch.bool, device=self.device)
        return self._model.get_audio_features(input_features=mels, is_longer=whole).pooler_output

    def embed_audio_at(self, sound: Tensor, sample_rate: int) -> Tensor:
        """Embed sounds of another sample rate, see `embed_audio`."""
        resampled = resample(sound.detach().float().cpu().numpy(), sample_rate, self.sample_rate)
        return self.embed_audio(torch.from_numpy(np.ascontiguousarray(resampled)))


def _check_form(sound: Tensor) -> None:
    if sound.ndim != 2 or not sound.shape[1]:
        raise EncoderError(f"CLAP hears sounds of the form [N, samples], not {list(sound.shape)}")


class ClapMel(torch.nn.Module):
    """Mel spectrogram of a CLAP's feature extractor, in PyTorch, whole batches at a time.

    Args:
        features: The model's feature extractor.

    Raises:
        EncoderError: When it repeats or cuts sound in an unknown way.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, features: Any) -> None:
        super().__init__()
        if features.padding not in ("repeatpad", "repeat", "pad") or features.truncation not in (
            "fusion",
            "rand_trunc",
        ):
            raise EncoderError(
                f"the CLAP's feature extractor has padding={features.padding} and truncation={features.truncation}, "
                "which are not known"
            )
        self.samples = int(features.nb_max_samples)
        self._size, self._hop, self._padding = features.fft_window_size, features.hop_length, features.padding
        fusion = features.truncation == "fusion"
        # Models with feature fusion see the whole sound and three parts; of a sound that fits, all are the whole.
        self._views = 4 if fusion else 1
        filters = features.mel_filters if fusion else features.mel_filters_slaney
        self.register_buffer("filters", torch.tensor(np.asarray(filters), dtype=torch.float32))
        self.register_buffer("window", torch.hann_window(self._size))

    def forward(self, sound: Tensor) -> Tensor:
        """Return mels in dB, `[N, samples]` to `[N, views, frames, bands]`."""
        fitted = self._fitted(sound)
        spectrum = torch.stft(fitted, self._size, self._hop, window=self.window, return_complex=True)
        power = spectrum.abs().square().transpose(1, 2) @ self.filters
        return (10 * power.clamp_min(LEAST_POWER).log10())[:, None].expand(-1, self._views, -1, -1)

    def _fitted(self, sound: Tensor) -> Tensor:
        """Return sounds at the model's length: the middle of longer ones, shorter ones repeated or padded."""
        length = sound.shape[1]
        if length > self.samples:
            first = (length - self.samples) // 2
            return sound[:, first : first + self.samples]
        times = self.samples // length
        if self._padding == "repeat":
            return sound.repeat(1, times + 1)[:, : self.samples]
        if self._padding == "repeatpad":
            sound = sound.repeat(1, times)
        return F.pad(sound, (0, self.samples - sound.shape[1]))


def load_clap(model: str, named_by: NamedByFile | None = None) -> ClapEncoder:
    """Load a CLAP from a folder or, if the name is not a folder, from its hub.

    Args:
        model: A folder with `config.json`, weights, tokenizer, and `preprocessor_config.json` or
            `processor_config.json`, or a hub's name.
            `{package}` is replaced by the folder of this package.
        named_by: The checkpoint that names the model; None if the user names it, see vidaudio.encoders.named_by.

    Raises:
        EncoderError: When the CLAP cannot be loaded; the message explains what to name instead.
    """
    place = model_place(model, named_by)
    with loading(model, place.paths, named_by):
        wrong = missing_from(place, FILES)
        if wrong is not None:
            raise _unusable(model, wrong)
        loaded, features, tokenizer = _loaded(model, place)
        text: Any = loaded.config.text_config
        wrong = unfit_tokenizer(tokenizer, text.vocab_size)
        if wrong is not None:
            raise _unusable(model, wrong)
        spec = EncoderSpec(model, None, "float32", 1, named_by, "sound", int(features.sampling_rate))
        encoder = ClapEncoder(spec, loaded, features, tokenizer)
        _try(encoder, model)
    return encoder


def _try(encoder: ClapEncoder, model: str) -> None:
    """Embed a sound and a text, to learn whether the parts of a CLAP fit together.

    Raises:
        EncoderError: When they do not.
    """
    sound = torch.zeros(1, round(encoder.window_seconds * encoder.sample_rate))
    try:
        vectors = torch.cat([encoder.embed_audio(sound), encoder.embed_text(["a sound"])])
    except Exception as error:
        # transformers checks nothing beforehand: what does not fit fails in any operation.
        raise _unusable(
            model, f"its parts do not fit together: {first_line(error)}; is preprocessor_config.json this model's?"
        ) from error
    if not vectors.isfinite().all():
        raise _unusable(model, "its vectors are not finite: the weights are damaged")


def _unusable(model: str, why: str) -> EncoderError:
    return EncoderError(
        f"the CLAP {model} cannot be loaded: {why}. If this machine cannot fetch it, copy its folder (config.json, "
        "model.safetensors, preprocessor_config.json, tokenizer.json) here and name it: "
        "--set query.clap.model=/path/to/folder, or --encoder-weights /path/to/folder"
    )


def _loaded(model: str, place: ModelPlace) -> tuple[ClapModel, Any, Any]:
    """Load model, feature extractor and tokenizer."""
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    try:
        with quiet_libraries(), progress_bars.hidden(), cache_only_where_hub_is_silent(not place.is_folder):
            found: Any = ClapModel.from_pretrained(
                place.name, weights_only=True, dtype=torch.float32, output_loading_info=True, **place.options
            )
            loaded, facts = found
            # transformers only logs that it drew weights at random.
            missing = sorted(set(facts["missing_keys"]) & set(dict(loaded.named_parameters())))
            if missing:
                raise ValueError(f"the weights lack {missing[0]}")
            return (
                loaded,
                ClapFeatureExtractor.from_pretrained(place.name, **place.options),
                AutoTokenizer.from_pretrained(place.name, trust_remote_code=False, **place.options),
            )
    except Exception as error:
        # Hubs, caches and folders raise dozens of error types; the user can do the same two things for each of them.
        first = str(error).strip().split("\n")[0].split(". ")[0] or "no message"
        raise _unusable(model, f"{type(error).__name__}: {first}") from error
