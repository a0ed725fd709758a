"""A vocoder's run: two optimisers in turn, exact resume, and segments that belong to an example's position."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import REPOSITORY
from tests.tasks.conftest import TINY_VOCODER, train_vocoder
from vidaudio.errors import CheckpointError, RecipeError
from vidaudio.generation import MelFrontEnd
from vidaudio.manifest import Clip, write_manifest
from vidaudio.packs.audio_only import pack_sounds
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.vocoder.checkpoint import load_vocoder
from vidaudio.tasks.vocoder.task import VocoderTask
from vidaudio.training.checkpoint import read_checkpoint


def state(run) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, list):
        for each, its in zip(one, other, strict=True):
            assert_same(each, its)
    else:
        assert one == other


def make_module(data, *settings):
    recipe = load_train_recipe("bigvgan", (*TINY_VOCODER, *settings))
    task = VocoderTask.open(recipe, str(data), recorded=None, encoder_weights=None)
    torch.manual_seed(0)
    return task.make_module()


def test_goes_on_to_the_same_weights_and_optimisers(packed, tmp_path):
    train_vocoder(packed, tmp_path / "whole")
    train_vocoder(packed, tmp_path / "stopped", "schedule.steps=3")
    train_vocoder(packed, tmp_path / "stopped", resume=True)
    whole, stopped = state(tmp_path / "whole"), state(tmp_path / "stopped")
    assert any(name.startswith("discriminators.") for name in whole["weights"])
    assert len(whole["optimisers"]) == 2
    for part in ("weights", "optimisers"):
        assert_same(whole[part], stopped[part])


def test_two_ranks_equal_one(packed, tmp_path):
    settings = [part for setting in (*TINY_VOCODER, "log.to=none") for part in ("--set", setting)]
    for ranks in (1, 2):
        command = [sys.executable, "-m", "vidaudio", "train", "bigvgan", "--data", str(packed)]
        command += ["-o", str(tmp_path / f"ranks{ranks}"), "--devices", str(ranks), "--quiet", *settings]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = state(tmp_path / "ranks1")["weights"], state(tmp_path / "ranks2")["weights"]
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=1e-5, msg=name)


def test_the_sum_of_the_parts_is_the_gradient_of_the_batch(packed):
    whole, parts = make_module(packed), make_module(packed, "data.accumulate=2")
    batches = [parts.train_stream.batch(number) for number in range(2)]
    together = whole.train_stream.batch(0)
    torch.testing.assert_close(torch.cat([batch["audio"] for batch in batches]), together["audio"])
    # Segments are drawn a part at a time; with the window's length there is only one.
    for module in (whole, parts):
        module.recipe = module.recipe.model_copy(
            update={"data": module.recipe.data.model_copy(update={"segment_samples": module.recipe.window_samples})}
        )
    gradients = []
    for module, given in ((whole, [together]), (parts, batches)):
        for optimiser in ("discriminator", "generator"):
            for batch in given:
                (module(batch, step=0, optimiser=optimiser) / len(given)).backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_each_optimiser_changes_its_own_part_alone(packed):
    module = make_module(packed)
    batch = module.train_stream.batch(0)
    module(batch, step=0, optimiser="discriminator").backward()
    assert all(p.grad is None for p in module.model.parameters())
    judged = [p.grad.clone() for p in module.discriminators.parameters()]
    module(batch, step=0, optimiser="generator").backward()
    assert all(p.grad is not None for p in module.model.parameters())
    for before, parameter in zip(judged, module.discriminators.parameters(), strict=True):
        assert torch.equal(before, parameter.grad)


def test_segments_are_the_window_and_its_mel_cut_at_the_same_frames(packed):
    module = make_module(packed)
    batch = module.train_stream.batch(3)
    windows = batch["audio"][:, 0].float() / 2**15
    mels = MelFrontEnd(module.front_end.config).log_mel(windows)
    found_mels, found = module.segments(batch)
    assert found.shape == (4, 4096)
    begins = set()
    for window, mel, segment, cut in zip(windows, mels, found, found_mels, strict=True):
        places = [n for n in range(0, len(window) - 4095, 512) if torch.equal(window[n : n + 4096], segment)]
        assert places
        assert any(torch.equal(mel[:, n // 512 : n // 512 + 8], cut) for n in places)
        begins.add(places[0])
    assert len(begins) > 1
    again, _ = module.segments(batch)
    assert torch.equal(again, found_mels)
    other, _ = make_module(packed, "seed=99").segments(batch)
    assert not torch.equal(other, found_mels)


def test_ranks_share_the_segments_of_a_batch(packed):
    module = make_module(packed)
    together, _ = module.segments(module.train_stream.batch(1))
    found = []
    for rank in range(2):
        module.train_stream.set_rank(rank, 2)
        found.append(module.segments(module.train_stream.batch(1))[0])
    assert torch.equal(torch.cat(found), together)


def test_gains_make_sounds_quieter(packed):
    plain, quiet = make_module(packed), make_module(packed, "data.gain_range=[0.25, 0.5]")
    one, other = (module.sounds(module.train_stream.batch(0)) for module in (plain, quiet))
    ratios = other.abs().amax(1) / one.abs().amax(1)
    assert bool(((ratios >= 0.25) & (ratios <= 0.5)).all())


def test_learns(packed, tmp_path):
    settings = (
        "schedule.steps=40",
        "schedule.decay_until_step=40",
        "validation.every_steps=5",
        "loss.feature_weight=0",
    )
    done = train_vocoder(packed, tmp_path / "run", *settings, "optimiser.learning_rate=5e-3")
    table = np.genfromtxt(tmp_path / "run" / "logs" / "metrics.csv", delimiter=",", names=True, encoding="utf-8")
    first = next(value for value in table["validationmel_l1"] if np.isfinite(value))
    assert done.best_loss < 0.8 * first


def test_an_average_is_what_is_saved(packed, tmp_path):
    train_vocoder(packed, tmp_path / "run", "average={decay: 0.9}")
    kept = state(tmp_path / "run")
    saved = read_checkpoint(tmp_path / "run")[0]
    assert {name.partition(".")[0] for name in kept["average"]["weights"]} == {"network"}
    # The best weights are those of step 3 or of step 6.
    names = [name for name in kept["average"]["weights"] if name.endswith("original1")]
    assert any(not torch.equal(saved[name], kept["weights"][f"model.{name}"]) for name in names)


def test_trains_in_bfloat16(packed, tmp_path):
    done = train_vocoder(packed, tmp_path / "run", "precision=bfloat16")
    assert np.isfinite(done.best_loss)


def test_sounds_without_pictures_do(tmp_path):
    clips = []
    for number, split in enumerate(("train",) * 6 + ("val",) * 2):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.3 * np.sin(np.arange(32_000) * 0.05 * (number + 1)), 16_000, subtype="PCM_16")
        clips.append(Clip(f"s{number}", f"file:{number}", "made", str(path), split=split))
    write_manifest(clips, tmp_path / "m.parquet")
    pack_sounds(tmp_path / "m.parquet", tmp_path / "pack", progress=False)
    done = train_vocoder(tmp_path / "pack", tmp_path / "run")
    assert np.isfinite(done.best_loss)
    assert {"validation/mel_l1", "validation/stft"} <= set(done.numbers)


def test_begins_with_the_weights_of_another_run(packed, trained_vocoder, tmp_path):
    train_vocoder(packed, tmp_path / "more", f"init_from={trained_vocoder}", "optimiser.learning_rate=1e-9")
    one, other = (load_vocoder(run).model.state_dict() for run in (trained_vocoder, tmp_path / "more"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-5)
    for setting, words in (("model.generator.channels=32", "does not fit"), ("model.mel.lowest=20", "another mel")):
        with pytest.raises(CheckpointError, match=words):
            train_vocoder(packed, tmp_path / "other", f"init_from={trained_vocoder}", setting)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("model.generator.rates=[16, 16]",), "product is 256: it must be the mel's hop, 512"),
        (("model.generator.kernels=[64, 31]",), "larger by an even number"),
        (("model.generator.channels=18",), "multiple of 4"),
        (("model.generator.block_kernels=[4]",), "must be odd"),
        (("model.generator.block_dilations=[[1], [1]]",), "one list a kernel"),
        (("model.discriminator={periods: [], resolutions: []}",), "no discriminator"),
        (("model.discriminator.resolutions=[[64, 128, 64]]",), "must fall"),
        (("model.discriminator.period_scale=9",), "between 1/32 and 4"),
        (("data.segment_samples=4000",), "multiple of model.mel.hop, 512"),
        (("data.segment_samples=65536",), "at most the 8192 samples"),
        (("data.segment_samples=512",), "samples at least"),
        (("data.gain_range=[0.5, 2]",), "between 0 and 1"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(RecipeError, match=words):
        load_train_recipe("bigvgan", (*TINY_VOCODER, *settings))


@pytest.mark.parametrize("name", ["bigvgan", "demo_vocoder"])
def test_the_recipes_are_of_the_generators_mel(name):
    sizes = load_train_recipe(name).model.vocoder()
    assert sizes.mel.words == load_train_recipe("clipsonic_iq").model.mel.config().words
