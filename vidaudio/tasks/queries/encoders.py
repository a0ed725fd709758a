"""Queries: from a batch in training, from words or images afterwards, always by the same encoder.

A `QueryEncoder` makes one kind of query: vectors of the corpus's encoder, numbers of labels, vectors of a BERT, or the
images themselves. Its output is the model's input without further changes.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.image import PictureEncoder
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.prompts import fill
from vidaudio.encoders.spec import RESNET, EncoderSpec
from vidaudio.errors import EncoderError, PackError, QueryError
from vidaudio.media.pictures import read_picture
from vidaudio.tasks.queries.blocks import Modality, QueryBlock, modalities
from vidaudio.tasks.queries.query_gap import QueryGap
from vidaudio.tasks.queries.trained_encoder import (
    NAMED_BY_RECORD,
    encoder_spec,
    load_query_encoder,
    query_from_text,
    refuse_empty,
)

# A label's words are BERT's sentence, unchanged.
BERT_TEMPLATES = ("{}",)


class QueryEncoder:
    """Encoder of one kind of query; the base class supports none.

    Attributes:
        modalities: Modalities of its queries.
        dimensions: Dimensions of its vectors, if queries are vectors.
        state_dimensions: Dimensions of the states of a text's tokens, if queries hold them; otherwise 0.
        encoder: Fingerprint of the encoder that makes them; None if there is none.
        labels: The labels it knows, if it knows only labels.
        image_size: Side of its input images, pixels.
        gap: Methods against the modality gap that all queries go through.
    """

    modalities: frozenset[Modality] = frozenset()
    dimensions: int = 1
    state_dimensions: int = 0
    encoder: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()
    image_size: int = 224
    gap: QueryGap = QueryGap()

    def encode_batch(self, batch: Mapping[str, Any]) -> Tensor:
        """Return image queries of a batch's sources, `[B, N, ...]`."""
        raise QueryError("this system cannot be asked by pictures")

    def encode_text(self, text: str, *, training: bool = False) -> Tensor:
        """Return the query of a label or of words, `[...]`; with `training`, the training templates are used."""
        raise QueryError("this system cannot be asked in words")

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Return queries of whole sentences as they are, `[sentences, ...]`."""
        raise QueryError("this system cannot be asked by sentences")

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return one query of one or more images together, `[...]`."""
        raise QueryError("this system cannot be asked by pictures")

    def supports(self, label: str) -> bool:
        """Return whether a label has a text query; a text encoder supports every label."""
        return "text" in self.modalities

    def encode_joint(self, texts: Sequence[str]) -> list[Tensor]:
        """Return queries for several sounds together: one sentence 'A and B' where the system takes sentences.

        Otherwise, one query per text.
        """
        return [self.encode_text(text) for text in texts]


