"""BERT through transformers: sentences to vectors, for BERTSep, whose queries are labels in a language model's terms.

CLIPSep's code reads a table label -> vector of 256 numbers from a file that was never published; which BERT made it is
not known, the size points to a small BERT with 256 hidden numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vidaudio.encoders.clip import PACKAGE_FOLDER
from vidaudio.encoders.image import weights_hash
from vidaudio.encoders.library_settings import cache_only_where_hub_is_silent, progress_bars, quiet_libraries
from vidaudio.encoders.named_by import NamedByFile, loading
from vidaudio.errors import EncoderError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class BertSpec:
    """Which BERT, and which of its outputs stands for a sentence.

    Attributes:
        model: A folder with `config.json`, weights and vocabulary, or a hub's name. `{package}` stands for the folder
            of this package.
        pooling: `cls`, the first token's last state, or `mean` over the sentence's tokens.
        named_by: The checkpoint that names the model; None where the user does, see vidaudio.encoders.named_by.
    """

    model: str = "google/bert_uncased_L-4_H-256_A-4"
    pooling: Literal["cls", "mean"] = "cls"
    named_by: NamedByFile | None = field(default=None, compare=False)


class BertEncoder:
    """A frozen BERT. Embeddings are raw, float32.

    Attributes:
        spec: What was asked for.
        dimensions: Of a vector.
        weights_sha256: Of the weights' names and float32 values.
    """

    def __init__(self, spec: BertSpec, model: torch.nn.Module, tokenizer: Any) -> None:
        self.spec = spec
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.weights_sha256 = weights_hash(model)
        self.dimensions = model.config.hidden_size
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._tokenizer = tokenizer
        # A vocabulary alone does not say how many tokens the model has places for.
        self._most_tokens = min(tokenizer.model_max_length, model.config.max_position_embeddings)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that shapes an embedding, JSON-able."""
        return {
            "architecture": "bert",
            "pretrained": self.spec.model,
            "pooling": self.spec.pooling,
            "weights_sha256": self.weights_sha256,
            "dimensions": self.dimensions,
        }

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed sentences one by one, so that a vector does not depend on the others; float32 `[texts, dimensions]`.

        Of a sentence longer than the model has places for, the beginning counts.
        """
        rows = [np.zeros((0, self.dimensions), np.float32)]
        for text in texts:
            tokens = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=self._most_tokens)
            tokens = tokens.to(self.device)
            states = self._model(**tokens).last_hidden_state
            pooled = states[:, 0] if self.spec.pooling == "cls" else states.mean(dim=1)
            rows.append(pooled.float().cpu().numpy())
        return np.concatenate(rows)

    def embed_label(self, label: str, templates: tuple[str, ...] = ("{}",)) -> np.ndarray:
        """Mean of the embeddings of a label in every template; float32 `[dimensions]`."""
        from vidaudio.encoders.prompts import fill

        return self.embed_texts(fill(templates, label)).mean(axis=0)


def load_bert(spec: BertSpec) -> BertEncoder:
    """Load a BERT from a folder or, where the name is not one, from its hub.

    Raises:
        EncoderError: It cannot be had; says what to name instead.
    """
    name = spec.model.replace("{package}", str(PACKAGE_FOLDER))
    folder = Path(name).is_dir() if spec.named_by is None else _HUB_NAME.fullmatch(name) is None
    own = name.startswith(f"{PACKAGE_FOLDER}{os.sep}") and ".." not in Path(name).parts
    with loading(spec.model, [name] if folder and not own else [], spec.named_by):
        return BertEncoder(spec, *_loaded(spec, name, folder=folder))


def _loaded(spec: BertSpec, name: str, *, folder: bool) -> tuple[torch.nn.Module, Any]:
    """Model and tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_libraries(), progress_bars.hidden(), cache_only_where_hub_is_silent(not folder):
            # A name that a file gives is a hub's, whatever lies under it here.
            options = {"local_files_only": True} if spec.named_by is not None and not folder else {}
            # transformers reads safetensors, or other files of weights without unpickling anything else.
            model = AutoModel.from_pretrained(
                name, weights_only=True, trust_remote_code=False, dtype=torch.float32, **options
            )
            return model, AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)
    except Exception as error:
        # Hubs, caches and folders fail in dozens of types; whichever it was, the user can do the same two things.
        first = str(error).strip().split("\n")[0].split(". ")[0] or "no message"
        raise EncoderError(
            f"the BERT {spec.model} cannot be loaded ({type(error).__name__}: {first}). If this machine cannot fetch "
            "it, copy its folder (config.json, model.safetensors, vocab.txt) here and name it: "
            "--set query.bert.model=/path/to/folder"
        ) from error
