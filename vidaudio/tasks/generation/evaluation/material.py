"""Material of an evaluation: the test's clips, with the windows of their sounds and the vectors of what is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vidaudio.errors import PackError
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.generation.checkpoint import GeneratorCheckpoint
from vidaudio.tasks.generation.data import ordered_windows
from vidaudio.tasks.generation.evaluation.plan import clips_of, plan_test
from vidaudio.tasks.generation.evaluation.sound_sets import ArraySet
from vidaudio.tasks.vocoder.checkpoint import load_vocoder
from vidaudio.text import number_of

if TYPE_CHECKING:
    from vidaudio.tasks.generation.evaluate import GenerationRequest

# Clips that are read together, and sounds that are generated together.
BLOCK = 16
# Training sounds that copies are looked for among, at most; of more, evenly chosen ones.
MOST_TRAINING = 5000


class EvalMaterial:
    """Clips of a test, with the windows of their sounds and the vectors of what is seen.

    Args:
        request: What is evaluated.
        loaded: Generator whose recipe decides windows and mel.

    Attributes:
        encoder: Fingerprint of the encoder of the pack's vectors; None for a pack without.
        data: The packed corpus.
        plan: Both halves of the test.
        sample_rate: Sample rate of the sounds, Hz.
        notes: Remarks for the report.
        vocoder: What makes sound of mels; None for Griffin-Lim.
        vocoder_name: The same in words, once it is known.
        sounds: Window of each clip by its key, int16 `[samples]`.
        vectors: Mean vector of a window's pictures by the clip's key, `[D]`.
        sources: Videos of the test's clips.
        training: Training sounds that copies are looked for among; None where the split is missing.
        windows: What decides a clip's sound and its mel; plain JSON values.
    """

    def __init__(self, request: GenerationRequest, loaded: GeneratorCheckpoint) -> None:
        recipe = loaded.recipe
        stream = ordered_windows(recipe, request.data, request.split, BLOCK)
        self.encoder = stream.encoder
        self.data = request.data
        (corpus,) = stream.corpora
        usable = set(corpus.windows.usable.tolist())
        every = clips_of(corpus.index)
        self.sample_rate = recipe.model.mel.sample_rate
        self.notes: list[str] = []
        if len(usable) < len(every):
            short = number_of(len(every) - len(usable), "clip has", "clips have")
            self.notes.append(f"{short} no window of {recipe.samples / self.sample_rate:.2f} s: not tested")
        plan = plan_test([clip for clip in every if clip.row in usable], limit=request.clips, seed=request.seed)
        self.vocoder = None if request.vocoder is None else load_vocoder(request.vocoder)
        self.vocoder_name = ""
        wanted = {clip.row: clip for clip in (*plan.queries, *plan.reference)}
        self.sounds: dict[str, np.ndarray] = {}
        self.vectors: dict[str, Tensor] = {}
        for row, sound, vectors in read_windows(stream, wanted):
            self.sounds[wanted[row].key] = sound
            if vectors is not None:
                self.vectors[wanted[row].key] = vectors.mean(0)
        # The loader puts another sample in the place of a damaged one.
        damaged = len(wanted) - len(self.sounds)
        if damaged:
            self.notes.append(f"{number_of(damaged, 'clip is', 'clips are')} damaged, and left out")
        self.plan = plan.of_keys(self.sounds)
        self.sources = {clip.source for clip in (*self.plan.queries, *self.plan.reference)}
        unlabelled = sum(not clip.label for clip in self.plan.queries)
        if unlabelled:
            self.notes.append(f"{unlabelled} clips have neither label nor caption, and are not asked for in words")
        self.training = self._training(request, loaded)
        # What decides a clip's sound, and its mel.
        self.windows = {
            "data": request.data,
            "split": request.split,
            "sounds_sha256": hash_of(self.sounds[clip.key] for clip in self.plan.queries),
            "samples": recipe.samples,
            "mel": recipe.model.mel.model_dump(mode="json"),
        }

    def require_vectors_of(self, loaded: GeneratorCheckpoint) -> None:
        """Check that the clips have the vectors of pictures that a generator is asked by.

        Raises:
            PackError: When they have none, or those of another encoder; names both.
        """
        if self.encoder is None or self.encoder["weights_sha256"] != loaded.encoder["weights_sha256"]:
            held = "no vectors" if self.encoder is None else f"vectors of {self.encoder['architecture']}"
            raise PackError(
                f"{self.data} holds {held}, and {loaded.path} is asked by those of {loaded.encoder['architecture']}"
            )

    @property
    def made_by_vocoder(self) -> str:
        """What makes sound of the mels, exactly."""
        return "griffin-lim" if self.vocoder is None else self.vocoder.sha256

    def _training(self, request: GenerationRequest, loaded: GeneratorCheckpoint) -> ArraySet | None:
        try:
            stream = ordered_windows(loaded.recipe, request.data, request.training_split, BLOCK)
        except PackError as error:
            self.notes.append(f"copying is not measured: {error}")
            return None
        usable = stream.corpora[0].windows.usable.tolist()
        chosen = set(usable[:: -(-len(usable) // MOST_TRAINING)])
        sounds = {str(row): sound for row, sound, _ in read_windows(stream, chosen)}
        if len(chosen) < len(usable):
            self.notes.append(f"copies are looked for among {len(sounds):,} of {len(usable):,} training sounds")
        return ArraySet("training", sounds, self.sample_rate)


def hash_of(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 over the values of some arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def read_windows(stream: MixtureStream, rows: Container[int]) -> Iterator[tuple[int, np.ndarray, Tensor | None]]:
    """Yield the row, the sound (int16) and the vectors `[F, D]` of some rows of a split; None without vectors.

    Damaged rows are left out.
    """
    positions = [place for place in range(stream.groups_per_epoch) if stream.pick(place)[0][1] in rows]
    for first in range(0, len(positions), BLOCK):
        group = positions[first : first + BLOCK]
        batch = stream.read(group)
        for place, position in enumerate(group):
            row, held = int(batch["rows"][place, 0]), batch["vectors"]
            if row != stream.pick(position)[0][1]:
                continue
            # A stream that reads no column of vectors has an empty dictionary of them. Copies, since a part of a batch
            # would keep all of it in memory.
            vectors = held[place, 0].float().clone() if isinstance(held, Tensor) else None
            yield row, batch["audio"][place, 0].numpy().copy(), vectors
