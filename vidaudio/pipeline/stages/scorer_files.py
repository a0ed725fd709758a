"""Scorers of a corpus: `scorers/NAME/scorer.safetensors`, and beside it what it is, to read."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.columns import PACKS, SCORE
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.correspondence.scorer import Scorer, ScorerFileError
from vidaudio.errors import ScorerError
from vidaudio.json_values import parse_object
from vidaudio.packs.description import PACK_FILE, is_plain_name, read_pack_file
from vidaudio.packs.selection import reads_scores
from vidaudio.pipeline.stages.embed import recorded_encoder

FOLDER = "scorers"
WEIGHTS_FILE, FACTS_FILE = "scorer.safetensors", "facts.json"
SCORERS_KEPT = 2


def weights_name(name: str) -> str:
    """Return the name of a scorer's file in its corpus."""
    return f"{FOLDER}/{name}/{WEIGHTS_FILE}"


def check_new_scorer(corpus: Corpus, name: str) -> None:
    """Check that a scorer may be written under this name.

    Raises:
        ScorerError: When the name cannot be a folder's, or there is such a scorer already.
    """
    if not is_plain_name(name):
        raise ScorerError(f"{name!r} cannot be the name of a scorer: it is a word such as default or by-imagebind")
    if corpus.store.exists(weights_name(name)):
        raise ScorerError(
            f"{corpus.url} has a scorer {name} already; scores stay comparable only if it stays. Name another: --name"
        )


def write_scorer(corpus: Corpus, name: str, scorer: Scorer) -> None:
    """Write a new scorer; the file to read first, so that a scorer that is there is there as a whole.

    Raises:
        ScorerError: When there is one of this name by now.
    """
    data = scorer.to_bytes()
    facts = {"sha256": hashlib.sha256(data).hexdigest(), **scorer.facts}
    corpus.store.replace(f"{FOLDER}/{name}/{FACTS_FILE}", json.dumps(facts, indent=2).encode() + b"\n")
    if not corpus.store.create(weights_name(name), data):
        raise ScorerError(f"another process has just written a scorer {name} to {corpus.url}; name another: --name")


def adopt_scorer(corpus: Corpus, source: str, name: str | None) -> str:
    """Take over the scorer of another corpus, or of a file; return its name here. The same one is taken over once.

    Args:
        corpus: Whose clips are to be scored.
        source: Folder or URL of a corpus with one scorer, or path of a `scorer.safetensors`.
        name: Name here; None for the name there, `default` for a file.

    Raises:
        ScorerError: When there is no scorer there, it was fitted to vectors of another encoder, or another one of this
            name is here.
    """
    if source.endswith(".safetensors"):
        path = Path(source)
        if not path.is_file():
            raise ScorerError(f"there is no file {source}")
        data, given = path.read_bytes(), "default"
    else:
        there = open_corpus(source)
        given = chosen_scorer(there, None)
        data = there.store.read(weights_name(given))
    with corpus.store.workspace() as scratch:
        copy = Path(scratch) / WEIGHTS_FILE
        copy.write_bytes(data)
        try:
            scorer = Scorer.from_file(str(copy))
        except ScorerFileError as error:
            raise ScorerError(f"{source} is no scorer, or is damaged ({error})") from error
    own = recorded_encoder(corpus)
    if scorer.facts.get("encoder") != own:
        raise ScorerError(
            f"{source} is fitted to vectors of {scorer.facts.get('encoder')}, and {corpus.url} has those of {own}; "
            "vectors of two encoders do not mix"
        )
    name = name or given
    if not corpus.store.exists(weights_name(name)):
        check_new_scorer(corpus, name)
        write_scorer(corpus, name, scorer)
    elif scorer_hash(corpus, name) != hashlib.sha256(data).hexdigest():
        raise ScorerError(f"{corpus.url} has another scorer {name}; give this one a name of its own: --scorer")
    return name


def scorer_names(corpus: Corpus) -> list[str]:
    """Return the names of the corpus's scorers, sorted."""
    return sorted(name for name in corpus.store.folders(FOLDER) if corpus.store.exists(weights_name(name)))


def chosen_scorer(corpus: Corpus, name: str | None) -> str:
    """Return the name of the scorer to use: the given one, or the only one.

    Raises:
        ScorerError: When there is none of this name, none at all, or several and none is named.
    """
    names = scorer_names(corpus)
    if not names:
        raise ScorerError(f"{corpus.url} has no scorer yet: vidaudio fit-scorer {corpus.url}")
    if name is None and len(names) > 1:
        raise ScorerError(f"{corpus.url} has several scorers ({', '.join(names)}); name one with --scorer")
    if name is not None and name not in names:
        raise ScorerError(f"{corpus.url} has no scorer {name}; it has {', '.join(names)}")
    return name or names[0]


