"""BERT through transformers: converts sentences to vectors, for BERTSep, whose queries are labels encoded by BERT.

CLIPSep's code reads a table of label -> vector of 256 numbers from a file that was never published. It is not known
which BERT made the table; the size points to a small BERT with a hidden size of 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from vidaudio.encoders.base import weights_hash, without_autocast
from vidaudio.encoders.library_settings import cache_only_where_hub_is_silent, progress_bars, quiet_libraries
from vidaudio.encoders.long_texts import LongTexts
from vidaudio.encoders.model_place import ModelPlace, missing_from, model_place, unfit_tokenizer
from vidaudio.encoders.named_by import NamedByFile, loading
from vidaudio.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class BertSpec:
    """Choice of a BERT model, and of the output that represents a sentence.

    Attributes:
        model: A folder with `config.json`, weights and vocabulary, or a hub's name. `{package}` is replaced by the
            folder of this package.
        pooling: `cls`, the first token's last state, or `mean` over the sentence's tokens.
        named_by: The checkpoint that names the model; None if the user names it, see vidaudio.encoders.named_by.
    """

    model: str = "google/bert_uncased_L-4_H-256_A-4"
    pooling: Literal["cls", "mean"] = "cls"
    named_by: NamedByFile | None = field(default=None, compare=False)


class BertEncoder:
    """A frozen BERT. Embeddings are raw, float32.

    Args:
        spec: Choice of the model and its output.
        model: The loaded model.
        tokenizer: The model's tokenizer.

    Attributes:
        spec: Choice of the model and its output.
        dimensions: Dimensions of a vector.
        weights_sha256: Hash of the weights' names, shapes and float32 values.
    """

    def __init__(self, spec: BertSpec, model: PreTrainedModel, tokenizer: Any) -> None:
        self.spec = spec
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.weights_sha256 = weights_hash(model)
        self.dimensions = model.config.hidden_size
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._tokenizer = tokenizer
        # A tokenizer alone does not know the model's maximum number of tokens.
        self._most_tokens = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        self._long_texts = LongTexts(f"the BERT {Path(spec.model).name}", self._most_tokens)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return everything that affects an embedding, JSON-able."""
        return {
            "architecture": "bert",
            "pretrained": self.spec.model,
            "pooling": self.spec.pooling,
            "weights_sha256": self.weights_sha256,
            "dimensions": self.dimensions,
        }

    @without_autocast
    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed sentences one by one, so that no vector depends on the others; float32 `[texts, dimensions]`.

        A sentence that is longer than the model's maximum is cut at its end.
        """
        rows = [np.zeros((0, self.dimensions), np.float32)]
        for text in texts:
            self._long_texts.check(text, len(self._tokenizer(text, verbose=False).input_ids))
            tokens = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=self._most_tokens)
            tokens = tokens.to(self.device)
            states = self._model(**tokens).last_hidden_state
            pooled = states[:, 0] if self.spec.pooling == "cls" else states.mean(dim=1)
            rows.append(pooled.float().cpu().numpy())
        return np.concatenate(rows)

    def embed_label(self, label: str, templates: tuple[str, ...] = ("{}",)) -> np.ndarray:
        """Return the mean of the embeddings of a label in every template; float32 `[dimensions]`."""
        from vidaudio.encoders.prompts import fill

        return self.embed_texts(fill(templates, label)).mean(axis=0)


def load_bert(spec: BertSpec) -> BertEncoder:
    """Load a BERT from a folder or, if the name is not a folder, from its hub.

    Raises:
        EncoderError: When the BERT cannot be loaded; the message explains what to name instead.
    """
    place = model_place(spec.model, spec.named_by)
    with loading(spec.model, place.paths, spec.named_by):
        wrong = missing_from(place, (("config.json",),))
        if wrong is not None:
            raise _unusable(spec.model, wrong)
        model, tokenizer = _loaded(spec, place)
        wrong = unfit_tokenizer(tokenizer, model.config.vocab_size)
        if wrong is not None:
            raise _unusable(spec.model, wrong)
        return BertEncoder(spec, model, tokenizer)


def _unusable(model: str, why: str) -> EncoderError:
    return EncoderError(
        f"the BERT {model} cannot be loaded: {why}. If this machine cannot fetch it, copy its folder (config.json, "
        "model.safetensors, vocab.txt) here and name it: --set query.bert.model=/path/to/folder"
    )


def _loaded(spec: BertSpec, place: ModelPlace) -> tuple[PreTrainedModel, Any]:
    """Load model and tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_libraries(), progress_bars.hidden(), cache_only_where_hub_is_silent(not place.is_folder):
            # transformers reads safetensors, or other weights files without unpickling anything except the weights.
            model = AutoModel.from_pretrained(
                place.name, weights_only=True, trust_remote_code=False, dtype=torch.float32, **place.options
            )
            return model, AutoTokenizer.from_pretrained(place.name, trust_remote_code=False, **place.options)
    except Exception as error:
        # Hubs, caches and folders raise dozens of error types; the user can do the same two things for each of them.
        first = str(error).strip().split("\n")[0].split(". ")[0] or "no message"
        raise _unusable(spec.model, f"{type(error).__name__}: {first}") from error
