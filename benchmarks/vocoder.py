"""The demo vocoder against Griffin and Lim's iteration, on sounds that it has not heard.

    python -m benchmarks.vocoder --minutes 30
    python -m benchmarks.vocoder --run RUN

Trains `train/demo_vocoder.yaml` on the demo world (or on `--data`), unless that is done; the same command goes on.
`--run` takes a trained vocoder instead. Then the windows of the corpus's test split, and those of ESC-10's fold 4, real
sounds of kinds that are not in the world, go through their mels and back. Each copy is compared with its window: mean
absolute difference of the mel's logarithms, and multi-resolution STFT distance, with standard errors over the windows;
less is better. Griffin-Lim is fitted to the very mel that the first measure compares; the second judges both alike.
A third number says how much louder the copy is where the window's mel is loudest, dB.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import write_result
from benchmarks.esc10 import TEST_FOLD, pack_classes
from benchmarks.trainings import DEFAULT_FOLDER, OutOfTime, interrupted_after
from benchmarks.world import WORLD_SEED
from vidaudio.demo.corpus import build_world
from vidaudio.generation import MelFrontEnd, griffin_lim, mel_distance, stft_distance
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.vocoder.checkpoint import VocoderCheckpoint, load_vocoder

# Frames of a window: 4.096 s of the default mel.
FRAMES = 128
REFERENCE = "griffin_lim"
# What is compared; and the share of a mel's values that are its loudest.
MEASURES = ("mel_l1", "stft", "loud_db")
LOUD_SHARE = 0.1
Ways = Mapping[str, Callable[[Tensor], Tensor]]


def test_windows(pack: Path, front_end: MelFrontEnd, most: int) -> Iterator[Tensor]:
    """Yield middle windows of a pack's test split, float32 `[1, samples]`, the first ones; no silent ones."""
    config = front_end.config
    shape = WindowShape(frames=1, samples=config.samples(FRAMES))
    stream = MixtureStream(
        pack,
        StreamConfig(
            split="test",
            sources=1,
            shape=shape,
            batch_size=1,
            shuffle=False,
            gain_range=None,
            sample_rate=config.sample_rate,
            vectors=(),
        ),
    )
    for window in stream.first(most)["audio"].float() / 2**15:
        if bool(window.any()):
            yield window


@torch.inference_mode()
def compare(pack: Path, front_end: MelFrontEnd, ways: Ways, most: int) -> dict[str, Any]:
    """Return, for every way from mels to sound, its mean distances with standard errors, and its time.

    `minus_griffin_lim` holds the mean of the differences window by window, and its standard error: below zero, the
    way is nearer to the sound than Griffin-Lim.
    """
    found: dict[str, dict[str, list[float]]] = {name: {key: [] for key in (*MEASURES, "seconds")} for name in ways}
    for window in test_windows(pack, front_end, most):
        mel = front_end.log_mel(window)
        is_loud = mel >= mel.quantile(1 - LOUD_SHARE)
        for name, way in ways.items():
            began = time.perf_counter()
            made = way(mel)
            found[name]["seconds"].append(time.perf_counter() - began)
            found[name]["mel_l1"].append(float(mel_distance(made, window, front_end)))
            found[name]["stft"].append(float(stft_distance(made, window)))
            louder = (front_end.log_mel(made) - mel)[is_loud].mean()
            found[name]["loud_db"].append(20 / math.log(10) * float(louder))
    rows = {}
    for name, values in found.items():
        rows[name] = {
            "windows": len(values["stft"]),
            **{measure: mean_with_error(values[measure]) for measure in MEASURES},
            "seconds_a_second": round(statistics.mean(values["seconds"]) / front_end.config.seconds(FRAMES), 4),
        }
        if name != REFERENCE:
            differences = {
                measure: [one - other for one, other in zip(values[measure], found[REFERENCE][measure], strict=True)]
                for measure in MEASURES
            }
            rows[name]["minus_griffin_lim"] = {key: mean_with_error(each) for key, each in differences.items()}
    return rows


def mean_with_error(values: list[float]) -> dict[str, float]:
    """Mean, its standard error, and the median, since the distance of a nearly silent window can be large."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {
        "mean": round(statistics.mean(values), 4),
        "standard_error": round(error, 4),
        "median": round(statistics.median(values), 4),
    }


def trained_vocoder(chosen: argparse.Namespace, data: Path, run: Path) -> VocoderCheckpoint:
    """Train the demo vocoder, or go on with it, in the minutes asked for; ends the process if it is not finished."""
    settings = ["log.to=none"]
    if chosen.steps is not None:
        settings.append(f"schedule={{steps: {chosen.steps}, decay_until_step: {chosen.steps}, warmup_steps: 1}}")
    recipe = load_train_recipe("demo_vocoder", settings)
    try:
        with interrupted_after(None if chosen.minutes is None else 60 * chosen.minutes):
            train(recipe, str(data), run, resume="auto")
    except OutOfTime:
        sys.exit(f"out of time: {run} is not finished; the same command goes on")
    return load_vocoder(run)


def main() -> None:
    chosen = arguments()
    name = "vocoder-quick" if chosen.quick else "vocoder"
    if not (chosen.esc / "metadata.csv").is_file():
        sys.exit(f"there is no {chosen.esc / 'metadata.csv'}; see --help")
    few = {"train": 2, "val": 1, "test": 1}
    size = {"videos_per_kind": few, "flawed_per_flaw": 0} if chosen.quick else {}
    folder = chosen.folder / ("world-quick" if chosen.quick else "world-systems")
    data = chosen.data or build_world(folder, encoder="clip", seed=WORLD_SEED, **size)
    loaded = load_vocoder(chosen.run) if chosen.run else trained_vocoder(chosen, data, chosen.folder / name)
    (chosen.folder / "esc10-packs").mkdir(parents=True, exist_ok=True)
    esc = pack_classes(chosen.esc, chosen.folder / "esc10-packs" / "ten", None)
    front_end = MelFrontEnd(loaded.mel)
    ways: Ways = {"vocoder": loaded.model, REFERENCE: lambda mel: griffin_lim(mel, front_end).clamp(-1, 1)}
    results = {}
    for where, pack in (("demo", data), ("esc10", esc)):
        results[where] = compare(pack, front_end, ways, chosen.windows)
        for way, row in results[where].items():
            print(where, way, row, flush=True)
    settings = {
        "quick": chosen.quick,
        "world_seed": WORLD_SEED if chosen.data is None else None,
        "steps": loaded.step,
        "numbers": sum(weight.numel() for weight in loaded.model.parameters()),
        "vocoder_sha256": loaded.sha256,
        "mel": loaded.mel.words,
        "window_seconds": loaded.mel.seconds(FRAMES),
        "esc_test_fold": TEST_FOLD,
    }
    write_result("vocoder", settings, results)


def arguments() -> argparse.Namespace:
    """The command line."""
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a packed corpus with a test split; the demo world by default")
    parser.add_argument("--run", type=Path, help="a trained vocoder, measured as it is")
    parser.add_argument("--esc", type=Path, default=shared / "esc10", help="metadata.csv and the sounds")
    parser.add_argument("--steps", type=int, help="another number than the recipe's")
    parser.add_argument("--minutes", type=float, help="stop training in order after so long; the same command goes on")
    parser.add_argument("--windows", type=int, default=200, help="of each test split, at most")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="for corpora and unfinished runs")
    parser.add_argument("--quick", action="store_true", help="a tiny world and few steps: only to see everything run")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.steps, chosen.windows = chosen.steps or 4, min(chosen.windows, 3)
    return chosen


if __name__ == "__main__":
    main()
