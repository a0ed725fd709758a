"""Real sounds: LabelSep, PIT and CLIPSep-Text on ESC-10, trained on folds 1 to 3 and tested on fold 4.

    python -m benchmarks.esc10 --esc FOLDER --clip-vectors FOLDER --minutes 30

Two tables. `esc10`: LabelSep and PIT on all ten classes. `esc10_words`: the five classes for which there is a real
CLIP text vector ("a dog", "a helicopter", "a chainsaw", "a clock", "a cock"), with CLIPSep-Text, whose queries are
those vectors. Apart from both, CLIPSep-Text is asked for the crackling fire by the vector of "a fireplace", a class it
was never trained on. ESC has sounds only, so pictures are asked nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trainings import TrainingJob, arguments, load_budget, recipe_of, run_folder, run_jobs, summaries
from vidaudio.config.corpus import PackBlock
from vidaudio.manifest import read_esc, write_manifest
from vidaudio.packs.audio_only import pack_sounds
from vidaudio.stream.index import INDEX_FILE
from vidaudio.tasks.queries.vector_table import read_vector_table, table_hash
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate

TEST_FOLD = 4
# Class of ESC to the file of CLIP text vectors ("a NAME", ViT-B/32) and the name in it.
VECTORS: Mapping[str, tuple[str, str]] = {
    "dog": ("lvis_v1_clip_a+cname.npy", "dog"),
    "helicopter": ("lvis_v1_clip_a+cname.npy", "helicopter"),
    "chainsaw": ("o365_clip_a+cnamefix.npy", "Chainsaw"),
    "clock tick": ("lvis_v1_clip_a+cname.npy", "clock"),
    "rooster": ("lvis_v1_clip_a+cname.npy", "cock"),
    "crackling fire": ("lvis_v1_clip_a+cname.npy", "fireplace"),
}
UNSEEN = "crackling fire"
NAMES_FILE = "text_names.json"
TRAINED_ON = "OpenAI's CLIP ViT-B/32, its text vectors as published with LVIS and Objects365 detectors"


def write_vectors(folder: Path, path: Path) -> None:
    """Gather the six text vectors into one table, a vector a class of ESC."""
    names = json.loads((folder / NAMES_FILE).read_text())
    table = {}
    for label, (file, name) in VECTORS.items():
        vectors = np.load(folder / file, allow_pickle=False)
        table[label] = np.asarray(vectors[names[file].index(name)], np.float32)
    np.savez(path, **table)


def pack_classes(esc: Path, folder: Path, labels: Collection[str] | None) -> Path:
    """Pack the sounds of some classes, or of all; fold 4 is the test split, the others are for training."""
    if not (folder / INDEX_FILE).is_file():
        listing = read_esc(esc / "metadata.csv", test_folds=(TEST_FOLD,))
        clips = [clip for clip in listing.clips if labels is None or clip.labels[0] in labels]
        manifest = folder.with_suffix(".parquet")
        write_manifest(clips, manifest)
        print(pack_sounds(manifest, folder, settings=PackBlock(audio="pcm16"), progress=False))
    return folder


def score_esc(job: TrainingJob, *, six: Path, mixtures: int | None, processes: int) -> dict[str, Any]:
    """Fold 4, every sound mixed with one of another class; for a system asked in words also the class it never met."""
    material = TestMaterial(str(job.data), protocol="esc", mixtures=mixtures)
    report = evaluate(EvaluateRequest(job.run, material, processes=processes))
    print(report)
    results = summaries(report)
    if job.recipe.query.kind == "vectors":
        material = TestMaterial(str(six), protocol="esc", mixtures=mixtures)
        apart = summaries(evaluate(EvaluateRequest(job.run, material, methods=["text"], processes=processes)))
        asked_as = VECTORS[UNSEEN][1]
        results["unseen"] = {"label": UNSEEN, "asked_as": asked_as, **apart["by_label"]["text"].get(UNSEEN, {})}
    return results


def main() -> None:
    names = list(dict.fromkeys([*load_budget("esc10").systems, *load_budget("esc10_words").systems]))
    chosen = arguments(__doc__.split("\n")[0], names, esc_arguments)
    for folder, needed in ((chosen.esc, "metadata.csv"), (chosen.clip_vectors, NAMES_FILE)):
        if not (folder / needed).is_file():
            sys.exit(f"there is no {folder / needed}; see --help")
    packs = chosen.folder / "esc10-packs"
    packs.mkdir(parents=True, exist_ok=True)
    table = packs / "clip-vectors.npz"
    write_vectors(chosen.clip_vectors, table)
    six = pack_classes(chosen.esc, packs / "six", VECTORS)
    data = {
        "esc10": pack_classes(chosen.esc, packs / "ten", None),
        "esc10_words": pack_classes(chosen.esc, packs / "five", set(VECTORS) - {UNSEEN}),
    }
    facts = {"trained_on": TRAINED_ON, "weights_sha256": table_hash(read_vector_table(table)), "published": True}
    jobs = []
    for name, where in data.items():
        budget = load_budget(name)
        for seed in chosen.seeds or budget.seeds:
            for system in [system for system in budget.systems if system in chosen.systems]:
                asked = {"vectors": os.fspath(table)} if system == "clipsep_text" else {}
                recipe = recipe_of(budget, system, seed, chosen.steps, **asked)
                jobs.append(
                    TrainingJob(
                        table=name,
                        recipe=recipe,
                        data=where,
                        run=run_folder(chosen.folder, name, recipe),
                        budget_steps=recipe_of(budget, system, seed, **asked).schedule.steps,
                        facts=facts if asked else None,
                        told={"test_fold": TEST_FOLD},
                    )
                )
    run_jobs(
        jobs, partial(score_esc, six=six, mixtures=chosen.mixtures, processes=chosen.processes), until=chosen.until
    )


def esc_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the sounds and the vectors."""
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--esc", type=Path, default=data / "esc10", help="metadata.csv and the sounds")
    parser.add_argument(
        "--clip-vectors", type=Path, default=data / "clip_embeddings", help="text_names.json and its .npy files"
    )


if __name__ == "__main__":
    main()
