"""What `vidaudio train` would make of a recipe and a corpus, family by family, without the weights of any encoder.

Encoders that ran before training are made up: vectors of words are random, of the right length.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidaudio.generation import Denoiser
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.data import indexes
from vidaudio.tasks.generation import data as generation_data
from vidaudio.tasks.generation.module import GenerationModule
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.tasks.generation.task import GenerationTask
from vidaudio.tasks.queries.encoders import CorpusQueries, QueryEncoder
from vidaudio.tasks.queries.text_queries import first_labels, text_table
from vidaudio.tasks.separation import data as separation_data
from vidaudio.tasks.separation.checkpoint import build_model
from vidaudio.tasks.separation.module import TRAIN, SeparationModule
from vidaudio.tasks.separation.query_factory import make_query_encoder
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.tasks.separation.task import SeparationTask
from vidaudio.training.base import TrainingModule, TrainingTask

Recipe = SeparationRecipe | GenerationRecipe
# Hidden numbers of the BERT that train/bertsep.yaml names.
BERT_DIMENSIONS = 256
ENCODERS = {"clip": "ViT-B-32-quickgelu", "resnet18-dilated": "resnet18-dilated"}


@dataclass(frozen=True)
class Parts:
    """Parts of a training.

    Attributes:
        stream: Training batches.
        make_model: Makes the model with initial weights.
        make_module: From a recipe, which may differ in its loader alone, and a model.
        make_task: From such a recipe.
    """

    stream: MixtureStream
    make_model: Callable[[], nn.Module]
    make_module: Callable[[Any, Any], TrainingModule]
    make_task: Callable[[Any], TrainingTask]


def parts_of(recipe: Recipe, corpus: Path) -> Parts:
    """The parts of a separator's or a generator's training on a corpus."""
    if isinstance(recipe, GenerationRecipe):
        stream, _ = generation_data.streams(recipe, str(corpus))
    else:
        stream, _ = separation_data.streams(recipe, str(corpus))
    maker = made_up_maker(recipe, stream)
    in_words = "text" in maker.modalities and recipe.query.train != "image"
    text = {TRAIN: text_table(indexes(stream), maker, training=True)} if in_words else {}
    if isinstance(recipe, GenerationRecipe):
        return Parts(
            stream,
            lambda: Denoiser(recipe.denoiser(maker.dimensions)),
            lambda own, model: GenerationModule(model, own, stream, None, maker, text),
            lambda own: GenerationTask(own, stream, None, [1.0], maker),
        )
    return Parts(
        stream,
        lambda: build_model(recipe, maker.dimensions, len(maker.labels)),
        lambda own, model: SeparationModule(model, own, stream, None, maker, text),
        lambda own: SeparationTask(own, stream, None, [1.0], maker),
    )


class _MadeUpWords(QueryEncoder):
    """Any words, as a vector that only they have: the encoder ran before training and is no part of a step."""

    def encode_text(self, text: str, *, training: bool = False) -> Tensor:
        return torch.randn(self.dimensions, generator=torch.Generator().manual_seed(zlib.crc32(text.encode())))


class _ClipQueries(_MadeUpWords, CorpusQueries):
    """Pictures' vectors as the loader gives them, words made up."""


class _BertQueries(_MadeUpWords):
    modalities = frozenset({"text"})
    dimensions = BERT_DIMENSIONS


def made_up_maker(recipe: Recipe, stream: MixtureStream) -> QueryEncoder:
    """What makes a recipe's queries in training, without the weights of any encoder."""
    query = recipe.query
    if query.kind == "bert":
        return _BertQueries()
    encoder = {"architecture": ENCODERS[query.encoder], "dimensions": stream.index.dimensions}
    if query.kind == "corpus":
        return _ClipQueries(encoder, query)
    return make_query_encoder(recipe, encoder=encoder, labels=first_labels(indexes(stream)))
