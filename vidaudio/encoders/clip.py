"""CLIP through open_clip: converts images and sentences to vectors of one space."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import open_clip
import torch
from torchvision.transforms import ToTensor

from vidaudio.encoders.base import weights_hash, without_autocast
from vidaudio.encoders.image import PictureEncoder, PictureView
from vidaudio.encoders.long_texts import LongTexts
from vidaudio.encoders.prompts import CLIPSEP_TEMPLATES, fill
from vidaudio.encoders.spec import DTYPES, EncoderSpec


def token_count(tokenizer: Any, text: str) -> int:
    """Return the number of tokens of a text in a tokenizer of open_clip, with those that mark begin and end."""
    # Tokenizers of transformers are wrapped.
    of_transformers = getattr(tokenizer, "tokenizer", None)
    if of_transformers is not None:
        clean = getattr(tokenizer, "clean_fn", None)
        return len(of_transformers(text if clean is None else clean(text), verbose=False).input_ids)
    return len(tokenizer.encode(text)) + 2


class ClipEncoder(PictureEncoder):
    """A frozen open_clip model: converts images and sentences to raw vectors of one space.

    Args:
        spec: Choice of the encoder, with the precision resolved.
        model: The loaded model.
        preprocess: open_clip's image preprocessing of that model.
        tokenizer: The model's tokenizer.
    """

    def __init__(
        self, spec: EncoderSpec, model: open_clip.CLIP | open_clip.CustomTextCLIP, preprocess: Any, tokenizer: Any
    ) -> None:
        size = model.visual.image_size
        config = getattr(model.visual, "preprocess_cfg", {}) or {}
        view = PictureView(
            image_size=size[0] if isinstance(size, tuple | list) else size,
            mean=config.get("mean", open_clip.OPENAI_DATASET_MEAN),
            std=config.get("std", open_clip.OPENAI_DATASET_STD),
            interpolation=config.get("interpolation", "bicubic"),
            resize_mode=config.get("resize_mode", "shortest"),
            # open_clip's own steps up to the tensor: they follow the model's configuration, whatever it is.
            geometry=list(itertools.takewhile(lambda step: not isinstance(step, ToTensor), preprocess.transforms)),
        )
        # Sentences are few: the text tower stays in float32, and only the image tower runs in the fast dtype.
        super().__init__(spec, copy.deepcopy(model.visual), DTYPES[spec.precision], view, weights_hash(model))
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._tokenizer = tokenizer
        self._long_texts = LongTexts(f"the CLIP {spec.architecture}", tokenizer.context_length)
        self.dimensions = self.embed_texts([""]).shape[1]

    def to(self, device: torch.device | str) -> Self:
        """Move both towers to a device, and return the encoder."""
        self._model.to(device)
        return super().to(device)

    def _pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        output = self._visual(pixels)
        # CoCa's tower also returns its tokens; the vector comes first.
        return output[0] if isinstance(output, tuple) else output

    @without_autocast
    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed sentences unchanged; float32 `[sentences, dimensions]`."""
        for text in texts:
            self._long_texts.check(text, token_count(self._tokenizer, text))
        tokens = self._tokenizer(list(texts)).to(self.device)
        return self._model.encode_text(tokens).float().cpu().numpy()

    def embed_label(self, label: str, templates: tuple[str, ...] = CLIPSEP_TEMPLATES) -> np.ndarray:
        """Return the label's mean raw embedding over the templates (CLIPSep, section 4.1); float32 `[dimensions]`."""
        return self.embed_texts(fill(templates, label)).mean(axis=0)
