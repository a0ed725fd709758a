"""The modality gap of a trained system: data that methods are fitted to, and files beside the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from vidaudio.errors import EncoderError, GapError, QueryError
from vidaudio.modality_gap.base import GapData, GapMethod
from vidaudio.modality_gap.registry import (
    ASKING_METHODS,
    METHODS,
    TRAINING_METHODS,
    fit_method,
    load_method,
    method_options,
)
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.reader import SampleReader
from vidaudio.tasks.queries.blocks import GapBlock, QueryBlock
from vidaudio.tasks.queries.encoders import CorpusQueries, QueryEncoder
from vidaudio.tasks.queries.pretrained_prior import PretrainedPrior, is_prior_place
from vidaudio.tasks.queries.query_gap import QueryGap

GAP_FOLDER = "gap"
# Clips and texts that a method is fitted to, at most; of more clips, evenly chosen ones.
MAX_CLIPS = 50_000
MAX_TEXTS = 2_000
# What people ask for, where a corpus has neither labels nor captions.
_SOUND_NAMES = (
    "dog barking, cat meowing, bird singing, rooster crowing, cow mooing, horse neighing, frog croaking, insect "
    "buzzing, rain, thunder, wind, sea waves, stream of water, fire crackling, footsteps, door closing, knocking, "
    "clapping, laughing, crying baby, coughing, sneezing, snoring, whistling, speech, singing, crowd cheering, "
    "piano, violin, cello, acoustic guitar, electric guitar, drums, trumpet, saxophone, flute, accordion, organ, "
    "harp, church bell, alarm clock, telephone ringing, car engine, car horn, siren, train, airplane, helicopter, "
    "motorcycle, bicycle bell, chainsaw, drill, hammer, sawing wood, vacuum cleaner, washing machine, hair dryer, "
    "keyboard typing, frying food, pouring water, glass breaking, gunshot, fireworks, tractor, skateboard, "
    "basketball bouncing"
)
SOUND_NAMES = tuple(_SOUND_NAMES.split(", "))


@dataclass(frozen=True)
class GapSample:
    """Vectors of a packed corpus, and what they are of.

    Attributes:
        data: Vectors as methods are fitted to them.
        image_labels: Label of each picture; empty for a clip without one.
        text_labels: Each text.
    """

    data: GapData
    image_labels: tuple[str, ...]
    text_labels: tuple[str, ...]


def gap_sample(
    indexes: Sequence[TrainingIndex],
    queries: CorpusQueries,
    *,
    vectors: str | None = None,
    window_frames: int = 3,
    with_texts: bool = True,
) -> GapSample:
    """Read the vectors of the pictures of a split, and encode its texts, both as queries are made from them.

    A clip's picture is the mean of its middle `window_frames` vectors, as in training. Texts are the first labels of
    the clips, or their first captions; where there are neither, `SOUND_NAMES`.

    Args:
        indexes: Index of each corpus's split.
        queries: Query encoder of the vectors.
        vectors: Name of the encoder in the packs; None for the packs' first.
        window_frames: Pictures of a window.
        with_texts: Whether to encode texts, for which the encoder is loaded.
    """
    clips = sum(len(index) for index in indexes)
    step = max(1, -(-clips // MAX_CLIPS))
    images, described = [], []
    for index in indexes:
        reader = SampleReader(index)
        rows = range(0, len(index), step)
        labels, captions = (index.table[name].take(pa.array(rows)).to_pylist() for name in ("labels", "captions"))
        for place, row in enumerate(rows):
            frames = reader.vectors(row, vectors).astype(np.float32)
            first = max(0, (len(frames) - window_frames) // 2)
            images.append(frames[first : first + window_frames].mean(axis=0))
            described.append(((labels[place] or [""])[0], (captions[place] or [""])[0]))
        reader.close()
    if not images:
        raise GapError("there are no clips to fit a gap method to")
    has_labels = any(label for label, _ in described)
    of_image = tuple(label if has_labels else caption for label, caption in described)
    counted = Counter(text for text in of_image if text)
    texts = sorted(text for text, _ in counted.most_common(MAX_TEXTS)) or list(SOUND_NAMES)
    number = {text: row for row, text in enumerate(texts)} if counted else {}
    pairs = [(row, number[text]) for row, text in enumerate(of_image) if text in number]
    image_rows, text_rows = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
    pictures, encoder = torch.from_numpy(np.stack(images)), queries.encoder["weights_sha256"]
    if not with_texts:
        return GapSample(GapData.unpaired(pictures, pictures[:0], encoder), of_image, ())
    encoded = torch.stack([queries.raw_text(text) for text in texts]).float()
    return GapSample(GapData(pictures, encoded, image_rows, text_rows, encoder), of_image, tuple(texts))


def method_file(run: Path, name: str) -> Path:
    """Return the file of a fitted method beside a run's weights."""
    return run / GAP_FOLDER / f"{name}.safetensors"


def chosen_methods(block: GapBlock) -> tuple[str, ...]:
    """Return the names of a recipe's methods: of training, and of asking."""
    return tuple(name for name in (block.train, block.ask) if name != "none")


def needs_texts(names: Sequence[str]) -> bool:
    """Return whether any of these methods is fitted to texts."""
    return any(METHODS[name].needs & {"texts", "pairs"} for name in names)


