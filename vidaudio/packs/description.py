"""`pack.json`, the description of a pack: one format, writer and reader for packs of a corpus and for packed sounds.

Two older formats can also be read: that of corpus packs, whose `window` may be a number of drawn windows, and that of
packed sounds, whose `shards` map each tar to its SHA-256. Packs never change, so their descriptions keep their format;
only a removal rewrites the description in the current format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidaudio.config.corpus import PackBlock
from vidaudio.errors import PackError
from vidaudio.shards.store import Store
from vidaudio.shards.table_checks import LARGEST
from vidaudio.stream.vector_columns import VectorColumn, read_columns
from vidaudio.text import first_line

PACK_FILE = "pack.json"
FORMAT = 2
# The settings that determine packed sounds; a pack of a corpus uses all settings.
SOUND_SETTINGS = frozenset({"audio", "clips_per_shard", "split_fractions", "max_segment_seconds", "seed"})


class PackDamaged(PackError):
    """An error for an unreadable description of a pack; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PackDescription:
    """A pack as its `pack.json` describes it.

    Attributes:
        settings: Settings of the pack; settings unknown to this version are only in `stored`.
        plan_hash: Hash of settings, clips and their order.
        encoder: Folder below `embeddings/` with the pack's first vectors; empty for packed sounds, which have none.
        shards: Names of the training shards, in order, without a file ending.
        samples: Number of samples that were packed.
        clips: Number of clips that the samples were cut from.
        left_out: Number of clips that are in no sample, by cause; empty if an older version did not count them.
        generation: Number that every removal raises; positions in the pack are valid only within one generation.
        removed_samples: Number of samples that removals have deleted since.
        sample_rate: Sample rate of packed sounds, Hz; None for packs of a corpus, which records it itself.
        tar_sha256: Hashes of the tars of packed sounds, by name; the shards of a corpus have tables that record them.
        failed: Reason that a file of packed sounds could not be read, by clip id.
        vectors: Vector columns of the pack; empty if an older version did not list them, see `vector_columns`.
        thresholds: Least scores of the clips, see `vidaudio.packs.thresholds`; empty if there are none.
        stored: The file's original contents, so that rewriting it keeps what another version wrote.
    """

    settings: PackBlock
    plan_hash: str
    encoder: str
    shards: tuple[str, ...]
    samples: int
    clips: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0
    removed_samples: int = 0
    sample_rate: int | None = None
    tar_sha256: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    vectors: tuple[VectorColumn, ...] = ()
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def vector_columns(self) -> tuple[VectorColumn, ...]:
        """Vector columns of the pack; older versions packed those of one encoder. Empty for packed sounds."""
        return self.vectors or ((VectorColumn(self.encoder),) if self.encoder else ())

    @property
    def unknown_settings(self) -> list[str]:
        """Names of settings that this version does not know and therefore cannot plan with."""
        return sorted(set(self.stored.get("settings", {})) - set(PackBlock.model_fields) - {"sample_rate"})

    def encode(self) -> bytes:
        """Return the contents of `pack.json`."""
        described = {
            **self.stored,
            "format": FORMAT,
            "settings": {**self.stored.get("settings", {}), **self.settings.model_dump(mode="json")},
            "plan_hash": self.plan_hash,
            "encoder": self.encoder,
            "shards": list(self.shards),
            "samples": self.samples,
            "clips": self.clips,
            "left_out": dict(self.left_out),
            "generation": self.generation,
            "removed_samples": self.removed_samples,
        }
        if self.vectors:
            described["vectors"] = [column.described() for column in self.vectors]
        if self.thresholds:
            described["thresholds"] = dict(self.thresholds)
        if self.sample_rate is not None:
            described |= {"sample_rate": self.sample_rate, "tar_sha256": dict(self.tar_sha256)}
            described |= {"failed": dict(self.failed)}
        return json.dumps(described, indent=2, sort_keys=True).encode() + b"\n"


def decode_pack(data: bytes) -> PackDescription:
    """Parse the contents of a `pack.json` of any supported format.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: When the contents do not describe a pack.
    """
    stored = json.loads(data)
    if stored.get("format", 1) not in (1, FORMAT):
        raise ValueError("was written by a later version")
    settings = {key: value for key, value in stored["settings"].items() if key in PackBlock.model_fields}
    if isinstance(stored["shards"], dict):
        return _old_sounds(stored, PackBlock(**settings))
    strings = [stored["plan_hash"], stored["encoder"], *stored["shards"]]
    counts = [stored[key] for key in ("samples", "generation", "removed_samples")]
    named = isinstance(stored["shards"], list) and bool(stored["shards"])
    if not named or not all(isinstance(text, str) for text in strings):
        raise TypeError("names no plan, no encoder or no shards")
    if not all(map(is_plain_name, [*stored["shards"], *filter(None, [stored["encoder"]])])):
        raise ValueError("names files outside of its folder")
    left_out, failed, hashes = (dict(stored.get(key) or {}) for key in ("left_out", "failed", "tar_sha256"))
    counts += [*left_out.values(), stored.get("clips", 0)]
    if not all(isinstance(count, int) and 0 <= count < LARGEST for count in counts):
        raise TypeError("counts nothing")
    vectors = read_columns(stored["vectors"]) if "vectors" in stored else ()
    if vectors and vectors[0].encoder != stored["encoder"]:
        raise ValueError("names two first encoders")
    return PackDescription(
        settings=PackBlock(**settings),
        plan_hash=stored["plan_hash"],
        encoder=stored["encoder"],
        shards=tuple(stored["shards"]),
        samples=stored["samples"],
        clips=stored.get("clips", 0),
        left_out=left_out,
        generation=stored["generation"],
        removed_samples=stored["removed_samples"],
        sample_rate=stored.get("sample_rate"),
        tar_sha256=hashes,
        failed=failed,
        vectors=vectors,
        thresholds=dict(stored.get("thresholds") or {}),
        stored=stored,
    )


def is_plain_name(name: str) -> bool:
    """Return whether a name is a file directly in this folder: a pack may come from a stranger."""
    return bool(name) and not name.startswith(".") and not any(c in "/\\" or not c.isprintable() for c in name)


def _old_sounds(stored: Mapping[str, Any], settings: PackBlock) -> PackDescription:
    """Parse the first format of packed sounds; only their index contains the numbers of samples and clips."""
    rate, hashes = stored["settings"]["sample_rate"], dict(stored["shards"])
    if not hashes or not isinstance(rate, int) or not all(isinstance(text, str) for text in hashes.values()):
        raise TypeError("names no sample rate or no shards")
    if not all(map(is_plain_name, hashes)):
        raise ValueError("names files outside of its folder")
    shards = tuple(name.removesuffix(".tar") for name in hashes)
    failed = dict(stored.get("failed") or {})
    return PackDescription(
        settings, "", "", shards, 0, sample_rate=rate, tar_sha256=hashes, failed=failed, stored=stored
    )


def read_pack_file(store: Store, folder: str) -> PackDescription:
    """Read the description of a pack.

    Args:
        store: Store of the corpus, or of the pack's own folder.
        folder: Folder of the pack, `training/NAME`; empty if the store is the pack's own folder.

    Raises:
        PackDamaged: When the file does not describe a pack.
        FileNotFoundError: When there is no such file.
    """
    name = f"{folder}/{PACK_FILE}" if folder else PACK_FILE
    try:
        return decode_pack(store.read(name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackDamaged(
            f"{store.url}/{name} is no description of a pack ({_fault(error)}); delete the folder and pack again"
        ) from error


def _fault(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return first_line(error) if isinstance(error, ValueError) else "a value in it is of another type"
