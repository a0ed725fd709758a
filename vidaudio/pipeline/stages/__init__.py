"""The stages of a build: each is a function that commits one shard of a column. Dask runs them; tests call them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import DOWNLOAD, EMBED, EXTRACT, FACTS, Column, columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import UsageError
from vidaudio.pipeline.clip_progress import Advance
from vidaudio.shards.commit import CommitRecord

# Takes corpus, shard number, folder, this run's settings and a callback for the number of clips done.
StageFunction = Callable[[Corpus, int, str, RunSettings, Advance], CommitRecord]
# Packing is the last stage of a build; it covers the whole corpus.
PACK = "pack"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the column that it writes, and the function that commits one shard of it."""

    column: Column
    run: StageFunction


def stage_functions(keep: str = "all") -> Mapping[str, StageFunction]:
    """Return the functions of a build by stage. A column without a function is written by a command of its own.

    Args:
        keep: `download.keep` of the run: how long the raw media are kept.
    """
    from vidaudio.pipeline.stages.download import download_shard
    from vidaudio.pipeline.stages.embed import embed_shard
    from vidaudio.pipeline.stages.extract import extract_shard
    from vidaudio.pipeline.stages.facts import facts_shard
    from vidaudio.pipeline.stages.fused import extract_and_release, fetch_and_extract

    return {
        DOWNLOAD.stage: fetch_and_extract if keep == "none" else download_shard,
        EXTRACT.stage: extract_shard if keep == "all" else extract_and_release,
        FACTS.stage: facts_shard,
        EMBED.stage: embed_shard,
    }


def shard_stages(keep: str = "all") -> tuple[Stage, ...]:
    """Return the stages that a build runs per shard, in order; for `keep`, see `stage_functions`."""
    functions = stage_functions(keep)
    return tuple(Stage(c, functions[c.stage]) for c in columns_in_order() if c.stage in functions)


def wanted_stages(only: str | Sequence[str] | None) -> list[str]:
    """Return the stages of `--only`, in the order in which they run; all stages without `--only`.

    Args:
        only: Names of stages, as a list or as one string with commas; None for all.

    Raises:
        UsageError: When no stage is named, or one does not exist.
    """
    stages = [*(stage.column.stage for stage in shard_stages()), PACK]
    if isinstance(only, str):
        # An empty string is not an omitted `--only`: an unset variable of a script must not run all stages.
        only = [stage.strip() for stage in only.split(",")]
    if only is not None and not any(only):
        raise UsageError(f"--only names no stage; leave it out for all, or name some of {', '.join(stages)}")
    if only is not None and not all(only):
        raise UsageError(f"--only={','.join(only)} has a comma too many; the stages are {', '.join(stages)}")
    unknown = sorted(map(str, set(only or ()) - set(stages)))
    if unknown:
        raise UsageError(f"there is no stage {', '.join(unknown)}; the stages are {', '.join(stages)}")
    return [stage for stage in stages if only is None or stage in only]


def use_vectors(stages: Collection[str]) -> bool:
    """Return whether any of these stages writes or reads the vectors of the corpus's encoder."""
    writes_or_reads = {c.stage for c in columns_in_order() if EMBED.stage in (c.stage, *c.needs)}
    return not {PACK, *writes_or_reads}.isdisjoint(stages)