def stored_method(run: Path, name: str, block: GapBlock, encoder: str) -> GapMethod | None:
    """Return a method that an earlier start of a run fitted with these options; None if there is none."""
    path = method_file(run, name)
    if not path.is_file():
        return None
    method = load_method(path, encoder=encoder)
    wanted = method_options(name) | block.options.get(name, {})
    return method if all(method.options.get(option) == value for option, value in wanted.items()) else None


def fitted_gap(
    block: GapBlock,
    queries: QueryEncoder,
    indexes: Sequence[TrainingIndex],
    folder: Path,
    *,
    vectors: str | None,
    window_frames: int,
    seed: int,
) -> QueryGap:
    """Return a recipe's methods against the modality gap, those of an earlier start of the run if there are any.

    Args:
        block: Methods and their options.
        queries: Query encoder of the run.
        indexes: Index of each corpus's training split.
        folder: Folder of the run.
        vectors: Name of the encoder in the packs; None for the packs' first.
        window_frames: Pictures of a window.
        seed: Seed of the run.

    Raises:
        EncoderError: When a method is fitted to texts, and the encoder cannot be loaded.
        GapError: When a method cannot be fitted.
    """
    names = chosen_methods(block)
    if not names:
        return QueryGap()
    assert isinstance(queries, CorpusQueries), "recipes with a method and other queries are refused"
    encoder = queries.encoder["weights_sha256"]
    found = {name: stored_method(folder, name, block, encoder) for name in names}
    missing = [name for name, method in found.items() if method is None]
    if missing:
        with_texts = needs_texts(missing)
        try:
            sample = gap_sample(indexes, queries, vectors=vectors, window_frames=window_frames, with_texts=with_texts)
        except EncoderError as error:
            fitted = [name for name in missing if needs_texts([name])]
            settings = [f"--set query.gap.{key}=none" for key in ("train", "ask") if getattr(block, key) in fitted]
            raise EncoderError(
                f"{error}; the recipe fits {' and '.join(fitted)} to texts, for which the encoder is needed now: "
                f"leave that out with {' '.join(settings)}"
            ) from error
        for name in missing:
            found[name] = fit_method(name, sample.data, seed=seed, **block.options.get(name, {}))
    return QueryGap(train=found.get(block.train), ask=found.get(block.ask))


class QueryRecipe(Protocol):
    """Recipe of a system that is asked by queries."""

    @property
    def system(self) -> str:
        """Name of the system."""

    @property
    def query(self) -> QueryBlock:
        """Settings of its queries."""


class TrainedSystem(Protocol):
    """A trained system that is asked by queries: a checkpoint of any family."""

    @property
    def recipe(self) -> QueryRecipe:
        """Recipe of the system."""

    @property
    def encoder(self) -> dict[str, Any] | None:
        """Fingerprint of the encoder that made its queries in training; None if there is none."""

    @property
    def path(self) -> Path:
        """Weights file."""


def trained_gap(loaded: TrainedSystem, wanted: str | None = None) -> QueryGap:
    """Return the methods that queries of a trained system go through.

    Args:
        loaded: The system.
        wanted: Name or file of a method that turns texts into pictures, folder or `hf-hub:` name of a published
            prior, or `none`; None for the method of the recipe.

    Raises:
        QueryError: When a method is wanted for a system that is not trained with CLIP's vectors of pictures.
        GapError: When a method is not there, or belongs to another encoder.
    """
    query = loaded.recipe.query
    name = query.gap.ask if wanted is None else wanted
    if query.kind != "corpus" or query.encoder != "clip" or query.train == "text":
        if name != "none":
            raise QueryError(
                f"{loaded.recipe.system} is not trained with CLIP's vectors of pictures, so there is no gap to close; "
                "leave --gap out"
            )
        return QueryGap()
    assert loaded.encoder is not None, "vectors of a corpus have an encoder"
    encoder = loaded.encoder["weights_sha256"]
    if name in TRAINING_METHODS:
        raise QueryError(
            f"{name} changes queries in training; --gap takes {', '.join(ASKING_METHODS)}, none, a "
            "file of one, or the folder of a published prior"
        )
    train = None if query.gap.train == "none" else find_method(query.gap.train, loaded.path, encoder)
    if is_prior_place(name):
        return QueryGap(train, PretrainedPrior(name, loaded.encoder))
    return QueryGap(train, None if name == "none" else find_method(name, loaded.path, encoder))


def find_method(wanted: str, weights: Path, encoder: str) -> GapMethod:
    """Return a fitted method by its name, beside a run's weights, or by its file.

    Args:
        wanted: Name of a method, or path of a file that `vidaudio gap` wrote.
        weights: Weights file of the run.
        encoder: Hash of the encoder's weights.

    Raises:
        GapError: When there is no such method or file, or it belongs to another encoder.
    """
    if wanted not in METHODS:
        if not Path(wanted).is_file():
            raise GapError(
                f"there is no gap method and no file {wanted!r}; there are {', '.join(METHODS)}, and "
                "published priors: a folder, or hf-hub:NAME"
            )
        return load_method(wanted, encoder=encoder)
    path = method_file(weights.parent, wanted)
    if not path.is_file() and METHODS[wanted].trains:
        raise GapError(
            f"{path} is missing: the system was trained with {wanted} and is asked through it; copy the folder "
            f"{GAP_FOLDER} of the run along with its weights"
        )
    if not path.is_file():
        raise GapError(
            f"{weights.parent} holds no fitted {wanted}: fit it with vidaudio gap PACK --fit {wanted} "
            f"--output {weights.parent / GAP_FOLDER}"
        )
    return load_method(path, encoder=encoder)
