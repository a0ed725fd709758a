"""PaSST: its mel by the formulas, its network by the published names, windows of 10 s."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from vidaudio.encoders.embedding_models import open_embedding
from vidaudio.encoders.passt import WINDOW, PasstMel
from vidaudio.errors import EncoderError

WIDTH, HIDDEN, DEPTH, CLASSES = 128, 96, 2, 5


def published(frequency: int = 12, time: int = 99) -> dict[str, torch.Tensor]:
    """Weights under the names of `passt-s-f128-p16-s10-ap.476-swa.pt`, narrower and with fewer blocks."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    tensors = {name: random(1, 1, WIDTH) for name in ("cls_token", "dist_token")}
    tensors["new_pos_embed"] = random(1, 2, WIDTH)
    tensors["freq_new_pos_embed"] = random(1, WIDTH, frequency, 1)
    tensors["time_new_pos_embed"] = random(1, WIDTH, 1, time)
    shapes = {"patch_embed.proj": (WIDTH, 1, 16, 16), "head.1": (CLASSES, WIDTH), "head_dist": (CLASSES, WIDTH)}
    norms = ["norm", "head.0"]
    for number in range(DEPTH):
        block = f"blocks.{number}"
        shapes |= {f"{block}.attn.qkv": (3 * WIDTH, WIDTH), f"{block}.attn.proj": (WIDTH, WIDTH)}
        shapes |= {f"{block}.mlp.fc1": (HIDDEN, WIDTH), f"{block}.mlp.fc2": (WIDTH, HIDDEN)}
        norms += [f"{block}.norm1", f"{block}.norm2"]
    for name, shape in shapes.items():
        tensors |= {f"{name}.weight": random(*shape), f"{name}.bias": random(shape[0])}
    for name in norms:
        tensors |= {f"{name}.weight": random(WIDTH) + 1, f"{name}.bias": random(WIDTH)}
    return tensors


@pytest.fixture
def weights(tmp_path):
    torch.save(published(), tmp_path / "passt.pt")
    return tmp_path / "passt.pt"


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, samples).astype(np.float32)


def slow_mel(sound: np.ndarray) -> np.ndarray:
    """PaSST's log mel frame by frame, band by band."""

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges, bins = np.linspace(0, mel(15_000), 130), mel(np.arange(513) * 32_000 / 1024)
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799), 112)
    around = np.pad(sound[1:] - 0.97 * sound[:-1].astype(np.float64), 512, mode="reflect")
    columns = []
    for start in range(0, len(around) - 1024 + 1, 320):
        powers = np.abs(np.fft.rfft(around[start : start + 1024] * window)) ** 2
        bands = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            weight = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
            bands.append((np.log(powers @ weight + 1e-5) + 4.5) / 5)
        columns.append(bands)
    return np.array(columns).T


def slow(tensors: dict, sound: np.ndarray, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vector and probabilities by the published layers, patch by patch and head by head."""

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return values @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(name: str, values: torch.Tensor, epsilon: float = 1e-6) -> torch.Tensor:
        centred = values - values.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    mel = torch.from_numpy(slow_mel(sound)).float()
    tokens = [*(torch.cat([tensors["cls_token"], tensors["dist_token"]], 1) + tensors["new_pos_embed"])[0]]
    kernel = tensors["patch_embed.proj.weight"].flatten(1)
    for row, low in enumerate(range(0, 128 - 15, step)):
        for column, begin in enumerate(range(0, mel.shape[1] - 15, step)):
            patch = kernel @ mel[low : low + 16, begin : begin + 16].flatten() + tensors["patch_embed.proj.bias"]
            places = tensors["freq_new_pos_embed"][0, :, row, 0] + tensors["time_new_pos_embed"][0, :, 0, column]
            tokens.append(patch + places)
    states = torch.stack(tokens)
    for number in range(DEPTH):
        block = f"blocks.{number}"
        queries, keys, values = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", states)).split(WIDTH, 1)
        heads = [slice(first, first + 64) for first in range(0, WIDTH, 64)]
        mixed = [(queries[:, one] @ keys[:, one].T / 8).softmax(1) @ values[:, one] for one in heads]
        states = states + linear(f"{block}.attn.proj", torch.cat(mixed, 1))
        hidden = functional.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", states)))
        states = states + linear(f"{block}.mlp.fc2", hidden)
    vector = norm("norm", states)[:2].mean(0)
    tags = linear("head.1", norm("head.0", vector, 1e-5)).sigmoid()
    return vector, tags / tags.sum()


def test_the_mel_is_that_of_the_formulas():
    sound = noise(20_000)
    np.testing.assert_allclose(PasstMel()(torch.from_numpy(sound)[None])[0, 0], slow_mel(sound), atol=2e-4)


@pytest.mark.parametrize(("places", "step"), [((12, 99), 10), ((8, 62), 16)])
def test_vectors_and_probabilities_are_those_of_the_published_layers(tmp_path, places: tuple[int, int], step: int):
    tensors, path = published(*places), tmp_path / "passt.pt"
    torch.save(tensors, path)
    model = open_embedding(f"passt={path}")
    assert (model.name, model.sample_rate, model.classes) == ("passt", 32_000, ())
    sound = noise(32_000)
    vector, tags = slow(tensors, sound, step)
    found = model.embed(np.stack([noise(32_000, 1), sound]))
    assert found.vectors.shape == (2, 1, WIDTH)
    np.testing.assert_allclose(found.vectors[1, 0], vector, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.probabilities[1], tags, rtol=1e-3)
    # It does not depend on the other sound.
    np.testing.assert_array_equal(model.embed(sound[None]).vectors[0], found.vectors[1])


def test_a_long_sound_has_windows_of_ten_seconds_to_its_end_and_a_short_one_is_filled_up(weights):
    model = open_embedding(f"passt={weights}")
    sound = noise(WINDOW + 7680)
    found, parts = model.embed(sound[None]), [model.embed(part[None]) for part in (sound[:WINDOW], sound[7680:])]
    np.testing.assert_array_equal(found.vectors[0], [part.vectors[0, 0] for part in parts])
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-6)
    assert model.embed(sound[None, :WINDOW]).vectors.shape == (1, 1, WIDTH)
    short = noise(300)
    filled = np.pad(short, (0, 15 * 320 + 1 - 300))
    np.testing.assert_array_equal(model.embed(short[None]).vectors, model.embed(filled[None]).vectors)


def test_other_sizes_are_refused_in_a_sentence(tmp_path):
    torch.save(published(12, 200), tmp_path / "twenty.pt")
    with pytest.raises(EncoderError, match=r"twenty\.pt holds no weights of PaSST: it has 12 x 200 positions"):
        open_embedding(f"p={tmp_path / 'twenty.pt'}")
    torch.save({name: each for name, each in published().items() if name != "cls_token"}, tmp_path / "less.pt")
    with pytest.raises(EncoderError, match=r"less\.pt holds no weights of PaSST \(cls_token is missing\)"):
        open_embedding(f"p={tmp_path / 'less.pt'}")
