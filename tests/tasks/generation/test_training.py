"""A generator's run: what is drawn belongs to an example's position, whatever ranks, parts and restarts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.further_vectors import SOUND
from tests.packed import make_packed
from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.errors import CheckpointError, RecipeError, VidaudioError
from vidaudio.generation import fixed_length
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.training.power_average import average


def trained(data, run, *settings, system="clipsonic_iq", resume=False):
    recipe = load_train_recipe(system, (*TINY_GENERATOR, "log.to=none", *settings))
    return train(recipe, str(data), run, resume=resume, progress=False)


def weights(run) -> dict[str, torch.Tensor]:
    return load_generator(run).model.state_dict()


def assert_close(run, other, tolerance):
    for name, value in weights(run).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=0, atol=tolerance)


def test_learns_which_sound_belongs_to_which_vector(trained_generator):
    loaded = load_generator(trained_generator)
    generator = SoundGenerator(loaded.model, loaded.recipe)
    dimensions = loaded.model.config.condition_dimensions
    vectors = [np.random.default_rng(100 + kind).normal(0, 1, dimensions) for kind in range(3)]
    conditions = fixed_length(torch.from_numpy(np.stack(vectors)))
    times = torch.arange(loaded.recipe.samples) / 16_000
    mels = generator.front_end(
        torch.stack([0.3 * torch.sin(2 * torch.pi * 250 * 3**kind * times) for kind in range(3)])
    )
    draws, noise = torch.linspace(0.3, 0.95, 30), torch.randn(30, 1, *mels.shape[1:])
    rows = torch.arange(30) % 3

    def error(given: torch.Tensor | None) -> float:
        with torch.inference_mode():
            return float(generator.process.losses(loaded.model, mels[rows, None], given, draws, noise)["error"].mean())

    right, wrong, none = error(conditions[rows]), error(conditions[(rows + 1) % 3]), error(None)
    assert right < 0.85 * wrong
    assert right < 0.95 * none


def test_a_run_goes_on_to_the_same_weights(packed, tmp_path):
    trained(packed, tmp_path / "whole")
    trained(packed, tmp_path / "stopped", "schedule.steps=4")
    trained(packed, tmp_path / "stopped", resume=True)
    assert_close(tmp_path / "whole", tmp_path / "stopped", 0)


def test_a_batch_in_parts_sees_as_many_sounds_and_is_the_same_twice(packed, tmp_path):
    for name in ("one", "two"):
        done = trained(packed, tmp_path / name, "data.accumulate=2")
    assert done.examples == 64
    assert_close(tmp_path / "one", tmp_path / "two", 0)


def test_two_ranks_equal_one(packed, tmp_path):
    settings = [part for setting in (*TINY_GENERATOR, "log.to=none") for part in ("--set", setting)]
    for ranks in (1, 2):
        command = [sys.executable, "-m", "vidaudio", "train", "clipsonic_iq", "--data", str(packed)]
        command += ["-o", str(tmp_path / f"ranks{ranks}"), "--devices", str(ranks), "--quiet", *settings]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "ranks1", tmp_path / "ranks2", 1e-5)


@pytest.mark.parametrize("system", ["clip_tta", "clipsonic_iq_modern"])
def test_other_systems_train(system, packed, tmp_path):
    done = trained(packed, tmp_path / "run", system=system)
    assert np.isfinite(done.best_loss)
    loaded = load_generator(tmp_path / "run")
    mel = SoundGenerator(loaded.model, loaded.recipe).mels(
        torch.randn(1, loaded.model.config.condition_dimensions), [0]
    )
    assert mel.shape == (1, 16, 16)


def test_flow_matching_trains(packed, tmp_path):
    settings = ("model.process.kind=flow",)
    trained(packed, tmp_path / "run", *settings, system="clipsonic_iq_modern")
    loaded = load_generator(tmp_path / "run")
    mel = SoundGenerator(loaded.model, loaded.recipe).mels(
        torch.randn(1, loaded.model.config.condition_dimensions), [0]
    )
    assert bool(torch.isfinite(mel).all())


def test_clips_without_a_label_train_without_a_condition(encoder_fingerprint, tmp_path, capsys):
    data = make_packed(
        tmp_path / "packed", encoder_fingerprint, clips_per_split={"train": 8, "val": 4}, unlabelled=(1, 2)
    )
    assert np.isfinite(trained(data, tmp_path / "run", system="clip_tta").best_loss)
    with pytest.raises(VidaudioError, match="2 of 8 clips of the train split have no label"):
        trained(data, tmp_path / "refused", "query.unlabelled=refuse", system="clip_tta")


def test_validation_windows_without_a_label_are_not_shown(encoder_fingerprint, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    counts = {"train": 8, "val": 4}
    data = make_packed(tmp_path / "packed", encoder_fingerprint, clips_per_split=counts, unlabelled=(1, 2))
    trained(data, tmp_path / "run", "validation.shown=4", "log.to=tensorboard", system="clip_tta")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"audio": 0}).Reload()
    shown = {tag.partition("/")[0] for tag in events.Tags()["audio"]}
    assert shown == {"validation_0", "validation_3"}


def test_weights_of_another_run_are_taken(packed, trained_generator, tmp_path):
    trained(packed, tmp_path / "more", f"init_from={trained_generator}", "optimiser.learning_rate=1e-9")
    assert_close(tmp_path / "more", trained_generator, 1e-4)
    with pytest.raises(CheckpointError, match="does not fit"):
        trained(packed, tmp_path / "other", f"init_from={trained_generator}", "model.unet.channels=32")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("query.train=text",), "query.train must be 'image'"),
        (("sampling.sampler=euler",), "euler is for flow matching"),
        (("sampling.steps=100000",), "between 1 and"),
        (("model.process.prediction=velocity",), "prediction must be 'noise'"),
        (("query.kind=label",), "CLIP vectors"),
        (("query.validation=text",), "validated as it is trained"),
        (("query.gap.train=mixup",), "mixup"),
        (("query.gap={train: dropout, options: {dropout: {speed: 1}}}",), "speed"),
        (("model.mel.bands=17",), "multiple of 2"),
        (("model.mel.hop=2000",), "overlap"),
        (("model.unet.heads=5",), "does not divide"),
        (("sampling.guidance_interval=[0.9, 0.1]",), "rising"),
        (("model.process.steps=1",), "steps"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(RecipeError, match=words):
        load_train_recipe("clipsonic_iq", (*TINY_GENERATOR, *settings))


def test_vectors_that_are_not_of_pictures_by_clip_are_refused(encoder_fingerprint, packed_with_further, tmp_path):
    with pytest.raises(VidaudioError, match=rf"not by those of {SOUND} \(sound\)"):
        trained(packed_with_further, tmp_path / "sound", f"data.vectors={SOUND}")
    resnet = dict(encoder_fingerprint) | {"architecture": "resnet18-dilated"}
    data = make_packed(tmp_path / "packed", resnet, clips_per_split={"train": 6, "val": 3})
    with pytest.raises(VidaudioError, match="wants CLIP's"):
        trained(data, tmp_path / "resnet")


def test_an_encoder_that_does_not_fit_is_refused_with_both_names(packed, encoder_fingerprint, tmp_path):
    trained(packed, tmp_path / "run", "schedule.steps=4")
    other = json.loads(json.dumps(dict(encoder_fingerprint)))
    other |= {"weights_sha256": "f" * 64, "architecture": "ViT-L-14"}
    data = make_packed(tmp_path / "other", other, clips_per_split={"train": 12, "val": 6, "test": 6})
    with pytest.raises(CheckpointError) as error:
        trained(data, tmp_path / "run", "data.allow_other=true", resume=True)
    assert str(encoder_fingerprint["architecture"]) in str(error.value)
    assert "ViT-L-14" in str(error.value)


def test_averages_of_other_widths_generate(packed, tmp_path):
    run = tmp_path / "run"
    trained(packed, run, "average.snapshot_every_steps=2", "schedule.steps=6", system="clipsonic_iq_modern")
    made = average(run, run / "wide.safetensors", 0.08)
    assert (made.step, made.snapshots) == (6, 3)
    wide, best = load_generator(made.path), load_generator(run)
    assert (wide.recipe, wide.encoder, wide.step) == (best.recipe, best.encoder, 6)
    assert any(not torch.equal(value, best.model.state_dict()[name]) for name, value in wide.model.state_dict().items())
    mel = SoundGenerator(wide.model, wide.recipe).mels(torch.randn(1, wide.model.config.condition_dimensions), [0])
    assert bool(torch.isfinite(mel).all())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("sampling.eta=1",), "sampling.eta is for sampling.sampler ddim"),
        (("model.process.times=logit_normal",), "model.process.times is for flow matching"),
    ],
)
def test_settings_without_effect_are_refused(settings: tuple[str, ...], words: str):
    with pytest.raises(RecipeError, match=words):
        load_train_recipe("clipsonic_iq", settings)
