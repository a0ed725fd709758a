"""Embedding models: frozen models that turn sounds into the vectors and probabilities that metrics compare.

A metric is only worth what its embedding model is, so every figure names the model, and the model's hash is part of the
report. A model comes from a file or a hub: YAMNet as TFLite, VGGish, PANNs and PaSST as published weights, any network
as TorchScript, a classifier or a CLAP by transformers.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidaudio.encoders.base import weights_hash
from vidaudio.encoders.clap import load_clap
from vidaudio.encoders.library_settings import cache_only_where_hub_is_silent, progress_bars, quiet_libraries
from vidaudio.encoders.model_place import model_place
from vidaudio.encoders.published_networks import load_sound_network
from vidaudio.errors import EncoderError
from vidaudio.hashing import sha256_of
from vidaudio.text import first_line
from vidaudio.torchscript import is_torchscript, load_torchscript

TORCHSCRIPT_SUFFIXES = frozenset({".pt", ".pth", ".ts", ".jit"})
WEIGHTS_SUFFIXES = frozenset({".pt", ".pth"})
# Names of AudioSet's classes, beside the weights of a PANN or of PaSST.
AUDIOSET_CLASSES = "class_labels_indices.csv"
DESCRIPTION = "vidaudio.json"
DEFAULT_SAMPLE_RATE = 16_000
# Sounds that are embedded at a time.
BATCH = 16


@dataclass(frozen=True)
class Embedded:
    """Output of an embedding model for some sounds of one length.

    Attributes:
        vectors: Vectors of each sound's windows of time, float32 `[N, W, D]`; a model of whole sounds has one window.
        probabilities: Probabilities of the model's classes, over the whole sound, float32 `[N, C]`; None if it has no
            classes.
    """

    vectors: np.ndarray
    probabilities: np.ndarray | None = None


class EmbeddingModel(ABC):
    """A frozen model of sounds.

    Attributes:
        name: Name in tables.
        sample_rate: Sample rate that it takes, Hz.
        sha256: Hash of its weights.
        classes: Names of its classes; empty if it has none, or nothing names them.
        preparation: Description of how sounds are prepared for it, where that is read from a file beside the weights.
    """

    preparation: str = ""

    def __init__(self, name: str, sample_rate: int, sha256: str, classes: Sequence[str] = ()) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.sha256 = sha256
        self.classes = tuple(classes)

    @abstractmethod
    def embed(self, sounds: np.ndarray) -> Embedded:
        """Embed sounds, float32 `[N, samples]` in [-1, 1], at `sample_rate`."""

    def embed_words(self, texts: Sequence[str]) -> np.ndarray | None:
        """Embed texts in the space of the sounds, float32 `[N, D]`; None if the model takes no words."""
        return None


class TorchScriptModel(EmbeddingModel):
    """A TorchScript file: sounds `[N, samples]` to vectors `[N, D]` or `[N, W, D]`, or to these and probabilities.

    The file, or `FILE.json` beside it, may say `{"sample_rate": 16000, "classes": [...]}`; inside the file, that is its
    extra file `vidaudio.json`.

    Raises:
        EncoderError: When the file is no TorchScript, or its description is invalid.
    """

    def __init__(self, name: str, path: Path) -> None:
        inside = {DESCRIPTION: ""}
        try:
            self._model = load_torchscript(str(path), inside)
            beside = path.with_name(path.name + ".json")
            text = inside[DESCRIPTION] or (beside.read_text("utf-8") if beside.is_file() else "{}")
            described = json.loads(text)
            rate, classes = int(described.get("sample_rate", DEFAULT_SAMPLE_RATE)), described.get("classes", [])
            if rate < 1 or not all(isinstance(label, str) for label in classes):
                raise ValueError("sample_rate must be a number of Hz, and classes a list of names")
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise EncoderError(f"{path} cannot be used as an embedding model: {first_line(error)}") from error
        super().__init__(name, rate, sha256_of(path), classes)
        self._path = path
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)

    @torch.inference_mode()
    def embed(self, sounds: np.ndarray) -> Embedded:
        """Embed sounds.

        Raises:
            EncoderError: When the file does not give vectors.
        """
        said = self._model(torch.from_numpy(np.ascontiguousarray(sounds, np.float32)).to(self._device))
        vectors, probabilities = said if isinstance(said, tuple | list) and len(said) == 2 else (said, None)
        if not isinstance(vectors, Tensor) or vectors.ndim not in (2, 3) or len(vectors) != len(sounds):
            raise EncoderError(
                f"{self._path} gives no vectors: [N, D] or [N, windows, D] is wanted for [N, samples], alone or in a "
                "pair with probabilities [N, classes]"
            )
        windows = vectors[:, None] if vectors.ndim == 2 else vectors
        return Embedded(
            windows.float().cpu().numpy(), None if probabilities is None else probabilities.float().cpu().numpy()
        )


class PublishedModel(EmbeddingModel):
    """A network of sound that is known here by its published weights: VGGish, a PANN or PaSST.

    The names of the classes are read from `class_labels_indices.csv` beside the file, as AudioSet publishes them.

    Raises:
        EncoderError: When the file is of no such network, or names another number of classes.
    """

    def __init__(self, name: str, path: Path) -> None:
        network = load_sound_network(path)
        beside = path.with_name(AUDIOSET_CLASSES)
        classes = _class_map(beside) if network.classes and beside.is_file() else []
        if classes and len(classes) != network.classes:
            raise EncoderError(f"{beside} names {len(classes)} classes, and {path} has {network.classes}")
        super().__init__(name, network.sample_rate, sha256_of(path), classes)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.to(self._device)

    @torch.inference_mode()
    def embed(self, sounds: np.ndarray) -> Embedded:
        """Embed sounds one by one, so that no vector depends on the others."""
        given = torch.from_numpy(np.ascontiguousarray(sounds, np.float32)).to(self._device)
        found = [self._network(sound[None]) for sound in given]
        vectors = torch.cat([one.vectors for one in found]).cpu().numpy()
        if not self._network.classes:
            return Embedded(vectors)
        return Embedded(vectors, torch.cat([one.probabilities for one in found]).cpu().numpy())


class Yamnet(EmbeddingModel):
    """YAMNet (AudioSet, 521 classes) as its authors publish it, a TFLite file; 1024 numbers a window of 0.975 s.

    Windows are half a window apart, as in its authors' code; the vector is what its classifier reads, and a sound's
    probabilities are the mean over its windows, scaled to sum to 1.

    Raises:
        EncoderError: When the file is not YAMNet's, or no TFLite interpreter is installed.
    """

    WINDOW, HOP, DIMENSIONS = 15_600, 7_800, 1024

    def __init__(self, name: str, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ModuleNotFoundError:
            raise EncoderError(
                "ai-edge-litert is not installed, which reads TFLite files: pip install 'vidaudio[metrics]'"
            ) from None
        try:
            # Without the delegate, which would not keep the vector that is read below.
            self._model = Interpreter(
                str(path),
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
            self._model.allocate_tensors()
        except ValueError as error:
            raise EncoderError(f"{path} is no TFLite file: {first_line(error)}") from error
        # A file with 8-bit weights has a tensor of this shape more: the vector in whole numbers, each window on a scale
        # of its own.
        found = [
            tensor
            for tensor in self._model.get_tensor_details()
            if tuple(tensor["shape"]) == (1, self.DIMENSIONS) and tensor["dtype"] is np.float32
        ]
        (entry,), outputs = self._model.get_input_details(), self._model.get_output_details()
        if int(np.prod(entry["shape"])) != self.WINDOW or not found:
            raise EncoderError(f"{path} is not YAMNet: it takes {entry['shape'].tolist()}, not {self.WINDOW} samples")
        self._input, self._scores, self._vector = entry, outputs[0]["index"], found[-1]["index"]
        names = path.with_name("yamnet_class_map.csv")
        super().__init__(name, DEFAULT_SAMPLE_RATE, sha256_of(path), _class_map(names) if names.is_file() else ())

    def embed(self, sounds: np.ndarray) -> Embedded:
        """Embed sounds; one that is shorter than a window is filled up with silence."""
        length = max(self.WINDOW, sounds.shape[1])
        starts = range(0, length - self.WINDOW + 1, self.HOP)
        vectors = np.zeros((len(sounds), len(starts), self.DIMENSIONS), np.float32)
        scores = []
        for row, sound in enumerate(sounds):
            filled = np.pad(sound.astype(np.float32), (0, length - len(sound)))
            heard = []
            for number, start in enumerate(starts):
                window = filled[start : start + self.WINDOW].reshape(self._input["shape"])
                self._model.set_tensor(self._input["index"], window)
                self._model.invoke()
                vectors[row, number] = self._model.get_tensor(self._vector)[0]
                heard.append(self._model.get_tensor(self._scores)[0])
            mean = np.mean(heard, axis=0)
            scores.append(mean / mean.sum())
        return Embedded(vectors, np.stack(scores).astype(np.float32))


def _class_map(path: Path) -> list[str]:
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        return [row["display_name"] for row in csv.DictReader(file)]


class TransformersClassifier(EmbeddingModel):
    """A classifier of sounds by transformers, such as AST: the mean of its last states, and its classes.

    Args:
        name: Name in tables.
        place: Name on the hub, or a folder.

    Raises:
        EncoderError: When it cannot be loaded.
    """

    def __init__(self, name: str, place: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        self._extractor = _loaded(place, lambda name, options: AutoFeatureExtractor.from_pretrained(name, **options))
        model = _loaded(place, lambda name, options: AutoModelForAudioClassification.from_pretrained(name, **options))
        rate, labels = self._extractor.sampling_rate, model.config.id2label
        super().__init__(name, rate, weights_hash(model), [labels[number] for number in sorted(labels)])
        self.preparation = self._extractor.to_json_string()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().to(self._device)

    @torch.inference_mode()
    def embed(self, sounds: np.ndarray) -> Embedded:
        """Embed sounds one by one, so that no vector depends on the others."""
        vectors, probabilities = [], []
        for sound in sounds:
            given = self._extractor(sound, sampling_rate=self.sample_rate, return_tensors="pt").to(self._device)
            said = self._model(**given, output_hidden_states=True)
            vectors.append(said.hidden_states[-1].mean(1).float().cpu().numpy())
            probabilities.append(said.logits.softmax(-1)[0].float().cpu().numpy())
        return Embedded(np.stack(vectors), np.stack(probabilities))


class ClapEmbedding(EmbeddingModel):
    """A CLAP by transformers: vectors of sounds and of words in one space, whose cosine is the CLAP score.

    Args:
        name: Name in tables.
        place: Name on the hub, or a folder.

    Raises:
        EncoderError: When it cannot be loaded.
    """

    def __init__(self, name: str, place: str) -> None:
        self._clap = load_clap(place)
        super().__init__(name, self._clap.sample_rate, self._clap.weights_sha256)
        self.preparation = self._clap.preparation

    def embed(self, sounds: np.ndarray) -> Embedded:
        """Embed sounds; each has one vector."""
        vectors = self._clap.embed_audio(torch.from_numpy(np.ascontiguousarray(sounds, np.float32)))
        return Embedded(vectors.numpy()[:, None])

    def embed_words(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts as they are, float32 `[N, D]`."""
        return self._clap.embed_text(texts).numpy()


