"""Real sounds generated: CLIP-TTA on ESC-10, with real CLIP text vectors, judged by YAMNet.

    python -m benchmarks.esc10_generation --esc FOLDER --clip-vectors FOLDER --yamnet FILE --minutes 60

Trained on folds 1 to 3 of the five classes that have a CLIP text vector, 120 sounds of 5 s. Of fold 4, one half of the
sounds is asked for, and all are compared with the other half. YAMNet was trained on AudioSet alone; its opinion of a
sound is which of five groups of its classes gets the most probability.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.esc10 import (
    NAMES_FILE,
    TEST_FOLD,
    TRAINED_ON,
    UNSEEN,
    VECTORS,
    esc_arguments,
    pack_classes,
    write_vectors,
)
from benchmarks.trainings import TrainingJob, arguments, load_budget, recipe_of, run_folder, run_jobs
from vidaudio.encoders.embedding_models import EmbeddingModel, open_embedding
from vidaudio.tasks.generation.evaluate import GenerationRequest, evaluate_generators, write_generation_report
from vidaudio.tasks.queries.vector_table import read_vector_table, table_hash

TABLE, SYSTEM, JUDGE = "esc10_generation", "clip_tta", "yamnet"
# Class of ESC to the classes of YAMNet that mean it.
HEARD_AS: Mapping[str, tuple[str, ...]] = {
    "dog": ("Dog", "Bark"),
    "helicopter": ("Helicopter",),
    "chainsaw": ("Chainsaw",),
    "clock tick": ("Clock", "Tick", "Tick-tock"),
    "rooster": ("Chicken, rooster", "Crowing, cock-a-doodle-doo"),
}
SCALES = (1.0, 1.5, 3.0)


def opinion(model: EmbeddingModel, sounds: Path, labels: Mapping[str, str]) -> dict[str, float]:
    """Return the share of sounds whose class YAMNet finds the likeliest of the five, by class and of all."""
    groups = [[model.classes.index(name) for name in HEARD_AS[label]] for label in HEARD_AS]
    right: dict[str, list[bool]] = {label: [] for label in HEARD_AS}
    for path in sorted(sounds.glob("*.wav")):
        label = labels[path.stem]
        sound, _ = soundfile.read(path, dtype="float32")
        (probabilities,) = model.embed(sound[None]).probabilities
        heard = [float(probabilities[group].sum()) for group in groups]
        right[label].append(list(HEARD_AS)[int(np.argmax(heard))] == label)
    shares = {label: float(np.mean(found)) for label, found in right.items() if found}
    return {"all": float(np.mean([one for found in right.values() for one in found])), **shares}


def score(job: TrainingJob, *, yamnet: Path) -> dict[str, Any]:
    """Evaluate a run at some scales of guidance; the sounds stay in the run's folder `evaluation`."""
    out = job.run / "evaluation"
    request = GenerationRequest([job.run], str(job.data), [f"{JUDGE}={yamnet}"], out, guidance=SCALES)
    report = evaluate_generators(request)
    write_generation_report(report, out)
    print(report)
    model = open_embedding(f"{JUDGE}={yamnet}")
    rows = []
    for row in report.as_dict()["rows"]:
        heard = opinion(model, Path(row.pop("sounds")), report.asked_for)
        print(f"{row['name']}: YAMNet hears the class in {100 * heard['all']:.0f} %")
        rows.append(row | {"opinion": heard})
    return {"clips": report.about["clips"], "rows": rows}


def main() -> None:
    chosen = arguments(__doc__.split("\n")[0], [SYSTEM], _more)
    needed = (chosen.esc / "metadata.csv", chosen.clip_vectors / NAMES_FILE, chosen.yamnet)
    for file in needed:
        if not file.is_file():
            sys.exit(f"there is no {file}; see --help")
    packs = chosen.folder / "esc10-packs"
    packs.mkdir(parents=True, exist_ok=True)
    table = packs / "clip-vectors.npz"
    write_vectors(chosen.clip_vectors, table)
    data = pack_classes(chosen.esc, packs / "five", set(VECTORS) - {UNSEEN})
    facts = {"trained_on": TRAINED_ON, "weights_sha256": table_hash(read_vector_table(table)), "published": True}
    budget, asked = load_budget(TABLE), {"vectors": os.fspath(table)}
    jobs = []
    for seed in chosen.seeds or budget.seeds:
        recipe = recipe_of(budget, SYSTEM, seed, chosen.steps, **asked)
        steps = recipe_of(budget, SYSTEM, seed, **asked).schedule.steps
        run = run_folder(chosen.folder, TABLE, recipe)
        jobs.append(TrainingJob(TABLE, recipe, data, run, steps, facts, {"test_fold": TEST_FOLD}))
    run_jobs(jobs, partial(score, yamnet=chosen.yamnet), until=chosen.until)


def _more(parser: argparse.ArgumentParser) -> None:
    esc_arguments(parser)
    weights = Path(__file__).resolve().parents[2] / "shared" / "data" / "weights"
    parser.add_argument("--yamnet", type=Path, default=weights / "yamnet.tflite", help="its class map lies beside it")


if __name__ == "__main__":
    main()
