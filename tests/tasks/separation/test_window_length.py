"""Windows keep their length in seconds at any rate, and are as long as one setting says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.packed import make_packed
from tests.trained import TINY
from vidaudio.errors import CorpusError, RecipeError, UsageError
from vidaudio.stream.index import open_index, write_index
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint, separator_config
from vidaudio.tasks.separation.evaluate import EvaluateRequest, evaluate
from vidaudio.tasks.separation.recipe import SeparationRecipe

SYSTEMS = ["clipsep", "clipsep_nit", "clipsep_text", "clipsep_hybrid", "labelsep", "bertsep", "sop", "pit"]


@pytest.fixture
def packed_48k(tmp_path: Path, encoder_fingerprint: dict) -> Path:
    """The samples of 12 s at 16 kHz, called 4 s at 48 kHz."""
    folder = make_packed(tmp_path / "48k", encoder_fingerprint, clips_per_split={"train": 6, "test": 4}, seconds=12)
    index = open_index(str(folder))
    metadata = {
        "tars": list(index.tars), "audio": index.audio, "sample_rate": 48_000, "frames_per_second": 1.0,
        "encoder": index.encoder, "plan_hash": "48k",
    }  # fmt: skip
    # Not in place: the old one is mapped into memory.
    write_index(folder / "index.new", index.table, metadata)
    (folder / "index.new").replace(folder / "index.arrow")
    return folder


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_papers_window_is_the_default_at_16_khz(name: str):
    front_end = load_train_recipe(name).model.front_end
    assert (front_end.window_samples, front_end.frames) == (65_535, 256)


def test_the_original_sop_and_the_demo_keep_theirs():
    sop, demo = load_train_recipe("sop_original").model.front_end, load_train_recipe("demo").model.front_end
    assert (sop.sample_rate, sop.window_samples, sop.frames) == (11_025, 65_535, 256)
    assert (demo.window_samples, demo.frames) == (65_535, 128)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("hop", [256, 512])
@pytest.mark.parametrize("levels", [5, 7])
@pytest.mark.parametrize("seconds", [None, 1.0, 4.096, 10.0, 30.0])
def test_any_rate_and_length_give_a_front_end_that_fits(rate: int, hop: int, levels: int, seconds: float | None):
    settings = [f"model.front_end.sample_rate={rate}", f"model.front_end.hop={hop}", f"model.unet.levels={levels}"]
    settings += [] if seconds is None else [f"data.window_seconds={seconds}"]
    recipe = load_train_recipe("clipsep", settings)
    front_end = recipe.model.front_end
    separator_config(recipe, 512)  # refuses what does not fit
    step = 2**levels * hop / rate
    assert (
        abs((front_end.window_samples + 1) / rate - (seconds or 4.096))
        <= max(step / 2, step - (seconds or 4.096)) + 1e-9
    )
    # Read once more, as from a checkpoint, it is the same.
    assert SeparationRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_two_lengths_are_refused_and_one_in_samples_is_kept():
    stated = ["model.front_end.window_samples=8191", "model.front_end.frames=32", "model.unet.levels=5"]
    assert load_train_recipe("clipsep", stated).model.front_end.window_samples == 8191
    with pytest.raises(RecipeError, match=r"data\.window_seconds is 10, and model\.front_end states another length"):
        load_train_recipe("clipsep", [*stated, "data.window_seconds=10"])
    free = ["model.front_end.window_samples=null", "model.front_end.frames=null", "data.window_seconds=10"]
    assert load_train_recipe("clipsep", [*stated, *free]).model.front_end.frames == 640
    with pytest.raises(RecipeError, match="window_seconds"):
        load_train_recipe("clipsep", ["data.window_seconds=0"])


def test_a_streams_window_keeps_its_length_in_seconds(packed_48k: Path):
    for shape, samples in (
        (WindowShape(frames=1), 196_607),
        (WindowShape(frames=1, seconds=2.0), 96_000),
        (WindowShape(frames=1, samples=65_535), 65_535),
    ):
        stream = MixtureStream(str(packed_48k), StreamConfig(shape=shape, batch_size=2))
        assert stream.batch(0)["audio"].shape == (2, 2, samples)
        assert np.all(stream.batch(0)["audio"].numpy().any(axis=-1))
    with pytest.raises(UsageError, match="in samples or in seconds"):
        WindowShape(samples=100, seconds=1.0)
    with pytest.raises(UsageError, match="seconds of a window must be more than 0"):
        WindowShape(seconds=0)


def test_advice_about_the_rate_says_what_becomes_of_the_windows(packed_48k: Path):
    recipe = load_train_recipe("sop_original")
    samples = recipe.model.front_end.window_samples
    config = StreamConfig(shape=WindowShape(frames=1, samples=samples), sample_rate=11_025, batch_size=2)
    with pytest.raises(CorpusError, match=r"65,535 samples become 1\.365 s instead of 5\.944 s") as refused:
        MixtureStream(str(packed_48k), config)
    advised = re.findall(r"--set (\S+=\S+?)(?=[.,]? |$)", str(refused.value))
    for name in ("sop_original", "clipsep"):
        front_end = load_train_recipe(name, advised[1:]).model.front_end
        half_a_step = 128 * front_end.hop / 48_000 / 2
        assert front_end.sample_rate == 48_000
        assert abs(front_end.window_samples / 48_000 - 5.944) <= half_a_step + 0.001
    free = StreamConfig(shape=WindowShape(frames=1), sample_rate=11_025, batch_size=2)
    with pytest.raises(CorpusError, match=r"sample_rate=48000\. Windows keep their length in seconds$"):
        MixtureStream(str(packed_48k), free)


def test_training_and_evaluation_at_48_khz_by_one_setting_each(packed_48k: Path, tmp_path: Path, capsys):
    tiny = [setting for setting in TINY if not setting.startswith("model.front_end")]
    front_end = "model.front_end={sample_rate: 48000, log_rows: 32}"
    recipe = load_train_recipe("clipsep", (*tiny, front_end, "data.window_seconds=1", "schedule.steps=1"))
    train(recipe, str(packed_48k), tmp_path / "run", progress=False)
    assert load_checkpoint(tmp_path / "run").model.front_end.config.window_samples == 47_103
    assert "windows of 0.981 s are used, not of 1 s" in capsys.readouterr().err
    report = evaluate(EvaluateRequest(tmp_path / "run", str(packed_48k), scorer="batched", progress=False))
    assert len(report.sdr["text"]) == 4
    other = load_train_recipe("clipsep", (*tiny, "model.front_end={log_rows: 32}", "schedule.steps=1"))
    with pytest.raises(CorpusError, match=r"sound at 48000 Hz, .*--set model\.front_end\.sample_rate=48000"):
        train(other, str(packed_48k), tmp_path / "other", progress=False)
    assert torch.isfinite(torch.tensor(list(report.sdr["text"].values()))).all()
