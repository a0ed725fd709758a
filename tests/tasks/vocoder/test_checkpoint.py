"""Vocoders by path: of a run, and as BigVGAN publishes them."""

import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch

from vidaudio.errors import CheckpointError, UsageError
from vidaudio.generation import MelConfig
from vidaudio.tasks.vocoder.checkpoint import load_vocoder
from vidaudio.training.checkpoint import save_checkpoint

PUBLISHED = {
    "resblock": "1",
    "upsample_rates": [32, 16],
    "upsample_kernel_sizes": [64, 32],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
    "activation": "snakebeta",
    "snake_logscale": True,
    "num_mels": 16,
    "n_fft": 2048,
    "hop_size": 512,
    "win_size": 2048,
    "sampling_rate": 16000,
    "fmin": 0,
    "fmax": None,
}


def publish(folder: Path, *, plain: bool = False, **changes):
    """Write a generator as the library's `_save_pretrained` does; returns it."""
    from bigvgan import BigVGAN
    from bigvgan.env import AttrDict

    folder.mkdir(exist_ok=True)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        generator = BigVGAN(AttrDict(PUBLISHED)).eval()
    if plain:
        generator.remove_weight_norm()
    torch.save({"generator": generator.state_dict()}, folder / "bigvgan_generator.pt")
    (folder / "config.json").write_text(json.dumps(PUBLISHED | changes))
    return generator


def test_a_runs_vocoder_is_loaded_by_folder_and_by_file(trained_vocoder):
    by_folder, by_file = load_vocoder(trained_vocoder), load_vocoder(trained_vocoder / "best.safetensors")
    mels = torch.randn(1, 16, 9)
    assert torch.equal(by_folder.model(mels), by_file.model(mels))
    assert by_folder.step in (3, 6)
    assert by_folder.mel == MelConfig(bands=16)
    assert len(by_folder.training_sources) == 12
    assert len(by_folder.sha256) == 64


@pytest.mark.parametrize("plain", [False, True])
def test_a_published_vocoder_is_the_librarys(plain, tmp_path):
    theirs = publish(tmp_path / "voc", plain=plain)
    mels = torch.randn(2, 16, 9)
    for path in (tmp_path / "voc", tmp_path / "voc" / "bigvgan_generator.pt"):
        loaded = load_vocoder(path)
        assert loaded.step is None
        assert loaded.mel == MelConfig(bands=16)
        with torch.inference_mode():
            torch.testing.assert_close(loaded.model(mels), theirs(mels)[:, 0])


def test_mels_that_differ_are_refused_with_both(trained_vocoder):
    loaded = load_vocoder(trained_vocoder)
    loaded.require_mel(MelConfig(bands=16, log_most=4.0), "the generator x")
    with pytest.raises(UsageError) as error:
        loaded.require_mel(MelConfig(), "the generator x")
    assert "16 bands from 0 to 8000 Hz, n_fft 2048, hop 512, not 16000 Hz, 64 bands" in str(error.value)
    assert "the generator x" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"win_size": 512}, "windows of 512 samples"),
        ({"activation": "relu"}, "activation 'relu'"),
        ({"upsample_rates": [16, 8]}, "must be the mel's hop"),
        ({"num_mels": 32}, "do not fit its description"),
        ({"upsample_initial_channel": "many"}, "describes no BigVGAN"),
        ({"hop_size": 0}, "at least 1"),
    ],
)
def test_a_published_configuration_that_does_not_fit_is_refused(changes, words, tmp_path):
    publish(tmp_path / "voc", **changes)
    with pytest.raises(CheckpointError, match=words):
        load_vocoder(tmp_path / "voc")


def test_files_that_are_no_vocoder_are_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, torch.nn.Linear(2, 2), {"system": "clipsep", "recipe": {}, "step": 1})
    with pytest.raises(CheckpointError, match="a model for vocoding is wanted"):
        load_vocoder(other)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_vocoder(tmp_path / "missing")
    publish(tmp_path / "voc")
    weights = tmp_path / "voc" / "bigvgan_generator.pt"
    torch.save({"something": torch.zeros(1)}, weights)
    with pytest.raises(CheckpointError, match="under 'generator'"):
        load_vocoder(tmp_path / "voc")
    weights.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="damaged"):
        load_vocoder(tmp_path / "voc")
    (tmp_path / "voc" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"beside its config\.json"):
        load_vocoder(weights)


def test_code_in_a_published_file_is_not_run(tmp_path):
    publish(tmp_path / "voc")
    trace = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return Path.touch, (trace,)

    (tmp_path / "voc" / "bigvgan_generator.pt").write_bytes(pickle.dumps({"generator": Evil()}))
    with pytest.raises(CheckpointError):
        load_vocoder(tmp_path / "voc")
    assert not trace.exists()
