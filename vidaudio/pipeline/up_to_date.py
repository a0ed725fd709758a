"""A build that finds nothing to do should find it at once, however large the corpus.

A build that came to its end leaves a note of what it was given and of every file that stood then, by name and size, in
`runs/finished.json`. Where the same is given again and the same files stand, there is nothing to do, and neither list,
encoder nor tables need be read to know it. The note is nobody's truth: without it a build looks for itself.
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
from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object

FINISHED_FILE = "runs/finished.json"


def request_hash(recipe: CorpusRecipe, list_path: str, stages: Sequence[str]) -> str:
    """A hash of all that a build is given: settings, the list's bytes, stages, and the encoder's own files.

    Raises:
        OSError: The list is not a file that can be read.
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
    """The files of its stages, where a build with this request ended and nothing has changed since."""
    try:
        noted = parse_object(corpus.store.read(FINISHED_FILE))
        if noted["request"] != request:
            return None
        listings = list_stages(corpus)
        return listings if noted["files"] == _files_hash(corpus, listings) else None
    except (CorpusError, OSError, ValueError, KeyError, TypeError):
        # Whatever is wrong, the build itself will find it and say so.
        return None


def record_up_to_date(corpus: Corpus, listings: Listings, request: str) -> None:
    """Leave the note; a place that takes no more files goes without."""
    noted = {"request": request, "files": _files_hash(corpus, listings)}
    with contextlib.suppress(OSError, CorpusError), corpus.store.workspace() as scratch:
        path = scratch / "finished.json"
        path.write_text(json.dumps(noted, indent=2, sort_keys=True) + "\n")
        corpus.store.put(FINISHED_FILE, path)


def _files_hash(corpus: Corpus, listings: Listings) -> str:
    own = {name: size for name, size in corpus.store.list("").items() if not name.startswith(".")}
    digest = hashlib.sha256()
    for folder, names in sorted({**listings, "": own}.items()):
        for name, size in sorted(names.items()):
            digest.update(f"{folder}/{name} {size}\n".encode())
    return digest.hexdigest()
