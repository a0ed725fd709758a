"""The error for an incomplete removal: names the damaged files that were left, and how to repair each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import PurePosixPath

from vidaudio.corpus.columns import EXTRACT, PACKS
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import fetch_again, shards_without_media
from vidaudio.errors import CorpusError
from vidaudio.packs.description import PACK_FILE
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.text import number_of

SHOWN = 5


class RemovalIncomplete(CorpusError):
    """An error for removed clips that may remain in damaged files; everything else no longer contains them.

    Attributes:
        files: Names of the damaged files in the store.
    """

    def __init__(self, corpus: Corpus, damage: Sequence[CorruptFileError]) -> None:
        self.files = tuple(damaged.file for damaged in damage)
        told = [": ".join((str(damaged), *_remedy(corpus, damaged.file))) for damaged in damage[:SHOWN]]
        if len(damage) > SHOWN:
            told.append(f"and {number_of(len(damage) - SHOWN, 'file')} more, which `vidaudio verify` names")
        super().__init__(
            f"removed clips may still be in what is damaged: {'; '.join(told)}. They are out of everything else of "
            f"{corpus.url}, and are never fetched again. Once this is mended, the same command, or the next build, "
            "takes them out of the rest"
        )


def _remedy(corpus: Corpus, file: str) -> tuple[str, ...]:
    """Return how to repair a damaged file; empty if the error message already says it."""
    if file.startswith(f"{PACKS}/"):
        return () if file.endswith(PACK_FILE) else ("delete the pack's folder and pack again",)
    if not file.endswith(".tar"):
        return ("delete it and build again",)
    if file.startswith(f"{EXTRACT.folder}/"):
        shard = int(PurePosixPath(file).name.partition(".")[0])
        # If the clips' table cannot be read, it has to be rebuilt anyway, and this file with it.
        with contextlib.suppress(CorruptFileError, FileNotFoundError):
            if shards_without_media(corpus.store, [shard]):
                return (fetch_again(shard),)
    return ("delete it and its table and build again",)
