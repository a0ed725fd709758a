"""PANNs: window, mel and network from the published names, probabilities that sum to 1, files of whole trainings."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from vidaudio.encoders.embedding_models import open_embedding
from vidaudio.encoders.panns import FLOOR, Cnn14, PannsMel
from vidaudio.errors import EncoderError

CHANNELS = (3, 4, 5, 5, 6, 7)
CLASSES = 5


def hann(length: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def published(n_fft: int = 256, bands: int = 32, wavegram: int = 0) -> dict[str, torch.Tensor]:
    """Weights under the names of `Cnn14_mAP=0.431.pth`, with fewer channels; with the channels of a Wavegram."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / max(1, np.prod(shape[1:])) ** 0.5

    tensors = {}

    def norm(name: str, size: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = random(size) + 1, random(size)
        tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"] = random(size), random(size).abs() + 0.5

    def block(name: str, before: int, after: int, *kernel: int) -> None:
        tensors[f"{name}.conv1.weight"], tensors[f"{name}.conv2.weight"] = (
            random(after, before, *kernel), random(after, after, *kernel)
        )  # fmt: skip
        norm(f"{name}.bn1", after)
        norm(f"{name}.bn2", after)

    turns = -2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft
    for part, values in (("real", np.exp(turns).real), ("imag", np.exp(turns).imag)):
        rows = torch.from_numpy(values * hann(n_fft)).float()[:, None]
        tensors[f"spectrogram_extractor.stft.conv_{part}.weight"] = rows
    tensors["logmel_extractor.melW"] = random(n_fft // 2 + 1, bands).abs()
    norm("bn0", bands)
    before = 1
    for number, after in enumerate(CHANNELS, 1):
        block(f"conv_block{number}", before + (wavegram if number == 2 else 0), after, 3, 3)
        before = after
    tensors["fc1.weight"], tensors["fc1.bias"] = random(8, 7), random(8)
    tensors["fc_audioset.weight"], tensors["fc_audioset.bias"] = random(CLASSES, 8), random(CLASSES)
    if wavegram:
        tensors["pre_conv0.weight"] = random(4, 1, 11)
        norm("pre_bn0", 4)
        for number, after in ((1, 4), (2, 6), (3, 2 * bands // 2)):
            block(f"pre_block{number}", {1: 4, 2: 4, 3: 6}[number], after, 3)
        block("pre_block4", 2, wavegram, 3, 3)
    return tensors


def norm_and_relu(tensors: dict, name: str, maps: torch.Tensor) -> torch.Tensor:
    values = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return functional.batch_norm(maps, *values)


def slow_block(tensors: dict, name: str, maps: torch.Tensor) -> torch.Tensor:
    for number in (1, 2):
        weight = tensors[f"{name}.conv{number}.weight"]
        if weight.ndim == 4:
            maps = functional.conv2d(maps, weight, padding=1)
        else:
            maps = functional.conv1d(maps, weight, padding=number, dilation=number)
        maps = norm_and_relu(tensors, f"{name}.bn{number}", maps).relu()
    return maps


def slow(tensors: dict, sound: np.ndarray, hop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vector and probabilities by the published layers, one after the other; the transform is the file's own."""
    given = torch.from_numpy(sound)[None, None]
    n_fft = tensors["spectrogram_extractor.stft.conv_real.weight"].shape[-1]
    around = functional.pad(given, (n_fft // 2, n_fft // 2), mode="reflect")
    parts = [
        functional.conv1d(around, tensors[f"spectrogram_extractor.stft.conv_{part}.weight"], stride=hop)
        for part in ("real", "imag")
    ]
    powers = parts[0].square() + parts[1].square()
    mel = 10 * torch.einsum("nft,fb->nbt", powers, tensors["logmel_extractor.melW"]).clamp_min(FLOOR).log10()
    maps = norm_and_relu(tensors, "bn0", mel[..., None])[..., 0].transpose(1, 2)[:, None]
    maps = functional.avg_pool2d(slow_block(tensors, "conv_block1", maps), 2)
    if "pre_conv0.weight" in tensors:
        steps = functional.conv1d(given, tensors["pre_conv0.weight"], stride=5, padding=5)
        steps = norm_and_relu(tensors, "pre_bn0", steps).relu()
        for number in (1, 2, 3):
            steps = functional.max_pool1d(slow_block(tensors, f"pre_block{number}", steps), 4)
        learned = steps.reshape(1, 2, -1, steps.shape[-1]).transpose(2, 3)
        learned = functional.avg_pool2d(slow_block(tensors, "pre_block4", learned), (2, 1))
        both = min(maps.shape[2], learned.shape[2])
        maps = torch.cat([maps[:, :, :both], learned[:, :, :both]], 1)
    for number in range(2, 7):
        maps = slow_block(tensors, f"conv_block{number}", maps)
        maps = maps if number == 6 else functional.avg_pool2d(maps, 2)
    steps = maps.mean(3)
    pooled = steps.max(2).values + steps.mean(2)
    vector = (pooled @ tensors["fc1.weight"].T + tensors["fc1.bias"]).relu()
    tags = (vector @ tensors["fc_audioset.weight"].T + tensors["fc_audioset.bias"]).sigmoid()
    return vector, tags / tags.sum()


def saved(path: Path, tensors: dict) -> Path:
    """A file as PANNs' training leaves it, NumPy's values and all, in the format of its time."""
    torch.save({"iteration": np.int64(3), "model": tensors, "sampler": {"indexes": np.arange(4)}}, path,
               _use_new_zipfile_serialization=False)  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("n_fft", "rate", "hop", "wavegram", "samples"),
    [
        (256, 8000, 80, 0, 8077),
        (512, 16_000, 160, 0, 16_000),
        # Mel and Wavegram of one length, and of two.
        (1024, 32_000, 320, 3, 20_480),
        (1024, 32_000, 320, 3, 20_900),
    ],
)
def test_vectors_and_probabilities_are_those_of_the_published_layers(
    tmp_path, n_fft: int, rate: int, hop: int, wavegram: int, samples: int
):
    tensors = published(n_fft, wavegram=wavegram)
    model = open_embedding(f"panns={saved(tmp_path / 'Cnn14.pth', tensors)}")
    assert (model.name, model.sample_rate, model.classes) == ("panns", rate, ())
    sounds = np.random.default_rng(0).uniform(-1, 1, (2, samples)).astype(np.float32)
    found = model.embed(sounds)
    assert found.vectors.shape == (2, 1, 8)
    for row, sound in enumerate(sounds):
        vector, tags = slow(tensors, sound, hop)
        np.testing.assert_allclose(found.vectors[row], vector, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.probabilities[row : row + 1], tags, rtol=1e-3)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-6)
    alone = model.embed(sounds[1:])
    np.testing.assert_array_equal(alone.vectors, found.vectors[1:])
    np.testing.assert_array_equal(alone.probabilities, found.probabilities[1:])


def test_a_short_sound_is_filled_up_with_silence(tmp_path):
    model = open_embedding(f"panns={saved(tmp_path / 'a.pth', published())}")
    short = np.random.default_rng(0).uniform(-1, 1, (1, 50)).astype(np.float32)
    filled = np.pad(short, ((0, 0), (0, 32 * 80 - 50)))
    np.testing.assert_array_equal(model.embed(short).vectors, model.embed(filled).vectors)


@pytest.mark.parametrize(("rate", "n_fft", "hop", "highest"), [(32_000, 1024, 320, 14_000), (16_000, 512, 160, 8000)])
def test_the_mel_is_librosas(rate: int, n_fft: int, hop: int, highest: int):
    librosa = pytest.importorskip("librosa")
    sound = np.random.default_rng(0).normal(0, 0.1, rate).astype(np.float32)
    filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=64, fmin=50, fmax=highest)
    mel = PannsMel(torch.hann_window(n_fft), torch.from_numpy(filters.T.copy()), hop)(torch.from_numpy(sound)[None])
    powers = librosa.feature.melspectrogram(
        y=sound, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=64, fmin=50, fmax=highest, pad_mode="reflect"
    )
    wanted = librosa.power_to_db(powers, ref=1.0, amin=FLOOR, top_db=None)
    np.testing.assert_allclose(mel[0, 0].T, wanted, atol=1e-3)


def test_classes_are_named_beside_the_file(tmp_path):
    path = saved(tmp_path / "a.pth", published())
    with (tmp_path / "class_labels_indices.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "mid", "display_name"])
        writer.writerows([number, f"/m/{number}", f"Kind {number}, or so"] for number in range(CLASSES))
    assert open_embedding(f"p={path}").classes == tuple(f"Kind {number}, or so" for number in range(CLASSES))
    (tmp_path / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/0,Speech\n")
    with pytest.raises(EncoderError, match=r"class_labels_indices\.csv names 1 classes, and .*a\.pth has 5"):
        open_embedding(f"p={path}")


def test_nothing_in_a_file_is_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"model": published(), "sampler": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(EncoderError, match=r"bomb\.pth cannot be read as weights"):
        open_embedding(f"p={tmp_path / 'bomb.pth'}")
    assert not (tmp_path / "exploded").exists()
    # What may be read otherwise is as before.
    assert not any("_reconstruct" in str(each) for each in torch.serialization.get_safe_globals())


def test_other_networks_are_refused_in_a_sentence(tmp_path):
    def refused(name: str, tensors: dict, words: str) -> None:
        with pytest.raises(EncoderError, match=words):
            open_embedding(f"p={saved(tmp_path / name, tensors)}")

    refused("Cnn14_DecisionLevelMax_mAP=0.385.pth", published(), "DecisionLevelMax.* not known here")
    for missing in ("conv_block6.conv1.weight", "fc1.weight"):
        some = {name: each for name, each in published().items() if name != missing}
        refused("a.pth", some, rf"a\.pth holds no weights of PANNs' Cnn14 \({missing} is missing\)")
    refused("b.pth", published() | {"att_block.bias": torch.zeros(1)}, r"att_block\.bias does not fit")
    odd = published()
    odd["spectrogram_extractor.stft.conv_real.weight"] = torch.zeros(65, 1, 128)
    refused("c.pth", odd, "its frames have 128 samples: 1024, 512, 256 are known")
    refused("d.pth", published(512, wavegram=3), "its mel has 16000 Hz: 32000 are known with a Wavegram")


def test_torchlibrosa_gives_the_same_mel():
    stft = pytest.importorskip("torchlibrosa.stft")
    spectrum = stft.Spectrogram(n_fft=1024, hop_length=320, win_length=1024)
    bands = stft.LogmelFilterBank(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000, amin=1e-10, top_db=None)
    own = PannsMel(spectrum.stft.conv_real.weight[0, 0], bands.melW, 320)
    sound = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0)) / 10
    torch.testing.assert_close(own(sound), bands(spectrum(sound)), rtol=1e-4, atol=1e-3)


def test_sizes_of_the_published_file():
    sizes = (64, 128, 256, 512, 1024, 2048)
    with torch.device("meta"):
        tensors = {"spectrogram_extractor.stft.conv_real.weight": torch.empty(513, 1, 1024),
                   "logmel_extractor.melW": torch.empty(513, 64), "fc1.weight": torch.empty(2048, 2048),
                   "fc_audioset.weight": torch.empty(527, 2048)}  # fmt: skip
        for number, (before, after) in enumerate(zip((1, *sizes), sizes, strict=False), 1):
            tensors[f"conv_block{number}.conv1.weight"] = torch.empty(after, before, 3, 3)
        network = Cnn14(tensors)
    # Kong et al. count 80,753,615.
    assert sum(weight.numel() for weight in network.parameters()) == 80_753_615