def _loaded(place: str, load: Callable[[str, dict[str, Any]], Any]) -> Any:
    """Load a part of a model from a folder or a hub.

    Args:
        place: Folder, or name on the hub.
        load: Function from the place and the options of `from_pretrained` to the part.

    Raises:
        EncoderError: When it cannot be loaded.
    """
    found = model_place(place, None)
    try:
        with quiet_libraries(), progress_bars.hidden(), cache_only_where_hub_is_silent(not found.is_folder):
            return load(found.name, found.options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EncoderError(
            f"the embedding model {place} cannot be loaded ({first_line(error)}); name a folder, a file, or a model on "
            "the hub, which needs a connection the first time"
        ) from error


def open_embedding(text: str) -> EmbeddingModel:
    """Open the embedding model that `NAME=PLACE` names.

    Args:
        text: A name for tables, and a place: a TFLite file (YAMNet), published weights (VGGish, PANNs, PaSST), a
            TorchScript file, a folder, or a hub's name.

    Raises:
        EncoderError: When the text has another form, or the model cannot be loaded.
    """
    name, equals, place = text.partition("=")
    if not (name.strip() and equals and place):
        raise EncoderError(f"{text!r} names no embedding model: NAME=PLACE is wanted, such as yamnet=yamnet.tflite")
    path = Path(place)
    if path.suffix == ".tflite" or path.suffix in TORCHSCRIPT_SUFFIXES:
        if not path.is_file():
            raise EncoderError(f"there is no file {path}")
        if path.suffix == ".tflite":
            return Yamnet(name, path)
        only_weights = path.suffix in WEIGHTS_SUFFIXES and not is_torchscript(path)
        return PublishedModel(name, path) if only_weights else TorchScriptModel(name, path)
    from transformers import AutoConfig

    config = _loaded(place, lambda found, options: AutoConfig.from_pretrained(found, **options))
    return ClapEmbedding(name, place) if config.model_type == "clap" else TransformersClassifier(name, place)


def embed_in_batches(model: EmbeddingModel, sounds: Sequence[np.ndarray]) -> Iterator[Embedded]:
    """Yield the output for each sound, float32 `[samples]` at the model's rate; sounds of one length go together."""
    first = 0
    while first < len(sounds):
        last = first
        while last < min(first + BATCH, len(sounds)) and len(sounds[last]) == len(sounds[first]):
            last += 1
        found = model.embed(np.stack(sounds[first:last]))
        for row in range(last - first):
            probabilities = None if found.probabilities is None else found.probabilities[row : row + 1]
            yield Embedded(found.vectors[row : row + 1], probabilities)
        first = last
