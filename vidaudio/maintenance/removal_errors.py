"""What a removal had to leave: files that are damaged, and what to do about each so that it can be finished."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import PurePosixPath

from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import fetch_again, shards_without_media
from vidaudio.errors import CorpusError
from vidaudio.packs.description import PACK_FILE
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.text import number_of

SHOWN = 5


class RemovalIncomplete(CorpusError):
    """Removed clips may still be in files that are damaged; they are out of everything else.

    Attributes:
        files: Their names in the store.
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
    """What to do about a damaged file; nothing where what was said of it says that, too."""
    if file.startswith("training/"):
        return () if file.endswith(PACK_FILE) else ("delete the pack's folder and pack again",)
    if not file.endswith(".tar"):
        return ("delete it and build again",)
    if file.startswith("av/"):
        shard = int(PurePosixPath(file).name.partition(".")[0])
        # Where the clips' table cannot be read, it is to be made again anyway, and this with it.
        with contextlib.suppress(CorruptFileError, FileNotFoundError):
            if shards_without_media(corpus.store, [shard]):
                return (fetch_again(shard),)
    return ("delete it and its table and build again",)
