"""Timing: planted offsets found in flash-and-beep files and in the demo world, and which clips can be synchronised.

    python -m benchmarks.timing [--seed 0] [--folder FOLDER]

A demo world is rendered and built with `extract.decode: whole`, so that motion is measured from all frames. Heads are
trained on it in two folds by source; every clip is measured by the head that has not seen its source. The files with
flashes and beeps are no part of the world.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import write_result
from benchmarks.trainings import DEFAULT_FOLDER
from tests.media.flash_beep import render_flashes
from vidaudio.corpus.corpus import open_corpus
from vidaudio.correspondence.calibration import auc
from vidaudio.correspondence.timing import (
    CLASS_SECONDS,
    RATE,
    TimingHead,
    TimingSettings,
    measure_timing,
    shifted_onsets,
)
from vidaudio.demo.corpus import build_world
from vidaudio.media.decode.clip import decode_clip
from vidaudio.media.decode.decoded import DecodedClip, DecodeOptions
from vidaudio.media.facts.sound import measure_sound
from vidaudio.tasks.correspondence.fit import MOST_CLIPS
from vidaudio.tasks.correspondence.fit_data import FitData, read_fit_data
from vidaudio.tasks.correspondence.fit_timing import fit_timing

# Kinds whose sounds are strokes at irregular times, which are seen.
IMPACTS = ("bouncing ball", "dripping tap", "knocking woodpecker")
FLASH_FILES = 40
FRAME_SECONDS = 1 / RATE
MOST_PLANTED_SECONDS = 1.6
# From this confidence on an offset counts as sure.
SURE = 0.8


def flashes_and_beeps(heads: Sequence[TimingHead], seed: int) -> list[float]:
    """Return the error of the offset of each file, seconds."""
    generator = np.random.default_rng([seed, 1])
    errors = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in tqdm(range(FLASH_FILES), desc="flashes and beeps"):
            times = np.cumsum(generator.uniform(0.5, 1.1, 12)) + 1.0
            late = float(generator.uniform(-1.5, 1.5))
            file = render_flashes(
                Path(scratch) / f"{number}.mp4",
                tuple(times[times < 7.5].round(3).tolist()),
                seconds=8.0,
                sound_late_seconds=round(late, 3),
            )
            options = DecodeOptions(frame_size=32, decode="whole")
            clip = decode_clip(str(file), 0.0, None, options)
            assert isinstance(clip, DecodedClip)
            onsets = measure_sound(clip.samples, options.sample_rate, clip.audio_start_seconds).onsets
            measured = measure_timing(heads[number % len(heads)], clip.motion_envelope, onsets)
            errors.append(measured.offset_seconds - round(late, 3))
    return errors


def planted_offsets(data: FitData, heads: Sequence[TimingHead], seed: int) -> dict[str, dict[str, Any]]:
    """Return by kind how near planted offsets are found, and how well own sounds are told from another kind's."""
    generator = np.random.default_rng([seed, 2])
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for row, envelopes in enumerate(data.envelopes):
        assert envelopes is not None, "the world has motion"
        head, (motion, onsets) = heads[data.folds[row]], envelopes
        late = round(float(generator.uniform(-MOST_PLANTED_SECONDS, MOST_PLANTED_SECONDS)) * RATE) / RATE
        found = measure_timing(head, motion, shifted_onsets(onsets, late))
        own = measure_timing(head, motion, onsets).can_synchronise
        (other,) = data.other_sources(row, 1, generator, "another")
        theirs = data.envelopes[other]
        assert theirs is not None, "the world has motion"
        swapped = measure_timing(head, motion, theirs[1]).can_synchronise
        values = (found.offset_seconds - late, found.offset_confidence, own, swapped)
        for kind in (str(data.labels[row]), "all", *(("impacts",) if data.labels[row] in IMPACTS else ())):
            rows.setdefault(kind, []).append(values)
    return {kind: _told(np.array(values)) for kind, values in sorted(rows.items())}


def _told(values: np.ndarray) -> dict[str, Any]:
    errors, confidence, own, swapped = values.T
    sure = confidence >= SURE
    return {
        "clips": len(values),
        "within_class": _share_within(errors, CLASS_SECONDS),
        "within_frame": _share_within(errors, FRAME_SECONDS),
        "sure": round(float(sure.mean()), 3),
        "sure_within_class": _share_within(errors[sure], CLASS_SECONDS),
        "sure_within_frame": _share_within(errors[sure], FRAME_SECONDS),
        "can_synchronise_auc": round(auc(own, swapped), 3),
    }


def _share_within(errors: np.ndarray, seconds: float) -> float | None:
    return round(float((np.abs(errors) <= seconds + 1e-6).mean()), 3) if len(errors) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER / "timing")
    chosen = parser.parse_args()
    build_world(chosen.folder, flawed_per_flaw=0, settings=("extract.decode=whole",))
    bar = tqdm(disable=True)
    data = read_fit_data(open_corpus(str(chosen.folder / "corpus-clip")), MOST_CLIPS, chosen.seed, "", bar)
    settings = TimingSettings(seed=chosen.seed)
    with tqdm(total=2 * settings.steps, desc="training heads") as steps:
        fitted = fit_timing(data, np.ones(len(data.clips), bool), settings, steps.update)
    assert fitted is not None, "the world has motion"
    heads, measured = fitted
    errors = np.abs(flashes_and_beeps(heads, chosen.seed))
    flashes = {
        "files": len(errors),
        "within_frame": _share_within(errors, FRAME_SECONDS),
        "largest_seconds": round(float(errors.max()), 3),
    }
    kinds = planted_offsets(data, heads, chosen.seed)
    print(f"flash and beep: {flashes}")
    for kind, told in kinds.items():
        print(f"{kind}: {told}")
    for negatives, values in measured.items():
        print(f"in sync against {negatives}: {values}")
    write_result("timing", {"seed": chosen.seed}, {"flashes_and_beeps": flashes, "kinds": kinds, "in_sync": measured})


if __name__ == "__main__":
    main()
