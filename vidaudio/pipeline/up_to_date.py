"""Up-to-date check: lets a build that has nothing to do end at once, however large the corpus is.

A completed build records in `runs/finished.json` a hash of its inputs, and a hash of the names and sizes of all files.
If a later build has the same inputs and the same files exist, there is nothing to do, and neither manifest, encoder nor
tables are read. The file is only a cache: without it, a build checks the corpus itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version

from vidaudio.config.corpus import CorpusRecipe, stable_hash
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.listing import Listings, list_stages
from vidaudio.encoders.files import file_versions
from vidaudio.errors import CorpusError, StoreError
from vidaudio.json_values import parse_object

FINISHED_FILE = "runs/finished.json"


def request_hash(recipe: CorpusRecipe, list_path: str, stages: Sequence[str]) -> str:
    """Return a hash of all inputs of a build.

    The inputs are settings, the manifest's bytes, stages, the encoder's own files, and the version of this package.

    Raises:
        OSError: When the manifest is not a file that can be read.
    """
    with open(list_path, "rb") as file:
        list_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return stable_hash(
        {
            "recipe": recipe.model_dump(mode="json", exclude={"dask", "manifest", "corpus"}),
            "list": list_sha256,
            "stages": sorted(stages),
            "encoder": file_versions(recipe.embed.encoder.architecture, recipe.embed.encoder.pretrained),
            "version": version("vidaudio"),
        }
    )


def is_up_to_date(corpus: Corpus, request: str) -> Listings | None:
    """Return the files of the corpus's stages if a build with this request completed and nothing changed; else None."""
    try:
        noted = parse_object(corpus.store.read(FINISHED_FILE))
        if noted["request"] != request:
            return None
        listings = list_stages(corpus)
        return listings if noted["files"] == _files_hash(corpus, listings) else None
    except (CorpusError, StoreError, OSError, ValueError, KeyError, TypeError):
        # Whatever is wrong, the build itself will find and report it.
        return None


def record_up_to_date(corpus: Corpus, listings: Listings, request: str) -> None:
    """Record a completed build; storage errors are ignored."""
    noted = {"request": request, "files": _files_hash(corpus, listings)}
    with contextlib.suppress(OSError, StoreError):
        corpus.store.replace(FINISHED_FILE, json.dumps(noted, indent=2, sort_keys=True).encode() + b"\n")


def _files_hash(corpus: Corpus, listings: Listings) -> str:
    """Return a hash of the names and sizes of all files of the stages and of the corpus's own folder."""
    own = {name: size for name, size in corpus.store.list("").items() if not name.startswith(".")}
    digest = hashlib.sha256()
    for folder, names in sorted({**listings, "": own}.items()):
        for name, size in sorted(names.items()):
            digest.update(f"{folder}/{name} {size}\n".encode())
    return digest.hexdigest()
