"""`corpus.json`: the description of a corpus, read and checked in one place.

A corpus may come from somebody else. Its settings decide its bytes. Where work runs and how sites are reached is never
read from it: a scheduler's address in the file would make this machine's code connect to a stranger's.
"""

from __future__ import annotations

from typing import Any

from vidaudio.corpus.stored_recipe import without_run_settings
from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object
from vidaudio.shards.store import Store

CORPUS_FILE = "corpus.json"
FORMAT = 1
# Upper limits of what a corpus may claim; shard numbers have six digits or more.
MAX_SHARDS = 10_000_000
MAX_CLIPS = 1 << 40


def read_corpus_file(store: Store) -> dict[str, Any]:
    """Return the description of a corpus, without the settings of a run.

    Raises:
        CorpusError: When it cannot be read, has another format, or contains what no build writes.
        FileNotFoundError: When the file does not exist.
    """
    at = f"{store.url}/{CORPUS_FILE}"
    data = store.read(CORPUS_FILE)
    try:
        described = parse_object(data)
    except ValueError as error:
        raise CorpusError(f"{at} is not JSON that describes a corpus ({error}); take it back from a copy") from error
    if described.get("format") != FORMAT:
        raise CorpusError(
            f"{store.url} has corpus format {str(described.get('format'))[:40]}; this version reads {FORMAT}"
        )
    shards, clips = described.get("shards"), described.get("clips")
    known = _is_count(shards, 1, MAX_SHARDS) and _is_count(clips, 1, MAX_CLIPS)
    texts = [described.get("plan_hash"), described.get("manifest_sha256", "")]
    if not known or not all(isinstance(text, str) and len(text) <= 128 and text.isprintable() for text in texts):
        raise CorpusError(f"{at} does not describe a corpus; take it back from a copy")
    if not isinstance(described.get("recipe"), dict) or not isinstance(described.get("identity", {}), dict):
        raise CorpusError(f"{at} does not describe a corpus: it holds no settings; take it back from a copy")
    return described | {"recipe": without_run_settings(described["recipe"])}


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
