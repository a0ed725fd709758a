"""`pack.json`: what a pack is, read by everybody who reads packs."""

from __future__ import annotations

import json
from typing import Any

from vidaudio.errors import CorpusError
from vidaudio.pipeline.recipe import PackBlock
from vidaudio.shards.store import Store

PACK_FILE = "pack.json"


class PackDamaged(CorpusError):
    """What describes a pack cannot be read; says what to do."""


def read_pack_file(store: Store, folder: str) -> dict[str, Any]:
    """The description of a pack.

    Args:
        store: Of the corpus.
        folder: `training/NAME`.

    Raises:
        PackDamaged: It is not what a pack writes.
        FileNotFoundError: There is none.
    """
    try:
        described = json.loads(store.read(f"{folder}/{PACK_FILE}"))
        # A later version may know settings that this one does not.
        PackBlock(**{key: value for key, value in described["settings"].items() if key in PackBlock.model_fields})
        if not all(isinstance(described[key], str) for key in ("plan_hash", "encoder")):
            raise TypeError("names no plan and no encoder")
        if not described["shards"] or not all(isinstance(name, str) for name in described["shards"]):
            raise TypeError("names no shards")
        counts = {key: described[key] for key in ("samples", "generation", "removed_samples")}
        if not all(isinstance(count, int) for count in counts.values()):
            raise TypeError("counts nothing")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackDamaged(
            f"{store.url}/{folder}/{PACK_FILE} is no description of a pack ({type(error).__name__}); delete the folder "
            "and pack again"
        ) from error
    return described