def chosen_scores(corpus: Corpus, name: str | None) -> str:
    """Return the name of the scorer whose scores a selection reads: the given one, or the only one with scores.

    Raises:
        ScorerError: When the corpus has no scores of it, none at all, or several and none is named.
    """
    names = sorted(corpus.store.folders(SCORE.folder))
    if not names:
        raise ScorerError(
            f"the selection reads scores, and {corpus.url} has none: vidaudio fit-scorer {corpus.url}, then "
            f"vidaudio score {corpus.url}"
        )
    if name is None and len(names) > 1:
        raise ScorerError(f"{corpus.url} has scores by {', '.join(names)}; name one with --scorer")
    if name is not None and name not in names:
        raise ScorerError(f"{corpus.url} has no scores by {name}; it has some by {', '.join(names)}")
    return name or names[0]


def scorer_of_pack(corpus: Corpus, settings: PackBlock) -> str | None:
    """Return the name of the scorer whose scores a pack reads; None if it reads none.

    Near-duplicates are compared by sound if there are scores. A pack that exists keeps what it was made with.

    Raises:
        ScorerError: As `chosen_scores`, if the selection needs scores or the settings name a scorer.
    """
    if reads_scores(settings):
        return chosen_scores(corpus, settings.scorer)
    if settings.dedup is None:
        return settings.scorer
    folder = f"{PACKS}/{settings.name}"
    if not corpus.store.exists(f"{folder}/{PACK_FILE}"):
        return chosen_scores(corpus, None) if corpus.store.folders(SCORE.folder) else None
    return read_pack_file(corpus.store, folder).settings.scorer


def scores_above_chance(corpus: Corpus, name: str) -> bool:
    """Return whether scores told own pairs from swapped ones better than chance when they were calibrated."""
    for place in (f"{FOLDER}/{name}/{FACTS_FILE}", SCORE.described_in(name)):
        if corpus.store.exists(place) and "above_chance" in (facts := parse_object(corpus.store.read(place))):
            return bool(facts["above_chance"])
    return True


def scorer_hash(corpus: Corpus, name: str) -> str:
    """Return the SHA-256 of a scorer's file, in hexadecimal digits."""
    return hashlib.sha256(corpus.store.read(weights_name(name))).hexdigest()


def prepare_scores(corpus: Corpus, name: str) -> str:
    """Record which scorer the scores of this name are of; return its hash.

    Raises:
        ScorerError: When scores of another scorer of this name are there.
    """
    sha256 = scorer_hash(corpus, name)
    description = json.dumps({"sha256": sha256}, indent=2).encode() + b"\n"
    where = SCORE.described_in(name)
    if not corpus.store.create(where, description):
        recorded = parse_object(corpus.store.read(where)).get("sha256")
        if recorded != sha256:
            raise ScorerError(
                f"{corpus.url}/{SCORE.model_folder(name)} has scores of another scorer of this name; scores of two "
                "scorers do not mix: name the scorer otherwise, or delete those scores while nothing is running"
            )
    return sha256


def load_scorer(corpus: Corpus, name: str) -> Scorer:
    """Return a scorer of a corpus.

    Raises:
        ScorerError: When its file is damaged, or is not the one that `prepare_scores` recorded.
    """
    recorded = parse_object(corpus.store.read(SCORE.described_in(name))).get("sha256")
    return _loaded(corpus.url, name, str(recorded))


def open_scorer(corpus: Corpus, name: str) -> Scorer:
    """Return a scorer of a corpus, whether it has scored the corpus or not.

    Raises:
        ScorerError: When its file is damaged.
    """
    return _loaded(corpus.url, name, scorer_hash(corpus, name))


@functools.lru_cache(maxsize=SCORERS_KEPT)
def _loaded(url: str, name: str, sha256: str) -> Scorer:
    from vidaudio.shards.open import open_store

    store = open_store(url)
    with store.workspace() as scratch:
        path = Path(scratch) / WEIGHTS_FILE
        store.download(weights_name(name), path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise ScorerError(f"{url}/{weights_name(name)} is not the scorer that its scores are of; fit another one")
        try:
            return Scorer.from_file(str(path))
        except ScorerFileError as error:
            raise ScorerError(f"{url}/{weights_name(name)} is damaged ({error}); fit another one") from error
