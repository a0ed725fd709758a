import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from vidaudio.separation import (
    fast_scores,
    image_sdr,
    is_scorable,
    mixture_scores,
    museval_scores,
    score_many,
    summarise,
)
from vidaudio.separation.sdr import si_sdr

LENGTH = 8000


def noise(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(size=(count, LENGTH)) * 0.1


def harmonic(rng: np.random.Generator, count: int) -> np.ndarray:
    """Instrument-like tones that share half of their partials, with the noise floor of 16-bit samples."""
    time = np.arange(LENGTH) / 16000
    tones = [sum(np.sin(2 * np.pi * 220 * (n + 1) * k * time + k) / k for k in range(1, 9)) for n in range(count)]
    return np.round(np.stack(tones) * 0.2 * 32768) / 32768


def estimates_of(references: np.ndarray, rng: np.random.Generator, leak: float) -> np.ndarray:
    return references + leak * np.roll(references, 1, axis=0) + 0.005 * rng.normal(size=references.shape)


@pytest.mark.parametrize("make", [noise, harmonic])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("leak", [0.5, 0.02])
def test_fast_scores_equal_museval(make, count, leak):
    rng = np.random.default_rng(count)
    references = make(rng, count)
    estimates = estimates_of(references, rng, leak)
    expected = museval_scores(references, estimates)
    result = fast_scores(torch.from_numpy(references)[None], torch.from_numpy(estimates)[None, :1])
    for name in ("sdr", "sir", "sar", "si_sdr"):
        assert result[name].item() == pytest.approx(expected[name], abs=1e-3), name


def test_fast_scores_of_many_mixtures_and_estimates_equal_those_of_each():
    rng = np.random.default_rng(0)
    references = torch.from_numpy(rng.normal(size=(2, 2, LENGTH)))
    estimates = references[:, :1] + torch.from_numpy(rng.normal(size=(2, 3, LENGTH)))
    together = fast_scores(references, estimates, taps=64)
    for b in range(2):
        for m in range(3):
            alone = fast_scores(references[b : b + 1], estimates[b : b + 1, m : m + 1], taps=64)
            for name, value in alone.items():
                assert together[name][b, m].item() == pytest.approx(value.item(), abs=1e-6)


def test_scores_are_the_same_after_the_number_of_threads_was_set():
    rng = np.random.default_rng(4)
    references = torch.from_numpy(rng.standard_normal((3, 2, 4_000)))
    estimates = references + 0.1 * torch.from_numpy(rng.standard_normal((3, 2, 4_000)))
    torch.set_num_threads(2)
    several = fast_scores(references, estimates)
    torch.set_num_threads(1)
    one = fast_scores(references, estimates)
    np.testing.assert_allclose(several["sdr"], one["sdr"], atol=1e-6)


def test_image_sdr_needs_no_filters_to_equal_museval():
    rng = np.random.default_rng(1)
    references = noise(rng, 2)
    estimates = estimates_of(references, rng, 0.3)
    result = image_sdr(torch.from_numpy(references[0]), torch.from_numpy(estimates[0]))
    assert result.item() == pytest.approx(museval_scores(references, estimates)["sdr"], abs=1e-9)


def test_si_sdr_does_not_hear_how_loud_an_estimate_is():
    rng = np.random.default_rng(8)
    reference, noise_of_it = noise(rng, 2)
    # Noise without anything of the reference in it: the ratio of energies is the score.
    noise_of_it -= noise_of_it @ reference / (reference @ reference) * reference
    expected = 10 * np.log10((reference**2).sum() / (noise_of_it**2).sum())
    for gain in (1.0, 0.01, -3.0):
        assert si_sdr(reference, gain * (reference + noise_of_it)) == pytest.approx(expected)
    assert si_sdr(reference, reference) > 200
    assert si_sdr(reference, noise_of_it) < -200


def test_scores_are_those_of_the_target_alone():
    rng = np.random.default_rng(2)
    references = noise(rng, 2)
    estimates = estimates_of(references, rng, 0.3)
    spoiled = np.stack([estimates[0], rng.normal(size=LENGTH)])
    assert museval_scores(references, spoiled) == museval_scores(references, estimates)


def test_mixture_scores_take_the_mixture_for_every_source():
    references = noise(np.random.default_rng(3), 2)
    mixture = references.sum(axis=0)
    scores = mixture_scores(references, mixture)
    assert scores == museval_scores(references, np.stack([mixture, mixture]))
    assert scores["sdr"] == pytest.approx(10 * np.log10((references[0] ** 2).sum() / (references[1] ** 2).sum()))


@pytest.mark.parametrize("silent", ["reference", "estimate"])
def test_silence_is_skipped_and_never_scored(silent):
    references = noise(np.random.default_rng(4), 2)
    estimates = references * 0.9
    (references if silent == "reference" else estimates)[0] = 1e-5 / LENGTH / 2
    assert not is_scorable(references, estimates)
    assert museval_scores(references, estimates) is None
    result = fast_scores(torch.from_numpy(references)[None], torch.from_numpy(estimates)[None, :1])
    assert all(math.isnan(value.item()) for value in result.values())
    assert math.isnan(image_sdr(torch.from_numpy(references[0]), torch.from_numpy(estimates[0])).item())


def test_partly_silent_references_are_scored_like_musevals():
    rng = np.random.default_rng(5)
    references = noise(rng, 2)
    references[0, : LENGTH // 2] = 0
    references[1, LENGTH // 2 :] = 0
    estimates = estimates_of(references, rng, 0.3)
    expected = museval_scores(references, estimates)
    result = fast_scores(torch.from_numpy(references)[None], torch.from_numpy(estimates)[None, :1])
    assert {name: value.item() for name, value in result.items()} == pytest.approx(expected, abs=1e-3)


def test_equal_references_make_a_singular_system_that_is_still_scored():
    rng = np.random.default_rng(6)
    references = np.repeat(noise(rng, 1), 2, axis=0)
    result = fast_scores(torch.from_numpy(references)[None], torch.from_numpy(references + noise(rng, 2))[None, :1])
    assert result["sdr"].isfinite().all()


def test_summary_is_mean_standard_error_median_and_count():
    summary = summarise([1.0, 2.0, 6.0])
    assert (summary.mean, summary.median, summary.count) == (3.0, 2.0, 3)
    assert summary.standard_error == pytest.approx(math.sqrt(7) / math.sqrt(3))
    assert math.isnan(summarise([4.0]).standard_error)
    assert math.isnan(summarise([]).mean)


def test_a_pool_scores_in_order_and_draws_items_only_as_it_needs_them():
    rng = np.random.default_rng(7)
    items = [(references, estimates_of(references, rng, 0.3)) for references in (noise(rng, 2) for _ in range(7))]
    items[2] = (items[2][0] * 0, items[2][1])
    drawn, ahead, done = 0, [], []

    def draw():
        nonlocal drawn
        for item in items:
            drawn += 1
            ahead.append(drawn - len(done))
            yield item

    scores = score_many(draw(), 2, progress=done.append)
    assert done == [1, 2, 3, 4, 5, 6, 7]
    assert max(ahead) <= 4
    assert scores[2] is None
    alone = score_many(items, 1)
    assert alone[2] is None
    for pooled, single in zip(scores, alone, strict=True):
        assert (pooled is None) == (single is None)
        if pooled is not None:
            assert pooled == pytest.approx(single, abs=1e-6)


def test_workers_load_no_pytorch():
    code = (
        "import sys, vidaudio.separation.scoring as scoring; assert 'numpy' not in sys.modules;"
        "import vidaudio.separation.sdr; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="sources, samples"):
        museval_scores(np.ones((2, 5)), np.ones((1, 5)))
    with pytest.raises(ValueError, match="mixtures, estimates, samples"):
        fast_scores(torch.ones(1, 2, 5), torch.ones(1, 1, 6))
    with pytest.raises(ValueError, match="processes"):
        score_many([], 0)
