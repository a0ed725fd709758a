"""Listening folder: mixtures, true sources and estimates as 16-bit FLAC, their spectrograms, a page, and a list.

Every method has its own folder with one file per item, as `vidaudio listening-test` expects.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
import soundfile

from vidaudio.errors import UsageError
from vidaudio.files import name_for_c
from vidaudio.tasks.separation.evaluation.eval_mixtures import EvalMixture, TestSet
from vidaudio.tasks.separation.evaluation.methods import Estimates, Estimator
from vidaudio.tasks.separation.evaluation.pairs import chosen_numbers
from vidaudio.tasks.separation.evaluation.report import EvaluationReport
from vidaudio.training.spectrograms import Panel, draw_panels

CHOICES = ("drawn", "best", "worst")
DYNAMIC_RANGE_DB = 70.0
_PAGE = files("vidaudio.tasks.separation.evaluation").joinpath("sounds.html.j2")


def write_sounds(
    folder: str | Path,
    report: EvaluationReport,
    tests: TestSet,
    estimator: Estimator,
    *,
    count: int = 10,
    choice: str = "drawn",
) -> Path:
    """Write sounds and spectrograms of some mixtures, and return the path of the page.

    The files are `METHOD/NNNN.flac`, with `mixture`, `target` and `interference` among the methods; `NNNN.png`;
    `index.html`; and `items.csv`, the list for a listening test. Of a method's candidates, the one that counts for the
    score is written.

    Args:
        folder: Output folder; created if it is missing.
        report: Scores of the same mixtures.
        tests: The mixtures.
        estimator: Estimator that makes the estimates of the chosen mixtures again.
        count: Number of mixtures.
        choice: Mixtures to write: some `drawn` by seed, or those with the `best` or `worst` result, see `chosen_items`.

    Raises:
        UsageError: When `choice` is none of these.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rate = estimator.model.front_end.config.sample_rate
    shown, rows = [], []
    for item in chosen_items(report, tests, count, choice):
        sounds = _of_methods(estimator.estimate(item), report)
        name = f"{item.number:04d}"
        for method, sound in sounds.items():
            path = folder / method.replace(":", "").replace(" ", "_") / f"{name}.flac"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(name_for_c(path), sound.clip(-1, 1), rate, format="FLAC", subtype="PCM_16")
        draw_spectrograms(sounds, rate, folder / f"{name}.png")
        label = item.target.label
        other = " and ".join(sound.label or "a sound without a label" for sound in item.partners)
        keys = {"target": item.target.key, "interference": " and ".join(sound.key for sound in item.partners)}
        described = {"label": label, "other": other, "sounds": _described(item, report, sounds)}
        shown.append({"name": name, **keys, **described})
        rows.append([name, *(" and ".join(s.label or s.key for s in side) for side in ((item.target,), item.partners))])
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["item", "target", "other"], *rows])
    page = jinja2.Environment(autoescape=True).from_string(_PAGE.read_text("utf-8"))
    title = f"{report.about.system}, {report.about.tested}"
    (folder / "index.html").write_text(page.render(title=title, items=shown), encoding="utf-8")
    return folder / "index.html"


def chosen_items(report: EvaluationReport, tests: TestSet, count: int, choice: str) -> list[EvalMixture]:
    """Return the mixtures to show.

    `drawn` ones are chosen by a fixed seed, since neighbours are often of one kind. `best` and `worst` are by SI-SDR
    gain of the first method that is not the mixture.

    Raises:
        UsageError: When `choice` is not in `CHOICES`.
    """
    if choice not in CHOICES:
        raise UsageError(f"there is no choice {choice!r} of sounds; there are {', '.join(CHOICES)}")
    if choice == "drawn":
        return [tests.items[place] for place in chosen_numbers(len(tests.items), count)]
    judge = next((method for method in report.methods if method != "mixture"), "mixture")
    own, mixture = report.values(judge, "si_sdr"), report.values("mixture", "si_sdr")
    gains = {number: own[number] - mixture[number] for number in own.keys() & mixture.keys()}
    ranked = sorted(gains, key=lambda number: (gains[number], number), reverse=choice == "best")[:count]
    items = {item.number: item for item in tests.items}
    return [items[number] for number in ranked]


def draw_spectrograms(sounds: dict[str, np.ndarray], sample_rate: int, path: Path) -> None:
    """Draw spectrograms side by side, log frequency, all with the same level scale; PNG."""
    pictures = {name: _level(sound) for name, sound in sounds.items()}
    loudest = max(float(picture.max()) for picture in pictures.values())
    panels = [Panel(name, picture, loudest - DYNAMIC_RANGE_DB, loudest) for name, picture in pictures.items()]
    seconds = len(next(iter(sounds.values()))) / sample_rate
    draw_panels(panels, sample_rate, seconds).savefig(path)


def _of_methods(estimates: Estimates, report: EvaluationReport) -> dict[str, np.ndarray]:
    target, interference = estimates.references.cpu().numpy()
    sounds = {"mixture": estimates.mixture.cpu().numpy(), "target": target, "interference": interference}
    for (method, candidate), sound in zip(estimates.names, estimates.sounds, strict=True):
        score = report.scores[estimates.number].get(method)
        if method != "mixture" and candidate == (score.candidate if score is not None else 0):
            sounds[method] = sound[0].cpu().numpy()
    return sounds


def _described(item: EvalMixture, report: EvaluationReport, sounds: dict[str, np.ndarray]) -> Sequence[dict[str, str]]:
    described = []
    for method in sounds:
        score = report.scores[item.number].get(method)
        file = f"{method.replace(':', '').replace(' ', '_')}/{item.number:04d}.flac"
        figures = {name: "" if score is None else f"{getattr(score, name):.2f}" for name in ("si_sdr", "sdr")}
        described.append({"method": method, "file": file, **figures})
    return described


def _level(sound: np.ndarray, n_fft: int = 1024, hop: int = 256) -> np.ndarray:
    """Return magnitudes in dB, `[bins, frames]`."""
    padded = np.pad(np.asarray(sound, np.float64), n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    return 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(n_fft), axis=1)).T + 1e-6)
