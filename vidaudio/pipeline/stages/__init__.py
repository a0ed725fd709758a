"""The stages: each is a function that commits one shard. Dask runs them; they can also be called directly."""

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
        name: Name, as in recipes and `--only`.
        resource: Dask worker resource of which each task takes one unit: `net`, `cpu` or `gpu`.
        run: Function of the stage. It takes corpus, shard number, folder, this run's settings and a callback for the
            number of clips done, and returns the commit record.
        folder: Folder that the stage commits to; the embeddings' folder contains the encoder's name.
    """

    name: str
    resource: str
    run: Callable[[Corpus, int, str, RunSettings, Advance], CommitRecord]
    folder: str


def shard_stages(encoder_name: str, keep: str = "all") -> tuple[Stage, ...]:
    """Return the stages of one shard, in order.

    Args:
        encoder_name: Name of the corpus's encoder.
        keep: `download.keep` of the run: how long the raw media are kept.
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
