"""What a scorer measured when it was fitted: `scorers/NAME/facts.json`, which somebody else may have written."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import ScorerError
from vidaudio.json_values import parse_object
from vidaudio.pipeline.stages.scorer_files import FACTS_FILE, FOLDER

MOST_ENTRIES = 100


class ScorerSummary(BaseModel):
    """Measures of a scorer.

    Attributes:
        clips: Number of clips that it was fitted to.
        sources: Number of their sources.
        above_chance: Whether its scores tell own clips from others better than chance.
        mismatched_share: Estimated share of clips that do not correspond.
        mismatched_interval: Its 95 % interval.
        auc: Areas under the curve by kind of negative pair and by score; None where it could not be measured.
        kept_shares: Shares of the best clips that may be kept.
        precision: Expected share of corresponding clips among those kept, for each of `kept_shares`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    clips: int = Field(ge=0)
    sources: int = Field(ge=0)
    above_chance: bool = True
    mismatched_share: float
    mismatched_interval: tuple[float, float]
    auc: dict[str, dict[str, float | None]] = Field(max_length=MOST_ENTRIES)
    kept_shares: list[float] = Field(max_length=MOST_ENTRIES)
    precision: list[float] = Field(max_length=MOST_ENTRIES)


def read_scorer_summary(corpus: Corpus, name: str) -> ScorerSummary | None:
    """Return what a scorer measured; None if the corpus has the scores but not the scorer.

    Raises:
        ScorerError: When the file is damaged.
    """
    place = f"{FOLDER}/{name}/{FACTS_FILE}"
    if not corpus.store.exists(place):
        return None
    try:
        return ScorerSummary.model_validate(parse_object(corpus.store.read(place)))
    except (ValidationError, ValueError) as error:
        raise ScorerError(
            f"{corpus.url}/{place} does not describe a scorer; take it back from a copy, or delete it to report "
            "without the scorer's measures"
        ) from error
