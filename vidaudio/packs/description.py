"""`pack.json`: what a pack is; one format, one writer and one reader, for packs of a corpus and for packed sounds.

Two older forms are read, too: that of a corpus, whose `window` may be a number of drawn windows, and that of packed
sounds, whose `shards` map each tar to its SHA-256. Packs never change, so neither do the files that describe them; a
removal writes the one that it changes in today's form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidaudio.config.corpus import PackBlock
from vidaudio.errors import CorpusError
from vidaudio.shards.store import Store
from vidaudio.shards.table_checks import LARGEST

PACK_FILE = "pack.json"
FORMAT = 2
# The settings that decide what packed sounds are; a pack of a corpus has them all.
SOUND_SETTINGS = frozenset({"audio", "clips_per_shard", "split_fractions", "max_segment_seconds", "seed"})


class PackDamaged(CorpusError):
    """What describes a pack cannot be read; says what to do."""


@dataclass(frozen=True, slots=True)
class PackDescription:
    """A pack, as its `pack.json` describes it.

    Attributes:
        settings: What it was packed with; settings that this version does not know are in `stored` alone.
        plan_hash: Of settings, clips and their order.
        encoder: Folder below `embeddings/` with its vectors; empty for packed sounds, which have none.
        shards: Names of the training shards, in order, without an ending.
        samples: How many were packed.
        clips: How many clips they are of.
        left_out: Clips that are in no sample, by cause; empty where an older version did not count them.
        generation: Raised by every removal: what was learnt of positions in the pack holds within one generation.
        removed_samples: Taken out since by removals.
        sample_rate: Of packed sounds, Hz; a corpus says it itself.
        tar_sha256: Of packed sounds, by name of the tar; the shards of a corpus have tables that say it.
        failed: Of packed sounds, why files could not be read, by clip.
        stored: The file as it is, so that what another version wrote is not lost when it is written again.
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
    stored: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def unknown_settings(self) -> list[str]:
        """Names of settings that this version does not know, and so cannot plan by."""
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
        if self.sample_rate is not None:
            described |= {"sample_rate": self.sample_rate, "tar_sha256": dict(self.tar_sha256)}
            described |= {"failed": dict(self.failed)}
        return json.dumps(described, indent=2, sort_keys=True).encode() + b"\n"


def decode_pack(data: bytes) -> PackDescription:
    """Return what the contents of a `pack.json` say, in whichever form they are.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: They are not what a pack writes.
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
        stored=stored,
    )


def is_plain_name(name: str) -> bool:
    """Whether a name is one of a file in this folder: a pack may come from a stranger."""
    return bool(name) and not name.startswith(".") and not any(c in "/\\" or not c.isprintable() for c in name)


def _old_sounds(stored: Mapping[str, Any], settings: PackBlock) -> PackDescription:
    """Return what the first form of packed sounds says; how many samples and clips they are stands in their index."""
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
        store: Of the corpus.
        folder: `training/NAME`; empty where the store is the folder of the pack itself.

    Raises:
        PackDamaged: It is not what a pack writes.
        FileNotFoundError: There is none.
    """
    name = f"{folder}/{PACK_FILE}" if folder else PACK_FILE
    try:
        return decode_pack(store.read(name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackDamaged(
            f"{store.url}/{name} is no description of a pack ({type(error).__name__}); delete the folder and pack again"
        ) from error
