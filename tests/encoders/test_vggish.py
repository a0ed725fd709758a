"""VGGish: its mel by the formulas, its network by the published names, a vector each 0.96 s."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from vidaudio.encoders.embedding_models import open_embedding
from vidaudio.encoders.vggish import Vggish, VggishMel
from vidaudio.errors import EncoderError

SIZES = {0: (3, 1), 3: (4, 3), 6: (5, 4), 8: (5, 5), 11: (6, 5), 13: (7, 6)}
WIDTHS = {0: (9, 7 * 6 * 4), 2: (8, 9), 4: (6, 8)}


def published(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights under the names of `vggish-10086976.pth`, with fewer channels."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for place, (after, before) in SIZES.items():
        tensors[f"features.{place}.weight"] = torch.randn(after, before, 3, 3, generator=generator) / 3
        tensors[f"features.{place}.bias"] = torch.randn(after, generator=generator)
    for place, (after, before) in WIDTHS.items():
        tensors[f"embeddings.{place}.weight"] = torch.randn(after, before, generator=generator) / before**0.5
        tensors[f"embeddings.{place}.bias"] = torch.randn(after, generator=generator)
    return tensors


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "vggish.pth"
    # The format of its time.
    torch.save(published(), path, _use_new_zipfile_serialization=False)
    return path


def slow_mel(sound: np.ndarray) -> np.ndarray:
    """VGGish's log mel frame by frame, band by band."""

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(mel(125), mel(7500), 66)
    bins = mel(np.arange(257) * 16_000 / 512)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    rows = []
    for start in range(0, len(sound) - 400 + 1, 160):
        magnitudes = np.abs(np.fft.rfft(sound[start : start + 400] * hann, 512))
        bands = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            weight = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
            bands.append(np.log(magnitudes @ weight + 0.01))
        rows.append(bands)
    return np.array(rows)


def test_the_mel_is_that_of_the_formulas():
    sound = np.random.default_rng(0).uniform(-1, 1, 2 * 15_360 + 400 - 160 + 50)
    examples = VggishMel()(torch.from_numpy(sound).float()[None])[0]
    assert examples.shape == (2, 96, 64)
    np.testing.assert_allclose(examples.flatten(0, 1), slow_mel(sound)[: 2 * 96], atol=2e-5)


def test_vectors_are_those_of_the_published_network_without_its_last_relu(weights):
    model, tensors = open_embedding(f"vggish={weights}"), published()
    assert (model.name, model.sample_rate, model.classes) == ("vggish", 16_000, ())
    sound = np.random.default_rng(1).uniform(-1, 1, 40_000).astype(np.float32)
    found = model.embed(sound[None])
    assert found.probabilities is None
    maps = torch.from_numpy(slow_mel(sound)[: 2 * 96]).float().reshape(2, 1, 96, 64)
    for place in SIZES:
        maps = functional.conv2d(
            maps, tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"], padding=1
        )
        maps = maps.relu()
        if place in (0, 3, 8, 13):
            maps = functional.max_pool2d(maps, 2)
    # TensorFlow flattens height, width, channels.
    numbers = torch.stack([torch.stack([one[:, y, x] for y in range(6) for x in range(4)]).flatten() for one in maps])
    for place in WIDTHS:
        numbers = numbers @ tensors[f"embeddings.{place}.weight"].T + tensors[f"embeddings.{place}.bias"]
        numbers = numbers.relu() if place != 4 else numbers
    assert (numbers < 0).any()
    np.testing.assert_allclose(found.vectors[0], numbers, rtol=1e-3, atol=1e-4)


def test_a_short_sound_is_filled_up_and_no_vector_depends_on_others(weights):
    model = open_embedding(f"vggish={weights}")
    sounds = np.random.default_rng(2).uniform(-1, 1, (3, 9000)).astype(np.float32)
    found = model.embed(sounds)
    assert found.vectors.shape == (3, 1, 6)
    np.testing.assert_array_equal(found.vectors, model.embed(np.pad(sounds, ((0, 0), (0, 6600)))).vectors)
    np.testing.assert_array_equal(found.vectors[1:2], model.embed(sounds[1:2]).vectors)
    # Ten windows of ten seconds, as in torchvggish.
    assert model.embed(np.zeros((1, 160_000), np.float32)).vectors.shape == (1, 10, 6)


def test_pca_is_left_out_and_what_is_missing_is_named(tmp_path):
    torch.save(published() | {"pproc.pca_means": torch.zeros(6, 1)}, tmp_path / "pca.pt")
    assert open_embedding(f"v={tmp_path / 'pca.pt'}").sample_rate == 16_000
    for name, words in (("features.8.weight", "features.8.weight is missing"), ("embeddings.4.bias", "does not fit")):
        torch.save({key: each for key, each in published().items() if key != name}, tmp_path / "less.pth")
        with pytest.raises(EncoderError, match=rf"less\.pth holds no weights of VGGish \(.*{words}"):
            open_embedding(f"v={tmp_path / 'less.pth'}")


def test_other_weights_are_refused_in_a_sentence(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(
        EncoderError,
        match=r"other\.pth holds weights of a network that is not known here: those of VGGish, .*TorchScript",
    ):
        open_embedding(f"v={tmp_path / 'other.pth'}")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(EncoderError, match=r"list\.pth holds no table of weights"):
        open_embedding(f"v={tmp_path / 'list.pth'}")


def test_torchvggish_gives_the_same(tmp_path):
    published_package = pytest.importorskip("torchvggish.torchvggish")
    inputs = pytest.importorskip("torchvggish.vggish_input")
    torch.manual_seed(0)
    network = published_package.VGG(published_package.make_layers(), False).eval()
    own, tensors = Vggish.of(network.state_dict())
    own.load_state_dict(tensors)
    network.embeddings = network.embeddings[:-1]
    sound = np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32)
    with torch.inference_mode():
        wanted = network(inputs.waveform_to_examples(sound, 16_000))
        torch.testing.assert_close(own.eval()(torch.from_numpy(sound)[None]).vectors[0], wanted, rtol=1e-4, atol=1e-5)
