"""The gap between pictures and words: every method against it, on CLIPSep in the demo world, asked in words.

    python -m benchmarks.gap --minutes 60

CLIPSep asked by pictures is the ceiling, asked by plain words the floor. Methods of asking are fitted to the training
split and tried on every seed's CLIPSep; methods of training are runs of their own. CLIPSep-Text and CLIPSep-Hybrid,
which are trained with words, stand beside them. `python -m benchmarks.tables gap` prints what is finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.systems import run_table
from benchmarks.trainings import TrainingJob, summaries
from vidaudio.modality_gap import ASKING_METHODS, GapMeasures, measure_gap
from vidaudio.report.modality_gap import AS_IT_IS
from vidaudio.report.modality_gap import gap as measured_gap
from vidaudio.stream.index import open_index
from vidaudio.tasks.queries.blocks import QueryBlock
from vidaudio.tasks.queries.encoders import CorpusQueries
from vidaudio.tasks.queries.gap import GAP_FOLDER, gap_sample, trained_gap
from vidaudio.tasks.separation.checkpoint import Checkpoint, load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, EvaluationReport, TestMaterial, evaluate

PLAIN = "text"
# Measures of the gap that are shown beside each method.
MEASURES = ("centroid_distance", "frechet_distance", "mmd", "text_recall")


def score_with_methods(job: TrainingJob, *, mixtures: int | None, processes: int) -> dict[str, Any]:
    """Evaluate a run, and plain CLIPSep also through every method of asking.

    The result holds SDR and SI-SDR of every mixture, by the way of asking, for shares with intervals; and the measures
    of the gap as each way leaves it.
    """
    material = TestMaterial(str(job.data), different_labels=True, mixtures=mixtures)
    # The batched scorer equals museval and is several times as fast.
    report = evaluate(EvaluateRequest(job.run, material, scorer="batched", processes=processes))
    print(report)
    result = summaries(report) | {"scores": _scores(report, "text", PLAIN) | _scores(report, "image", "image")}
    if job.recipe.system != "clipsep" or job.variant:
        # A system trained with words has no gap to measure.
        trained_with_words = job.recipe.query.train == "text"
        return result | {
            "gap": {} if trained_with_words else {PLAIN: _chosen(_measures(job.data, load_checkpoint(job.run)))}
        }
    folder = job.run / GAP_FOLDER
    fitted = measured_gap(job.data, fit=["all"], output=folder, seed=job.recipe.seed, progress=True)
    result["gap"] = {PLAIN if name == AS_IT_IS else name: _chosen(row) for name, row in fitted.rows.items()}
    result["through"] = {}
    for name in ASKING_METHODS:
        file = Path(fitted.files[name])
        request = EvaluateRequest(job.run, material, ("text",), scorer="batched", gap=str(file), progress=False)
        asked = evaluate(request)
        print(f"{name}: SI-SDR {asked.improvement('text', 'si_sdr').mean:+.2f}, SDR {asked.summary('text').mean:.2f}")
        result["scores"] |= _scores(asked, "text", name)
        result["through"][name] = summaries(asked)["summaries"]["text"]
    return result


def _scores(report: EvaluationReport, method: str, name: str) -> dict[str, dict[str, dict[int, float]]]:
    """Return the scores of a method by the measure and the number of the mixture, dB."""
    return {
        name: {
            measure: {number: round(value, 3) for number, value in report.values(method, measure).items()}
            for measure in ("sdr", "si_sdr")
        }
    }


def _measures(data: Path, loaded: Checkpoint) -> GapMeasures:
    """Measure the gap as a system trained with a method sees it, on the validation split."""
    assert loaded.encoder is not None, "the system is asked by CLIP"
    sample = gap_sample([open_index(str(data), "val")], CorpusQueries(dict(loaded.encoder), QueryBlock()))
    train = trained_gap(loaded).train
    images, texts = sample.data.images, sample.data.texts
    if train is not None:
        images, texts = train.map_images(images), train.map_texts(texts)
    return measure_gap(images, texts, sample.image_labels, sample.text_labels)


def _chosen(measures: GapMeasures) -> dict[str, float | None]:
    values = measures.as_dict()
    return {name: values[name] for name in MEASURES}


if __name__ == "__main__":
    run_table("gap", __doc__, score_with_methods)