class CorpusQueries(QueryEncoder):
    """Vectors of the encoder that embedded the corpus; the encoder is loaded at the first words or new images.

    Args:
        encoder: Fingerprint of that encoder.
        query: The recipe's query block.
        weights: Local weights of the encoder; None for the recorded ones.
    """

    encoder: dict[str, Any]

    def __init__(self, encoder: dict[str, Any], query: QueryBlock, weights: str | None = None) -> None:
        self.encoder = encoder
        self.dimensions = encoder["dimensions"]
        self.image_size = encoder.get("image_size", self.image_size)
        self.modalities = frozenset(modalities(query))
        self._query = query
        self._weights = weights
        if weights is not None:
            # Checked now although it may never be loaded: a wrong path is a mistake even where it is not needed.
            encoder_spec(encoder, weights)

    @functools.cached_property
    def _loaded(self) -> PictureEncoder:
        return load_query_encoder(self.encoder, self._weights)

    def encode_batch(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean image vector of each source's window, `[B, N, D]`."""
        return self.gap.of_images(image_queries(batch["vectors"]))

    def encode_text(self, text: str, *, training: bool = False) -> Tensor:
        """Return the query of a text, `[D]`: its vector, after the methods against the modality gap."""
        vector = self.raw_text(text, training=training)
        # A system that learns words meets them where they are, not where pictures are.
        gap = QueryGap(train=self.gap.train) if training else self.gap
        return gap.of_text(vector, fill(self._templates(training), text))

    def _templates(self, training: bool) -> tuple[str, ...]:
        return self._query.train_templates if training else self._query.templates

    def raw_text(self, text: str, *, training: bool = False) -> Tensor:
        """Return the mean vector of the text in the recipe's templates, `[D]`; only CLIP encoders support it."""
        if not isinstance(self._loaded, ClipEncoder):
            raise QueryError(
                f"this system's encoder, {self.encoder['architecture']}, knows no words; ask by a picture (--image)"
            )
        return query_from_text(self._loaded, text, self._templates(training))

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Return CLIP's vectors of sentences, `[sentences, D]`."""
        if not isinstance(self._loaded, ClipEncoder):
            raise QueryError(f"this system's encoder, {self.encoder['architecture']}, knows no words")
        return torch.stack([query_from_text(self._loaded, sentence, ("{}",)) for sentence in sentences])

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the mean vector of the images, `[D]`."""
        return self.gap.of_images(torch.from_numpy(self._loaded.embed_images(images).mean(axis=0)))

    def encode_joint(self, texts: Sequence[str]) -> list[Tensor]:
        """Return one query of the sentence 'A and B'."""
        for text in texts:
            refuse_empty(text)
        return [self.encode_text(" and ".join(text.strip() for text in texts))] if texts else []


class BertQueries(QueryEncoder):
    """Vectors of a frozen BERT, of the label's words unchanged (BERTSep).

    Args:
        query: The recipe's query block.
        encoder: Fingerprint of the BERT that the model was trained with; None in training.
        weights: Model name or path that replaces the recipe's; None for the recipe's.
    """

    modalities = frozenset({"text"})

    def __init__(self, query: QueryBlock, encoder: dict[str, Any] | None = None, weights: str | None = None) -> None:
        from vidaudio.encoders.bert import BertSpec, load_bert

        named_by = NAMED_BY_RECORD if encoder is not None and weights is None else None
        self._bert = load_bert(BertSpec(weights or query.bert.model, query.bert.pooling, named_by))
        self.encoder = self._bert.fingerprint
        self.dimensions = self._bert.dimensions
        if encoder is not None and encoder["weights_sha256"] != self._bert.weights_sha256:
            raise EncoderError(
                f"the model was trained on vectors of the BERT {encoder['pretrained']}, and {self._bert.spec.model} is "
                "another one; vectors of two encoders do not mix. Name the right one: --encoder-weights"
            )

    def encode_text(self, text: str, *, training: bool = False) -> Tensor:
        """Return BERT's vector of the text, `[D]`."""
        refuse_empty(text)
        return torch.from_numpy(self._bert.embed_label(text, BERT_TEMPLATES))

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Return BERT's vectors of sentences, `[sentences, D]`."""
        return torch.stack([self.encode_text(sentence) for sentence in sentences])

    def encode_joint(self, texts: Sequence[str]) -> list[Tensor]:
        """Return one query of the sentence 'A and B'."""
        return [self.encode_text(" and ".join(texts))] if texts else []


class LabelQueries(QueryEncoder):
    """Numbers of the labels in the training split (LabelSep).

    Args:
        labels: The labels, in the order of their numbers.
        dimensions: Dimensions of a label's learned vector.
    """

    modalities = frozenset({"text"})

    def __init__(self, labels: Sequence[str], dimensions: int) -> None:
        self.labels = tuple(labels)
        self.dimensions = dimensions
        # The exact spelling takes precedence: two labels may differ only in their capitals.
        self._number = {_plain(label): number for number, label in reversed(list(enumerate(self.labels)))}
        self._number |= {label: number for number, label in enumerate(self.labels)}

    def supports(self, label: str) -> bool:
        """Return whether the label is one of the known labels; capitals and underscores do not matter."""
        return self._of(label) is not None

    def _of(self, label: str) -> int | None:
        return self._number.get(label, self._number.get(_plain(label)))

    def encode_text(self, text: str, *, training: bool = False) -> Tensor:
        """Return the number of a label, int64."""
        refuse_empty(text)
        number = self._of(text)
        if number is None:
            near = difflib.get_close_matches(_plain(text), map(_plain, self.labels), n=3, cutoff=0.4)
            hint = f"the nearest are: {', '.join(near)}" if near else f"it knows {_some(self.labels)}"
            raise QueryError(f"this system knows only the {len(self.labels)} labels it met, not {text!r}; {hint}")
        return torch.tensor(number)


class PictureQueries(QueryEncoder):
    """Images unchanged, for a system whose image encoder is part of the model (the original Sound-of-Pixels)."""

    modalities = frozenset({"image"})

    def encode_batch(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the batch's images, `[B, N, F, 3, H, W]`."""
        if "frames" not in batch:
            raise PackError(
                "this system looks at the pictures themselves, and the loader gives none: pack the corpus with "
                "--set pack.frames=true"
            )
        return batch["frames"]

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the images resized and cropped to `image_size`, uint8 `[F, 3, H, W]`."""
        from torchvision.transforms import CenterCrop, InterpolationMode, Resize

        resize, crop = Resize(self.image_size, InterpolationMode.BICUBIC), CenterCrop(self.image_size)
        squares = [np.array(crop(resize(image.convert("RGB")))) for image in images]
        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


class FrozenPictureQueries(PictureQueries):
    """Features of a frozen ResNet, computed from the images; mean over a window's images (CLIPSep's SOP).

    Args:
        query: The recipe's query block.
        encoder: Fingerprint of the ResNet that the model was trained with; None in training.
        weights: Weights that replace the recipe's; None for the recipe's.
    """

    def __init__(self, query: QueryBlock, encoder: dict[str, Any] | None = None, weights: str | None = None) -> None:
        from vidaudio.encoders.resnet import ResNetEncoder

        named_by = NAMED_BY_RECORD if encoder is not None and weights is None else None
        weights = weights or query.pictures.weights
        if weights is None:
            raise EncoderError(
                "a frozen picture encoder needs weights: --set query.pictures.weights=/path/to/resnet18.pth"
            )
        resnet = load_encoder(EncoderSpec(RESNET, weights, "float32", 16, named_by))
        assert isinstance(resnet, ResNetEncoder)
        self._resnet = resnet
        self.encoder = self._resnet.fingerprint
        self.dimensions = self._resnet.dimensions
        if encoder is not None and encoder["weights_sha256"] != self._resnet.weights_sha256:
            raise EncoderError(
                "the model was trained on features of another ResNet; name the right one: --encoder-weights"
            )

    def encode_batch(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean feature vector of each source's images, `[B, N, D]`."""
        return self._resnet.embed_pixels(super().encode_batch(batch)).mean(dim=2).clone()

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the mean feature vector of the images, `[D]`."""
        return torch.from_numpy(self._resnet.embed_images(images).mean(axis=0))


class NoQueries(QueryEncoder):
    """Query encoder of a system without queries (PIT)."""


def image_queries(vectors: Tensor) -> Tensor:
    """Return the mean raw image embedding of each window: `[B, N, F, D]` to float32 `[B, N, D]` (CLIPSep)."""
    return vectors.float().mean(dim=2)


def open_images(paths: Sequence[str | Path]) -> list[Image.Image]:
    """Return image files in RGB, as an image viewer shows them.

    Raises:
        MediaError: When a file is missing or is not an image.
    """
    return [read_picture(path) for path in paths]


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").lower().split())


def _some(labels: Sequence[str], most: int = 8) -> str:
    return ", ".join(labels[:most]) + (" ..." if len(labels) > most else "")
