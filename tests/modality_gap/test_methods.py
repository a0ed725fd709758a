"""Every method against the formula it stands for, computed the slow way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.modality_gap.made import cones
from vidaudio.errors import GapError
from vidaudio.modality_gap import ASKING_METHODS, METHODS, GapData, fit_method, load_method, measure_gap, save_method
from vidaudio.modality_gap.bridge import SHARES
from vidaudio.modality_gap.statistics import covariance
from vidaudio.modality_gap.vector_diffusion import STEPS, ddim
from vidaudio.vector_index import build_index

DATA, OF_IMAGE, OF_TEXT = cones()
# Enough for a made-up set; a real corpus takes the defaults.
OPTIONS = {
    "bridge": {"steps": 300, "learning_rate": 1e-3, "width": 64},
    "mlp": {"steps": 200},
    "prior": {"steps": 200, "width": 32},
}


@pytest.fixture(scope="module")
def fitted():
    return {name: fit_method(name, DATA, **OPTIONS.get(name, {})) for name in METHODS}


def test_mean_shift(fitted):
    found = fitted["mean_shift"].map_texts(DATA.texts)
    for text, moved in zip(DATA.texts.numpy(), found.numpy(), strict=True):
        expected = text - DATA.texts.numpy().mean(axis=0) + DATA.images.numpy().mean(axis=0)
        np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_standardise_gives_every_dimension_the_pictures_mean_and_deviation(fitted):
    found = fitted["standardise"].map_texts(DATA.texts).numpy()
    for dimension in range(found.shape[1]):
        wanted = DATA.images[:, dimension].numpy()
        assert found[:, dimension].mean() == pytest.approx(wanted.mean(), abs=1e-5)
        assert found[:, dimension].std(ddof=1) == pytest.approx(wanted.std(ddof=1), abs=1e-5)


def test_recolour_gives_the_pictures_mean_and_covariance():
    found = fit_method("recolour", DATA, shrinkage=0.0).map_texts(DATA.texts)
    torch.testing.assert_close(found.mean(dim=0), DATA.images.mean(dim=0), atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance(found), covariance(DATA.images), atol=1e-3, rtol=1e-4)


def test_shrunk_covariances_are_blends_with_the_identity():
    plain = np.cov(DATA.texts.double().numpy(), rowvar=False)
    expected = 0.7 * plain + 0.3 * np.trace(plain) / len(plain) * np.eye(len(plain))
    np.testing.assert_allclose(covariance(DATA.texts, 0.3).numpy(), expected, atol=1e-10)


def test_retrieval_equals_brute_force(fitted):
    method = fitted["retrieval"]
    images = DATA.images.half().float()
    mean = DATA.images.mean(dim=0)
    for text, found in zip(DATA.texts, method.map_texts(DATA.texts), strict=True):
        asked = text - DATA.texts.mean(dim=0)
        cosines = torch.stack([torch.dot(asked, i - mean) / asked.norm() / (i - mean).norm() for i in images])
        best = sorted(range(len(images)), key=lambda row: -cosines[row])[: method.options["neighbours"]]
        weights = torch.tensor([math.exp(cosines[row] / method.options["temperature"]) for row in best])
        expected = sum(w / weights.sum() * images[row] for w, row in zip(weights, best, strict=True))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_index_of_cells_finds_nearly_what_comparing_all_finds(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    points = F.normalize(torch.randn(40, 32, generator=generator).repeat_interleave(100, 0), dim=-1)
    points = F.normalize(points + 0.1 * torch.randn(points.shape, generator=generator), dim=-1).numpy()
    asked = points[::37]
    exact = build_index(points).search(asked, 10)[1]
    monkeypatch.setattr("vidaudio.vector_index.EXACT_VECTORS", 1000)
    cells = build_index(points)
    assert cells.nlist == 63
    found = cells.search(asked, 10)[1]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
    assert recall > 0.9


def test_ridge_solves_its_normal_equations(fitted):
    method = fitted["ridge"]
    texts, images = DATA.texts[DATA.text_rows].double(), DATA.images[DATA.image_rows].double()
    x, y = texts - texts.mean(dim=0), images - images.mean(dim=0)
    weights = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64)
    gram, cross = x.T @ x, x.T @ y
    penalty = 0.1 * gram.diagonal().mean()
    rate = 1 / (torch.linalg.matrix_norm(gram, 2) + penalty)
    for _ in range(3000):
        weights -= rate * (gram @ weights - cross + penalty * weights)
    expected = (DATA.texts.double() - texts.mean(dim=0)) @ weights + images.mean(dim=0)
    torch.testing.assert_close(method.map_texts(DATA.texts).double(), expected, atol=1e-4, rtol=1e-5)


def test_a_perfect_denoiser_returns_the_data():
    clean = F.normalize(torch.randn(7, 12, generator=torch.Generator().manual_seed(3)), dim=-1)
    for entry in (1, 5, 600, STEPS - 1):
        start = torch.randn(clean.shape, generator=torch.Generator().manual_seed(entry))
        torch.testing.assert_close(ddim(lambda noisy, step: clean, start, SHARES, entry=entry, count=5), clean)


def test_sampling_follows_the_noise_that_the_denoiser_implies():
    """After the first step, noise and signal stand in the shares of the next step, by the formula of DDIM."""
    clean, start = torch.zeros(1, 4), torch.full((1, 4), 2.0)
    seen = []

    def denoiser(noisy, step):
        seen.append((int(step[0]), noisy))
        return clean

    ddim(denoiser, start, SHARES, entry=600, count=3)
    shares = SHARES
    assert [step for step, _ in seen] == [600, 400, 200]
    for (before, noisy), (after, next_noisy) in itertools.pairwise(seen):
        expected = noisy / (1 - shares[before]).sqrt() * (1 - shares[after]).sqrt()
        torch.testing.assert_close(next_noisy, expected)


def test_signal_shares_are_the_products_of_the_schedule():
    shares, product = SHARES, 1.0
    for step in range(STEPS):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / (STEPS - 1))
        if step in (0, 600, STEPS - 1):
            assert float(shares[step]) == pytest.approx(product, rel=1e-4)


@pytest.mark.parametrize("name", ASKING_METHODS)
def test_the_gap_is_narrower_and_labels_stay_apart(fitted, name: str):
    labels = OF_IMAGE.tolist(), OF_TEXT.tolist()
    before = measure_gap(DATA.images, DATA.texts, *labels)
    after = measure_gap(DATA.images, fitted[name].map_texts(DATA.texts), *labels)
    assert after.centroid_distance < 0.5 * before.centroid_distance
    assert after.text_recall >= max(before.text_recall, 0.95)


def test_dropout_keeps_the_mean_and_leaves_out_the_rate():
    method = fit_method("dropout", DATA, rate=0.75)
    queries = torch.ones(200, 100)
    changed = method.perturb(queries, torch.Generator().manual_seed(0))
    assert set(changed.unique().tolist()) == {0.0, 4.0}
    assert float((changed == 0).float().mean()) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("name", ["noise", "centred_noise"])
def test_noise_has_its_variance_on_unit_vectors(fitted, name: str):
    method = fitted[name]
    images = method.map_images(DATA.images)
    norm = images.norm(dim=-1).mean()
    zeros = torch.zeros(4000, images.shape[1])
    noise = method.perturb(zeros, torch.Generator().manual_seed(0)) / norm
    assert float(noise.var()) == pytest.approx(0.016, rel=0.03)


def test_centred_noise_removes_both_means(fitted):
    method = fitted["centred_noise"]
    for mapped, raw, mean in (
        (method.map_images(DATA.images), DATA.images, DATA.images.mean(dim=0)),
        (method.map_texts(DATA.texts), DATA.texts, DATA.texts.mean(dim=0)),
    ):
        cosines = F.cosine_similarity(mapped, raw - mean, dim=-1)
        torch.testing.assert_close(cosines, torch.ones(len(cosines)))
    assert float(method.map_texts(DATA.texts).norm(dim=-1).std()) < 1e-5


def test_mixup_blends_a_query_with_its_own_text(fitted):
    queries, texts = torch.zeros(50, 2, 4), torch.ones(50, 2, 4)
    mixed = fitted["mixup"].perturb(queries, torch.Generator().manual_seed(0), texts)
    assert torch.equal(mixed, mixed[..., :1].expand_as(mixed))
    assert 0.4 < float(mixed.mean()) < 0.6
    assert float(mixed.std()) > 0.2


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_saved_whole(fitted, tmp_path, name: str):
    method = fitted[name]
    save_method(method, tmp_path / "gap" / f"{name}.safetensors")
    read = load_method(tmp_path / "gap" / f"{name}.safetensors", encoder="encoder-a")
    assert (read.name, read.options, read.hash) == (name, method.options, method.hash)
    assert torch.equal(read.map_texts(DATA.texts), method.map_texts(DATA.texts))
    assert torch.equal(read.map_images(DATA.images), method.map_images(DATA.images))


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_method(fitted, name: str):
    assert fit_method(name, DATA, **OPTIONS.get(name, {})).hash == fitted[name].hash


def test_a_method_of_another_encoder_is_refused(fitted, tmp_path):
    save_method(fitted["mean_shift"], tmp_path / "m.safetensors")
    with pytest.raises(GapError, match=r"another encoder .*fit the method to a corpus of this encoder"):
        load_method(tmp_path / "m.safetensors", encoder="encoder-b")


def test_a_damaged_file_is_refused_in_one_sentence(fitted, tmp_path):
    path = tmp_path / "m.safetensors"
    save_method(fitted["mean_shift"], path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(GapError, match="do not match their hash"):
        load_method(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(GapError, match="not a gap method"):
        load_method(path)
    with pytest.raises(GapError, match=r"cannot read .*No such file"):
        load_method(tmp_path / "none.safetensors")


def test_unknown_names_and_options_are_refused():
    with pytest.raises(GapError, match="there is no gap method 'magic'; there are mean_shift, "):
        fit_method("magic", DATA)
    with pytest.raises(GapError, match="has no option rat; it has rate"):
        fit_method("dropout", DATA, rat=0.5)


def test_missing_data_are_named():
    unpaired = GapData.unpaired(DATA.images, DATA.texts, "e")
    with pytest.raises(GapError, match="ridge is fitted to pairs, and there are none; give clips labels or captions"):
        fit_method("ridge", unpaired)
    with pytest.raises(GapError, match="mean_shift is fitted to texts"):
        fit_method("mean_shift", GapData.unpaired(DATA.images, DATA.texts[:0], "e"))
    with pytest.raises(GapError, match="16 dimensions and texts 3"):
        GapData.unpaired(DATA.images, torch.zeros(5, 3), "e")
    with pytest.raises(GapError, match="must be finite"):
        GapData.unpaired(DATA.images * math.nan, DATA.texts, "e")
