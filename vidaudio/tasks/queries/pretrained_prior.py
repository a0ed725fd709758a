"""Published diffusion priors (CLIPSonic-PD): from a sentence to the vector of a picture, by a network of others.

A prior such as Karlo's (Lee et al., 2022) was trained on millions of captioned pictures. It reads the words themselves
with the text encoder that it comes with, and belongs to the one CLIP that this text encoder is a part of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidaudio.encoders.library_settings import cache_only_where_hub_is_silent, progress_bars, quiet_libraries
from vidaudio.encoders.named_by import no_requests
from vidaudio.encoders.spec import EncoderSpec, spelled
from vidaudio.errors import GapError
from vidaudio.generation.libraries import require
from vidaudio.modality_gap import METHODS

HUB_PREFIX = "hf-hub:"
INDEX_NAME = "model_index.json"
PARTS = ("prior", "text_encoder", "tokenizer")
# Settings of the published pipeline.
GUIDANCE, SAMPLING_STEPS = 4.0, 25
SEED = 0
# Least cosine of a text's vectors by the prior's own text encoder and by the encoder of the system.
SAME_ENCODER = 0.99


class PretrainedPrior:
    """A published prior for one encoder; a method of asking that reads sentences, see `QueryGap`.

    A sentence's vector depends on the sentence alone: each begins with the same noise and is computed alone.

    Args:
        place: Folder of the prior, or `hf-hub:` and its name on the hub.
        encoder: Fingerprint of the encoder whose vectors the system was trained on.

    Attributes:
        name: Name of the method, for reports and metadata.

    Raises:
        GapError: When the prior cannot be loaded, or its vectors have other dimensions than the encoder's.
    """

    def __init__(self, place: str, encoder: dict[str, Any]) -> None:
        self.name = f"pretrained prior {_plain_name(place)}"
        self._place = place
        self._encoder = spelled(EncoderSpec(encoder["architecture"], encoder["pretrained"]))
        self._prior, self._scheduler, self._text_encoder, self._tokenizer = _loaded(place)
        dimensions = self._prior.clip_mean.shape[-1]
        if dimensions != encoder["dimensions"]:
            raise GapError(
                f"the prior {place} draws vectors of {dimensions} dimensions, and those of the system's encoder, "
                f"{self._encoder}, have {encoder['dimensions']}: a prior belongs to one encoder (Karlo's to "
                "ViT-L-14/openai)"
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for part in (self._prior, self._text_encoder):
            part.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.inference_mode()
    def map_words(self, sentences: Sequence[str], text: Tensor) -> Tensor:
        """Return the mean of the pictures' vectors that are drawn for sentences, float32 `[D]`.

        Args:
            sentences: A text in the recipe's templates.
            text: The encoder's mean vector of the sentences, `[D]`; it shows whether the prior is of the encoder.

        Raises:
            GapError: When the prior belongs to another encoder.
        """
        read = [self._read(sentence) for sentence in sentences]
        own = torch.stack([vector[0] for vector, _, _ in read]).mean(dim=0).to(text)
        cosine = float(F.cosine_similarity(own, text.float(), dim=0)) if own.shape == text.shape else 0.0
        if not cosine >= SAME_ENCODER:
            raise GapError(
                f"the prior {self._place} belongs to another encoder than the system's, {self._encoder}: their "
                f"vectors of {sentences[0]!r} have a cosine of {cosine:.2f}, not 1; Karlo's prior belongs to "
                "ViT-L-14/openai"
            )
        nothing = self._read("")
        # Copied: tensors of inference mode cannot be used in training.
        return torch.stack([self._drawn(one, nothing) for one in read]).mean(dim=0).float().to(text.device).clone()

    def _read(self, sentence: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return vector, states and mask of a sentence, `[1, D]`, `[1, T, D]` and bool `[1, T]`."""
        length = self._tokenizer.model_max_length
        tokens = self._tokenizer(
            sentence, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(self._device)
        # As published: the text encoder sees the padding, whose states the prior's mask hides.
        output = self._text_encoder(tokens.input_ids)
        return output.text_embeds, output.last_hidden_state, tokens.attention_mask.bool()

    def _drawn(self, sentence: tuple[Tensor, ...], nothing: tuple[Tensor, ...]) -> Tensor:
        """Return the picture's vector that is drawn for a sentence, `[D]`."""
        vectors, states, mask = (torch.cat(both) for both in zip(nothing, sentence, strict=True))
        generator = torch.Generator().manual_seed(SEED)
        self._scheduler.set_timesteps(SAMPLING_STEPS)
        steps = self._scheduler.timesteps.tolist()
        noisy = torch.randn(1, self._prior.config.embedding_dim, generator=generator).to(self._device)
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            without, found = self._prior(
                noisy.expand(2, -1),
                timestep=step,
                proj_embedding=vectors,
                encoder_hidden_states=states,
                attention_mask=mask,
                return_dict=False,
            )[0].chunk(2)
            guided = without + GUIDANCE * (found - without)
            noisy = self._scheduler.step(
                guided, timestep=step, sample=noisy, generator=generator, prev_timestep=after
            ).prev_sample
        return self._prior.post_process_latents(noisy)[0]


def is_prior_place(name: str) -> bool:
    """Return whether a name is that of a published prior: of the hub, or a folder."""
    return name.startswith(HUB_PREFIX) or (name not in (*METHODS, "none") and Path(name).is_dir())


def _plain_name(place: str) -> str:
    """Return the name of a prior without the path to its folder."""
    return place.removeprefix(HUB_PREFIX) if place.startswith(HUB_PREFIX) else Path(place).resolve().name


def _loaded(place: str) -> tuple[Any, Any, Any, Any]:
    """Load prior, scheduler, text encoder and tokenizer.

    Raises:
        GapError: When they cannot be loaded.
    """
    diffusers = require("diffusers")
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    on_hub = place.startswith(HUB_PREFIX)
    name = place.removeprefix(HUB_PREFIX)
    if not on_hub:
        _check_folder(Path(name))
    own: dict[str, Any] = {"local_files_only": not on_hub}
    try:
        with quiet_libraries(), progress_bars.hidden(), _connections(on_hub):
            # Kandinsky's priors have one scheduler; Karlo's folder also holds those of its other networks.
            listed = diffusers.DiffusionPipeline.load_config(name, **own)
            scheduler = "prior_scheduler" if "prior_scheduler" in listed else "scheduler"
            return (
                diffusers.PriorTransformer.from_pretrained(name, subfolder="prior", torch_dtype=torch.float32, **own),
                diffusers.UnCLIPScheduler.from_pretrained(name, subfolder=scheduler, **own),
                CLIPTextModelWithProjection.from_pretrained(
                    name, subfolder="text_encoder", weights_only=True, dtype=torch.float32, **own
                ),
                CLIPTokenizer.from_pretrained(name, subfolder="tokenizer", **own),
            )
    except Exception as error:
        # Hubs, caches and folders raise dozens of error types; the user can do the same two things for each of them.
        first = str(error).strip().split("\n")[0].split(". ")[0] or "no message"
        raise GapError(
            f"the prior {place} cannot be loaded ({type(error).__name__}: {first}). If this machine cannot fetch it, "
            f"copy its folder ({INDEX_NAME}, {', '.join(PARTS)} and its scheduler) here and name it: "
            "--gap /path/to/folder"
        ) from error


def _connections(on_hub: bool) -> AbstractContextManager[None]:
    """Return the context in which a prior is loaded: of a folder, no library may open a connection."""
    return cache_only_where_hub_is_silent(True) if on_hub else no_requests()


def _check_folder(folder: Path) -> None:
    """Check that a folder holds a prior with its text encoder.

    Raises:
        GapError: When it does not; names what is missing.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    try:
        listed = json.loads((folder / INDEX_NAME).read_text())
    except (OSError, ValueError):
        missing.insert(0, INDEX_NAME)
        listed = {}
    if missing or not isinstance(listed, dict):
        raise GapError(
            f"{folder} is no published prior: {', '.join(missing) or INDEX_NAME} is missing or damaged; a prior's "
            f"folder holds {INDEX_NAME}, {', '.join(PARTS)} and its scheduler, as diffusers saves them"
        )
