"""The stages: each a function from one shard to one committed shard, run by Dask and callable by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.corpus import Corpus
from vidaudio.pipeline.clip_progress import Advance
from vidaudio.shards.commit import CommitRecord


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        name: As in recipes and `--only`.
        resource: The Dask worker resource one task takes one of: `net`, `cpu` or `gpu`.
        run: The stage's function: corpus, shard number, folder, this run's settings, and a function that
            is told how many clips are done, to what is committed.
        folder: Where it commits; the embeddings' folder bears the encoder's name.
    """

    name: str
    resource: str
    run: Callable[[Corpus, int, str, RunSettings, Advance], CommitRecord]
    folder: str


def shard_stages(encoder_name: str, keep: str = "all") -> tuple[Stage, ...]:
    """The stages of one shard's chain, in order.

    Args:
        encoder_name: Of the corpus.
        keep: The run's `download.keep`: what becomes of the raw media.
    """
    from vidaudio.pipeline.stages.download import download_shard
    from vidaudio.pipeline.stages.embed import embed_shard
    from vidaudio.pipeline.stages.extract import extract_shard
    from vidaudio.pipeline.stages.fused import extract_and_release, fetch_and_extract

    download = fetch_and_extract if keep == "none" else download_shard
    extract = extract_shard if keep == "all" else extract_and_release
    return (
        Stage("download", "net", download, "clips"),
        Stage("extract", "cpu", extract, "av"),
        Stage("embed", "gpu", embed_shard, f"embeddings/{encoder_name}"),
    )
