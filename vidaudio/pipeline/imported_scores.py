"""Anyone's scores of a corpus's clips, put on the same scale as a scorer's: calibrated against pairs of other sources.

A score alone says little: its distribution over pairs that surely do not belong together tells what it means. So the
file holds two kinds of rows: a clip with its own sound, and a clip's pictures with the sound of another clip.
`write_pairs` draws the second kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.corpus.columns import EXTRACT, SCORE, SCORES_SCHEMA
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.correspondence.calibration import Calibration, auc, calibrate, is_above_chance
from vidaudio.errors import ScorerError
from vidaudio.files import atomic_write
from vidaudio.hashing import hashed
from vidaudio.json_values import parse_object
from vidaudio.media.outcomes import State
from vidaudio.packs.description import is_plain_name
from vidaudio.pipeline.score import ScoreReport, score_report
from vidaudio.shards.commit import commit, committed_shards, read_table, table_name
from vidaudio.text import first_line

# Without so many pairs of other sources nothing can be said of the scores.
LEAST_SWAPPED = 100
DECIMALS = 4
IMPORTED = "imported"


@dataclass(frozen=True)
class ImportedScale:
    """What the values of an imported score mean.

    Attributes:
        middle, spread: Mean and standard deviation of the pairs of other sources.
        calibration: By values in standard deviations from that mean.
        auc: Area under the curve of own pairs against others.
        above_chance: Whether that is more than chance.
    """

    middle: float
    spread: float
    calibration: Calibration
    auc: float
    above_chance: bool = True

    def normalised(self, values: np.ndarray) -> np.ndarray:
        """Return values in standard deviations from the pairs of other sources."""
        return (values - self.middle) / self.spread

    def facts(self) -> dict[str, Any]:
        """Return the scale, JSON-able."""
        found = self.calibration
        return {
            "above_chance": self.above_chance,
            "mismatched_share": found.mismatched_share,
            "mismatched_interval": [found.low, found.high],
            "auc": {"other_source": {"score": self.auc}},
            "middle": self.middle,
            "spread": self.spread,
            "knots": found.knots.tolist(),
            "probabilities": found.probabilities.tolist(),
        }

    @classmethod
    def of(cls, facts: dict[str, Any]) -> ImportedScale:
        """Return the scale of some facts."""
        knots, probabilities = np.array(facts["knots"]), np.array(facts["probabilities"])
        low, high = facts["mismatched_interval"]
        calibration = Calibration(facts["mismatched_share"], low, high, knots, probabilities)
        return cls(
            facts["middle"],
            facts["spread"],
            calibration,
            facts["auc"]["other_source"]["score"],
            facts.get("above_chance", True),
        )


def import_scores(corpus: str, file: str | Path) -> list[ScoreReport]:
    """Read scores that another tool made of a corpus's clips, calibrate them, and keep them as `scores/NAME/`.

    Args:
        corpus: Folder or fsspec URL of a corpus that is extracted.
        file: Parquet or CSV with the columns `id` (of the clip whose pictures were scored), `value` (higher is better),
            and perhaps `sound_id` (of the clip whose sound was scored with them; the same clip's without) and `name`
            (of the score; the file's own without). Pairs with another clip's sound are what the values are calibrated
            by; `write_pairs` draws them. Clips that are added later go through the calibration of the first file.

    Returns:
        A report for each name in the file.

    Raises:
        ScorerError: When the file cannot be read, lacks columns or pairs, or holds values that are no numbers.
    """
    opened, path = open_corpus(corpus), Path(file)
    table = _read(path)
    sources = _sources(opened)
    return [_import_one(opened, str(name), rows, sources, path.name) for name, rows in table.groupby("name", sort=True)]


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ScorerError(f"{path} cannot be read: {first_line(error)}") from error
    lacking = [name for name in ("id", "value") if name not in table.columns]
    if lacking:
        raise ScorerError(f"{path} has no column {' or '.join(lacking)}; it has {', '.join(map(str, table.columns))}")
    table = table.assign(id=table["id"].astype(str), value=pd.to_numeric(table["value"], errors="coerce"))
    table["sound_id"] = table.get("sound_id", table["id"]).fillna(table["id"]).astype(str)
    table["name"] = table.get("name", pd.Series(path.stem, table.index)).astype(str)
    unusable = int((~np.isfinite(table["value"])).sum())
    if unusable:
        raise ScorerError(f"{path} holds {unusable} values that are no numbers; leave those rows out")
    for name in table["name"].unique():
        if not is_plain_name(name):
            raise ScorerError(f"{name!r} in {path} cannot be the name of scores: it is a word such as imagebind")
    return table[["id", "sound_id", "name", "value"]]


def _sources(corpus: Corpus) -> pd.Series:
    """Return the hash of the source of every clip, by its id."""
    table = corpus.manifest(["id", "source"])
    return pd.Series(hashed(table["source"]), table["id"].to_pylist())


def _import_one(corpus: Corpus, name: str, rows: pd.DataFrame, sources: pd.Series, file: str) -> ScoreReport:
    rows = rows[rows["id"].isin(sources.index) & rows["sound_id"].isin(sources.index)]
    own = rows[rows["id"] == rows["sound_id"]].drop_duplicates("id", keep="last")
    if own.empty:
        raise ScorerError(f"{file} has no scores of clips of {corpus.url} named {name}: the ids are other ones")
    where = SCORE.described_in(name)
    if corpus.store.exists(where):
        told = parse_object(corpus.store.read(where))
        if not told.get(IMPORTED):
            raise ScorerError(f"{corpus.url}/{SCORE.model_folder(name)} has scores of a scorer; name these otherwise")
    else:
        scale = _scale(corpus, name, rows, own, sources, file)
        facts = {IMPORTED: file, **scale.facts()}
        facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        corpus.store.create(where, json.dumps(facts, indent=1).encode() + b"\n")
        told = parse_object(corpus.store.read(where))
    scale = ImportedScale.of(told)
    values = dict(zip(own["id"], own["value"], strict=True))
    standing = committed_shards(corpus.store, SCORE.model_folder(name))
    for shard in range(corpus.shards):
        if shard not in standing:
            table = _table(corpus, shard, values, scale)
            folder = SCORE.model_folder(name)
            commit(corpus.store, folder, shard, stage=SCORE.stage, plan_hash=corpus.plan_hash, table=table)
    return score_report(corpus, name, told)


def _scale(
    corpus: Corpus, name: str, rows: pd.DataFrame, own: pd.DataFrame, sources: pd.Series, file: str
) -> ImportedScale:
    apart = sources[rows["id"]].to_numpy() != sources[rows["sound_id"]].to_numpy()
    swapped = rows[apart]
    spread = float(swapped["value"].std(ddof=0)) if len(swapped) else 0.0
    if len(swapped) < LEAST_SWAPPED or not spread:
        raise ScorerError(
            f"{file} has {len(swapped)} different scores {name} of pictures with the sound of another source, and what "
            f"the values mean is told by {LEAST_SWAPPED} at least: draw pairs with vidaudio score {corpus.url} --pairs "
            "pairs.parquet, and score those as well"
        )
    middle = float(swapped["value"].mean())
    of_own, of_swapped = ((table["value"].to_numpy() - middle) / spread for table in (own, swapped))
    _, numbers = np.unique(sources.to_numpy(), return_inverse=True)
    by_id = pd.Series(numbers, sources.index)
    own_sources = by_id[own["id"]].to_numpy()
    calibration = calibrate(of_own, of_swapped, own_sources, by_id[swapped["id"]].to_numpy())
    above = is_above_chance(of_own, of_swapped, own_sources)
    return ImportedScale(middle, spread, calibration, auc(of_own, of_swapped), above)


def _table(corpus: Corpus, shard: int, values: dict[str, float], scale: ImportedScale) -> pa.Table:
    av, _ = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    done = zip(av["id"].to_pylist(), av["state"].to_pylist(), strict=True)
    ids = [clip_id for clip_id, state in done if state == State.DONE and clip_id in values]
    raw = np.array([values[clip_id] for clip_id in ids], np.float64)
    normalised = scale.normalised(raw)
    known = {
        "id": ids,
        "correspondence_cosine": raw.round(DECIMALS),
        "correspondence": normalised.round(DECIMALS),
        "p_corresponds": scale.calibration.probability(normalised).round(DECIMALS),
    }
    columns = {field.name: known.get(field.name, pa.nulls(len(ids), field.type)) for field in SCORES_SCHEMA}
    return pa.table(columns).cast(SCORES_SCHEMA)


def write_pairs(corpus: str, path: str | Path, *, swapped: int = 1, seed: int = 0) -> int:
    """Write pairs of clips to be scored by another tool: each clip with its own sound, and with that of other sources.

    Args:
        corpus: Folder or fsspec URL of a corpus that is extracted.
        path: Parquet or CSV to write, with the columns `id` and `sound_id`.
        swapped: Pairs with another source's sound a clip.
        seed: Of the draws.

    Returns:
        The number of pairs.

    Raises:
        ScorerError: When the corpus has fewer than two sources that are extracted.
    """
    opened = open_corpus(corpus)
    sources = _sources(opened)
    ids = np.array([clip_id for shard in range(opened.shards) for clip_id in _extracted(opened, shard)])
    of_ids = sources[ids].to_numpy()
    if len(np.unique(of_ids)) < 2:
        raise ScorerError(f"{opened.url} has fewer than two sources that are extracted; build more of it first")
    generator = np.random.default_rng(seed)
    others = generator.integers(0, len(ids), (len(ids), swapped))
    while len(alike := np.argwhere(of_ids[others] == of_ids[:, None])):
        others[tuple(alike.T)] = generator.integers(0, len(ids), len(alike))
    pairs = pd.DataFrame(
        {
            "id": np.concatenate([ids, np.repeat(ids, swapped)]),
            "sound_id": np.concatenate([ids, ids[others.ravel()]]),
        }
    )
    with atomic_write(Path(path)) as scratch:
        if Path(path).suffix.lower() == ".csv":
            pairs.to_csv(scratch, index=False)
        else:
            pairs.to_parquet(scratch, index=False)
    return len(pairs)


def _extracted(corpus: Corpus, shard: int) -> Iterator[str]:
    av, _ = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    for clip_id, state in zip(av["id"].to_pylist(), av["state"].to_pylist(), strict=True):
        if state == State.DONE:
            yield clip_id
