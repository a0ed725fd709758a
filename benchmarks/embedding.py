"""Pictures a second of ViT-B/32 (random weights: only speed counts): the stage of a build against the bare model.

    python -m benchmarks.embedding [--clips FOLDER] [--pictures N] [--rounds N] [--quick]

`model` is the picture tower on batches that lie ready as tensors; `stage` embeds a shard as a build does: JPEG members
read from a tar, decoded, stacked, normalised, run in the same batches, and the table committed. Both in one process
with the threads PyTorch chooses, in the processor's best dtype and in float32.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import open_clip
import pyarrow as pa
import torch

from benchmarks.common import median_ratio, report, side_by_side
from benchmarks.media import clips
from vidaudio.config.corpus import RunSettings, load_corpus_recipe
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.encoders.cache import cached_encoder
from vidaudio.encoders.spec import DTYPES, best_precision
from vidaudio.manifest import Clip, write_manifest
from vidaudio.manifest.source import open_manifest
from vidaudio.media.decode.extractor import Extractor, MediaSpan
from vidaudio.pipeline.stages.embed import embed_shard
from vidaudio.shards.commit import commit, table_name
from vidaudio.shards.tar import ShardWriter, list_members

BATCH = 64
MODEL = "ViT-B-32"


def real_pictures(folder: Path | None, limit: int) -> list[bytes]:
    """JPEG pictures of some clips, as the stage before leaves them."""
    found = []
    with Extractor() as extractor:
        for path in clips(folder, limit):
            parts = extractor.extract(MediaSpan(path, 0.0, 10.0)).parts
            found += [data for extension, data in parts.items() if extension.endswith(".jpg")]
    return found


def begin(folder: Path, weights: Path, precision: str, jpegs: list[bytes]) -> Corpus:
    """A corpus of one extracted shard that holds these pictures."""
    folder.mkdir()
    listed = folder / "list.parquet"
    row = Clip(id="clip", source="made:clip", dataset="made", url="/clip.mp4", start_seconds=0.0, split="train")
    write_manifest([row], listed)
    chosen = {"architecture": MODEL, "pretrained": str(weights), "precision": precision, "batch_size": BATCH}
    settings = [f"embed.encoder.{name}={json.dumps(value)}" for name, value in chosen.items()]
    corpus = create_or_open(str(folder / "corpus"), load_corpus_recipe("folder", settings), open_manifest(str(listed)))
    with ShardWriter(folder / "av.tar") as writer:
        writer.write("clip", {f"{number:03d}.jpg": data for number, data in enumerate(jpegs)})
    inside = list_members(folder / "av.tar")
    pictures = [inside[f"clip.{number:03d}.jpg"] for number in range(len(jpegs))]
    table = pa.table(
        {
            "id": ["clip"],
            "state": ["done"],
            "frame_seconds": [[float(number) for number in range(len(jpegs))]],
            "frame_offsets": [[picture.offset for picture in pictures]],
            "frame_lengths": [[picture.length for picture in pictures]],
        }
    )
    commit(corpus.store, "av", 0, stage="extract", plan_hash=corpus.plan_hash, table=table, tar=folder / "av.tar")
    return corpus


def bare_model(precision: str, pictures: int) -> Callable[[], int]:
    """The tower on ready tensors, in as many full batches as the stage runs."""
    tower = open_clip.create_model(MODEL, pretrained=None).visual.eval().to(DTYPES[precision])
    ready = torch.randn(BATCH, 3, 224, 224).to(DTYPES[precision])

    @torch.inference_mode()
    def work() -> int:
        for _ in range(pictures // BATCH):
            tower(ready)
        return pictures

    return work


def whole_stage(corpus: Corpus, pictures: int) -> Callable[[], int]:
    """The stage on the corpus's shard, again and again."""
    folder = f"embeddings/{cached_encoder(corpus.settings.embed.encoder).name}"

    def work() -> int:
        embed_shard(corpus, 0, folder, RunSettings())
        corpus.store.remove(table_name(folder, 0))
        return pictures

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos; the demo's are rendered otherwise")
    parser.add_argument("--pictures", type=int, default=512, help=f"rounded down to whole batches of {BATCH}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one batch, one round: only to see it work")
    chosen = parser.parse_args()
    pictures, rounds = (BATCH, 1) if chosen.quick else (max(1, chosen.pictures // BATCH) * BATCH, chosen.rounds)

    contestants: dict[str, Callable[[], int]] = {}
    best = best_precision()
    with tempfile.TemporaryDirectory(prefix="vidaudio-embedding-") as folder:
        jpegs = list(islice(cycle(real_pictures(chosen.clips, 2 if chosen.quick else 32)), pictures))
        weights = Path(folder) / "weights.pt"
        torch.manual_seed(0)
        torch.save(open_clip.create_model(MODEL, pretrained=None).state_dict(), weights)
        for precision in dict.fromkeys((best, "float32")):
            corpus = begin(Path(folder) / precision, weights, precision, jpegs)
            suffix = "" if precision == best else f", {precision}"
            contestants[f"model{suffix}"] = bare_model(precision, pictures)
            contestants[f"stage{suffix}"] = whole_stage(corpus, pictures)
        rates = side_by_side(contestants, rounds=rounds)
    of_the_model = {f"stage_of_the_model_{best}": median_ratio(rates, "stage", "model")}
    if best != "float32":
        of_the_model["stage_of_the_model_float32"] = median_ratio(rates, "stage, float32", "model, float32")
    for name, share in of_the_model.items():
        print(f"  {name.replace('_', ' ')}: {share:.1%}")
    settings = {"model": MODEL, "precision": best, "pictures": pictures, "batch_size": BATCH, "rounds": rounds}
    settings |= {"threads": torch.get_num_threads(), "quick": chosen.quick}
    report("embedding", rates, "model", settings, **of_the_model)


if __name__ == "__main__":
    main()
