import math

import pytest
import torch

from vidaudio.separation import binary_targets, make_example, mix_sources, pixel_weights, weighted_mask_loss


@pytest.mark.parametrize("count", [2, 3])
def test_target_is_one_where_a_source_has_more_than_half_of_the_mixture(count):
    sources, mixture = torch.rand(2, count, 4, 5), torch.rand(2, 4, 5)
    targets = binary_targets(sources, mixture)
    for b, n, h, w in torch.cartesian_prod(*[torch.arange(size) for size in (2, count, 4, 5)]).tolist():
        assert targets[b, n, h, w].item() == float(sources[b, n, h, w] > 0.5 * mixture[b, h, w])


def test_both_sources_of_a_pixel_may_be_targets_or_neither():
    targets = binary_targets(torch.tensor([[[[0.6, 0.1]], [[0.7, 0.2]]]]), torch.tensor([[[1.0, 1.0]]]))
    assert targets.flatten().tolist() == [1, 0, 1, 0]


def test_weight_is_the_clamped_log():
    magnitudes = [0.0, 1e-4, 0.5, 3.0, 1e6]
    expected = [min(max(math.log(1 + magnitude), 1e-3), 10) for magnitude in magnitudes]
    assert pixel_weights(torch.tensor(magnitudes)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3])
def test_loss_is_the_mean_over_sources_of_the_mean_weighted_cross_entropy(count):
    logits = torch.randn(2, count, 4, 5) * 3
    targets, weights = torch.rand(2, count, 4, 5).round(), torch.rand(2, 4, 5) * 9
    per_source = []
    for n in range(count):
        terms = []
        for b, h, w in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
            p, t = 1 / (1 + math.exp(-logits[b, n, h, w].item())), targets[b, n, h, w].item()
            terms.append(weights[b, h, w].item() * -(t * math.log(p) + (1 - t) * math.log(1 - p)))
        per_source.append(sum(terms) / len(terms))
    assert weighted_mask_loss(logits, targets, weights).item() == pytest.approx(sum(per_source) / count, rel=1e-5)


def test_loss_is_finite_where_the_probability_is_not_distinguishable_from_0_or_1():
    logits = torch.tensor([[[[200.0, -200.0]]]], requires_grad=True)
    loss = weighted_mask_loss(logits, torch.tensor([[[[0.0, 1.0]]]]), torch.ones(1, 1, 2))
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert logits.grad.flatten().tolist() == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize("count", [2, 3])
def test_example_is_made_of_the_warped_mixture_and_sources(small_front_end, count):
    audio = torch.randint(-20000, 20000, (2, count, 4095), dtype=torch.int16)
    gains = torch.rand(2, count) + 0.5
    example = make_example(small_front_end, audio, gains)
    sources, mixture = mix_sources(audio, gains)
    magnitude = small_front_end.to_log(small_front_end.stft(mixture).abs() + 1e-10)
    warped = small_front_end.to_log(small_front_end.stft(sources).abs())
    torch.testing.assert_close(example.log_magnitude, magnitude.log()[:, None], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(example.weights, magnitude.log1p().clamp(1e-3, 10))
    assert (example.targets == (warped > 0.5 * magnitude[:, None])).float().mean() > 0.999
    assert not example.log_magnitude.requires_grad


def test_silence_makes_a_finite_example(small_front_end):
    example = make_example(small_front_end, torch.zeros(1, 2, 4095, dtype=torch.int16))
    assert torch.allclose(example.log_magnitude, torch.tensor(1e-10).log())
    assert (example.targets == 0).all()


def test_another_number_of_samples_is_refused(small_front_end):
    with pytest.raises(ValueError, match="4095"):
        make_example(small_front_end, torch.zeros(1, 2, 4096))
