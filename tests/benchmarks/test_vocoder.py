"""The vocoder's benchmark: rows of equal ways are equal, and silent windows are left out."""

import math

import numpy as np
import soundfile

from benchmarks.vocoder import REFERENCE, compare, mean_with_error
from vidaudio.generation import MelFrontEnd, griffin_lim
from vidaudio.manifest import Clip, write_manifest
from vidaudio.packs.audio_only import pack_sounds


def test_equal_ways_do_not_differ_and_silence_is_left_out(tmp_path):
    clips = []
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        loud = 0.0 if number == 1 else 0.3
        soundfile.write(path, loud * np.sin(np.arange(80_000) * 0.05 * (number + 1)), 16_000, subtype="PCM_16")
        clips.append(Clip(f"s{number}", f"file:{number}", "made", str(path), split="test"))
    write_manifest(clips, tmp_path / "m.parquet")
    pack_sounds(tmp_path / "m.parquet", tmp_path / "pack", progress=False)
    front_end = MelFrontEnd()

    def quick(mel):
        return griffin_lim(mel, front_end, iterations=2)

    ways = {"vocoder": quick, REFERENCE: quick, "half": lambda mel: quick(mel) / 2}
    rows = compare(tmp_path / "pack", front_end, ways, 10)
    assert rows["vocoder"]["windows"] == 3
    assert rows["vocoder"]["stft"] == rows[REFERENCE]["stft"]
    for measure in ("mel_l1", "stft"):
        assert rows["vocoder"][measure]["mean"] > 0
        assert rows["vocoder"]["minus_griffin_lim"][measure] == {"mean": 0, "standard_error": 0, "median": 0}
    assert abs(rows["half"]["minus_griffin_lim"]["loud_db"]["mean"] + 20 * math.log10(2)) < 0.1
    assert compare(tmp_path / "pack", front_end, {REFERENCE: quick}, 2)[REFERENCE]["windows"] == 2


def test_the_error_of_a_mean():
    found = mean_with_error([1.0, 2.0, 6.0])
    assert found == {"mean": 3.0, "standard_error": round(math.sqrt(7 / 3), 4), "median": 2.0}
