"""What scoring a clip costs beside extracting it, on one core.

    python -m benchmarks.scoring [--clips FOLDER] [--limit N] [--rounds N] [--quick]

`extraction` is the stage of benchmarks/extraction.py. `scoring` reads sound, vectors and envelopes of the same clips
from a corpus and scores them, by a scorer that was fitted to a small demo world; decoding the kept sound is part of it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.common import median_ratio, medians, report, side_by_side
from benchmarks.extraction import SECONDS, chosen_clips, stage
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.correspondence.scorer import Scorer
from vidaudio.cpus import one_thread
from vidaudio.demo.corpus import build_world
from vidaudio.demo.render import SMALL
from vidaudio.manifest import Clip, write_manifest
from vidaudio.media.decode.extractor import Extractor
from vidaudio.pipeline.build import build
from vidaudio.pipeline.stages.scored_clips import read_scored_clips
from vidaudio.pipeline.stages.scorer_files import open_scorer
from vidaudio.tasks.correspondence.fit import fit_scorer
from vidaudio.tasks.correspondence.training import FitSettings

# Weights do not change what a clip costs.
STEPS = 10


def world_scorer(folder: Path) -> Scorer:
    """Return a scorer that was fitted, a little, to a small demo world."""
    build_world(folder, videos_per_kind=SMALL, flawed_per_flaw=0)
    corpus = str(folder / "corpus-clip")
    # This process is bound to one core, on which two threads would wait for each other.
    with one_thread():
        fit_scorer(corpus, settings=FitSettings(steps=STEPS), progress=False)
    return open_scorer(open_corpus(corpus), "default")


def corpus_of(paths: list[Path], folder: Path) -> Corpus:
    """Extract and embed the first `SECONDS` of some videos by the demo's CLIP."""
    listed = [
        Clip(id=f"{number:06d}", source=f"file:{path.name}", dataset="bench", url=str(path), end_seconds=SECONDS)
        for number, path in enumerate(paths)
    ]
    write_manifest(listed, folder / "clips.parquet")
    build(
        load_corpus_recipe("demo", ("extract.frame_size=224",)),
        str(folder / "clips.parquet"),
        str(folder / "corpus"),
        only=("download", "extract", "embed"),
        progress=False,
    )
    return open_corpus(str(folder / "corpus"))


def scored(corpus: Corpus, scorer: Scorer) -> int:
    """Score every clip of a corpus; return their number."""
    count = 0
    with one_thread():
        for shard in range(corpus.shards):
            for listed in read_scored_clips(corpus, shard, EMBED.model_folder(str(scorer.facts["encoder"]))):
                scorer.score(listed.clip)
                count += 1
    return count


def main() -> None:
    paths, rounds, quick = chosen_clips(__doc__)
    with tempfile.TemporaryDirectory() as folder, Extractor() as extractor:
        scorer = world_scorer(Path(folder) / "world")
        corpus = corpus_of(paths, Path(folder))
        rates = side_by_side(
            {"extraction": lambda: stage(extractor, paths), "scoring": lambda: scored(corpus, scorer)}, rounds=rounds
        )
    settings = {"clips": [path.name for path in paths], "seconds": SECONDS, "rounds": rounds, "quick": quick}
    report(
        "scoring",
        rates,
        "extraction",
        settings,
        milliseconds_a_clip=round(1000 / medians(rates)["scoring"], 2),
        share_of_extraction=round(1 / median_ratio(rates, "scoring", "extraction"), 4),
    )


if __name__ == "__main__":
    main()
