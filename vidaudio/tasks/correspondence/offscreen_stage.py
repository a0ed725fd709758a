"""The off-screen stage: measures what the sound of each clip of a shard has that its pictures do not show."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import EMBED, OFFSCREEN, OFFSCREEN_SCHEMA
from vidaudio.corpus.corpus import Corpus
from vidaudio.correspondence.offscreen import MusicTagger, Offscreen, SpeechDetector, residual_db, seen
from vidaudio.correspondence.scorer import FULL_SCALE, ScoredClip
from vidaudio.cpus import one_thread
from vidaudio.errors import ScorerError
from vidaudio.json_values import parse_object
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.scored_clips import read_scored_clips
from vidaudio.separation import Request, separate_long
from vidaudio.shards.commit import CommitRecord, commit
from vidaudio.tasks.queries.gap import trained_gap
from vidaudio.tasks.separation.checkpoint import load_checkpoint

DECIMALS = 4
DESCRIBED_IN = f"{OFFSCREEN.folder}/{OFFSCREEN.description}"


@dataclass(frozen=True)
class Tools:
    """What a corpus's off-screen facts are made with, as its description says; JSON-able by `as_dict`.

    Attributes:
        encoder: Name of the encoder of the pictures' vectors.
        prompts: Vectors of the sentences by group, empty where the encoder knows no words.
        tagger, tagger_sha256, music_classes: Tagger, its hash, and the numbers of its classes that are music; None and
            empty without one.
        separator, separator_sha256: Weights file of the separator and its hash; None without one.
        speech_detector: Package and version.
    """

    encoder: str
    prompts: dict[str, list[list[float]]]
    tagger: str | None
    tagger_sha256: str | None
    music_classes: tuple[int, ...]
    separator: str | None
    separator_sha256: str | None
    speech_detector: str

    @classmethod
    def of(cls, corpus: Corpus) -> Tools:
        """Return what the description of a corpus says."""
        told = parse_object(corpus.store.read(DESCRIBED_IN))
        return cls(**{**told, "music_classes": tuple(told["music_classes"])})

    def encode(self) -> bytes:
        """Return the description's bytes."""
        return json.dumps(vars(self), indent=1, sort_keys=True).encode() + b"\n"


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def offscreen_shard(
    corpus: Corpus, shard: int, folder: str, _: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Measure every clip of a shard that is extracted and embedded.

    Raises:
        ScorerError: When the tagger or the separator is not the one that the description names.
    """
    tools = Tools.of(corpus)
    measure = _measurer(tools.encode())
    rows = []
    with one_thread():
        for listed in read_scored_clips(corpus, shard, EMBED.model_folder(tools.encoder)):
            rows.append({"id": listed.id, **_row(measure(listed.clip))})
            advance(1)
    table = pa.table({name: [row[name] for row in rows] for name in OFFSCREEN_SCHEMA.names}, schema=OFFSCREEN_SCHEMA)
    return commit(corpus.store, folder, shard, stage=OFFSCREEN.stage, plan_hash=corpus.plan_hash, table=table)


def _row(found: Offscreen) -> dict[str, Any]:
    values = {name: getattr(found, name) for name in OFFSCREEN_SCHEMA.names if name != "id"}
    return {name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in values.items()}


class Measurer:
    """Measures clips with some tools.

    Args:
        tools: Which ones.

    Raises:
        ScorerError: When a tool's file is missing, or is another one than is described.
    """

    def __init__(self, tools: Tools) -> None:
        self._speech = SpeechDetector()
        self._prompts = {group: np.array(vectors, np.float32) for group, vectors in tools.prompts.items()}
        self._tagger = self._separator = None
        if tools.tagger is not None:
            _check_same(tools.tagger, tools.tagger_sha256)
            self._tagger = MusicTagger(tools.tagger, tools.music_classes)
        if tools.separator is not None:
            _check_same(tools.separator, tools.separator_sha256)
            self._separator = load_checkpoint(tools.separator)
            self._gap = trained_gap(self._separator)

    def __call__(self, clip: ScoredClip) -> Offscreen:
        """Return what is known of a clip's sound."""
        shown = seen(clip.vectors, self._prompts) if self._prompts else {}
        return Offscreen(
            speech_share=self._speech.share(clip.samples),
            music_share=None if self._tagger is None else self._tagger.share(clip.samples),
            speaker_seen=shown.get("speaker"),
            player_seen=shown.get("player"),
            residual_db=None if self._separator is None else self._residual(clip),
        )

    def _residual(self, clip: ScoredClip) -> float | None:
        assert self._separator is not None, "only called with a separator"
        sound = clip.samples.astype(np.float32) / FULL_SCALE
        query = self._gap.of_images(torch.from_numpy(clip.vectors.astype(np.float32).mean(axis=0)))
        found = separate_long(self._separator.model, torch.from_numpy(sound)[None], Request.for_one(query)).clamp(-1, 1)
        return residual_db(sound, found[0].cpu().numpy())


def _check_same(path: str, sha256: str | None) -> None:
    if not Path(path).is_file():
        raise ScorerError(f"there is no file {path}, which the off-screen facts are measured with; put it back there")
    if file_hash(path) != sha256:
        raise ScorerError(f"{path} is not the file that the off-screen facts of this corpus are measured with")


@functools.lru_cache(maxsize=1)
def _measurer(described: bytes) -> Measurer:
    told = parse_object(described)
    return Measurer(Tools(**{**told, "music_classes": tuple(told["music_classes"])}))
