"""Mixtures of parts, their losses against slow formulas, and the contrast with texts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from vidaudio.separation import (
    FrontEnd,
    FrontEndConfig,
    assignment_reconstruction_losses,
    consistency_losses,
    contrastive_losses,
    make_parts,
    mix_sources,
    pack_text,
    reconstruction_losses,
    unpack_text,
)

FRONT_END = FrontEndConfig(n_fft=126, hop=63, window_samples=2015, log_rows=64, frames=32, frequencies="linear")


@pytest.fixture
def sounds() -> torch.Tensor:
    return 0.4 * torch.randn(3, 2, 2, 2015, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)


def weight(magnitude: float) -> float:
    return min(max(math.log1p(magnitude), 1e-3), 10.0)


def magnitudes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def test_parts_add_up_to_their_mixture_and_sources_to_their_part(sounds: torch.Tensor):
    front_end = FrontEnd(FRONT_END)
    gains = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(1)) + 0.5
    example = make_parts(front_end, sounds, gains)
    scaled = (sounds * gains[..., None]).clamp(-1, 1) / 4
    for n in (0, 1):
        direct = front_end.stft(scaled[:, n].sum(1)).abs()
        torch.testing.assert_close(example.parts[:, n], direct, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(example.spectrum, front_end.stft(scaled.sum((1, 2))), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(example.magnitude, example.spectrum.abs())
    # One source a part: what CLIPSep mixes.
    alone = make_parts(front_end, sounds[:, :, :1])
    sources, mixture = mix_sources(sounds[:, :, 0])
    torch.testing.assert_close(alone.parts, front_end.stft(sources).abs())
    torch.testing.assert_close(alone.spectrum, front_end.stft(mixture))


def test_released_targets_are_k_times_too_quiet(sounds: torch.Tensor):
    front_end = FrontEnd(FRONT_END)
    right, released = (make_parts(front_end, sounds, target_scale=scale) for scale in ("right", "released"))
    torch.testing.assert_close(released.parts, right.parts / 2)
    torch.testing.assert_close(released.spectrum, right.spectrum)


def test_mixtures_of_single_sounds_have_their_first_sources_alone(sounds: torch.Tensor):
    front_end = FrontEnd(FRONT_END)
    is_single = torch.tensor([False, True, False])
    for scale in ("right", "released"):
        mixed = make_parts(front_end, sounds, is_single=is_single, target_scale=scale)
        plain = make_parts(front_end, sounds, target_scale=scale)
        alone = make_parts(front_end, sounds[:, :, :1])
        for name in ("spectrum", "magnitude", "parts"):
            found, single, whole = (getattr(each, name) for each in (mixed, alone, plain))
            torch.testing.assert_close(found[1], single[1], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found[[0, 2]], whole[[0, 2]])


def test_linear_frequencies_are_the_bins_as_they_are():
    front_end = FrontEnd(FRONT_END)
    picture = magnitudes(2, 64, 32)
    assert torch.equal(front_end.to_log(picture), picture)
    assert torch.equal(front_end.to_linear(picture), picture)


def test_reconstruction_is_the_slow_formula():
    predicted, targets, mixture = magnitudes(2, 3, 4, 5), magnitudes(2, 3, 4, 5, seed=1), magnitudes(2, 4, 5, seed=2)
    weights = torch.log1p(mixture).clamp(1e-3, 10)
    for over, divisor in (("sum", 1), ("mean", 3)):
        found = reconstruction_losses(predicted, targets, weights, over)
        for b in range(2):
            slow = 0.0
            for n, f, t in itertools.product(range(3), range(4), range(5)):
                error = abs(float(predicted[b, n, f, t]) - float(targets[b, n, f, t]))
                slow += weight(float(mixture[b, f, t])) * error / 20
            assert float(found[b]) == pytest.approx(slow / divisor, rel=1e-5)


def test_consistency_is_the_slow_formula():
    predicted, targets, shares = magnitudes(2, 2, 3, 4, 5), magnitudes(2, 2, 4, 5, seed=1), magnitudes(2, 2, 3, seed=2)
    found = consistency_losses(predicted, targets, shares)
    for b in range(2):
        slow = 0.0
        for n, f, t in itertools.product(range(2), range(4), range(5)):
            total = sum(float(shares[b, n, k]) * float(predicted[b, n, k, f, t]) for k in range(3))
            target = float(targets[b, n, f, t])
            slow += weight(target) * abs(total - target) / 20
        assert float(found[b]) == pytest.approx(slow, rel=1e-5)
    plain = consistency_losses(predicted, targets)
    torch.testing.assert_close(plain, consistency_losses(predicted, targets, torch.ones(2, 2, 3)))
    # The true sources of parts whose sources are in phase.
    assert consistency_losses(predicted, predicted.sum(2)).max() < 1e-6


def test_the_best_assignment_of_outputs_is_found():
    estimates, mixture = magnitudes(2, 4, 3, 5), magnitudes(2, 3, 5, seed=2)
    weights = torch.log1p(mixture).clamp(1e-3, 10)
    targets = torch.stack([estimates[:, [0, 3]].sum(1), estimates[:, [1, 2]].sum(1)], dim=1)
    assert assignment_reconstruction_losses(estimates, targets, weights).max() < 1e-6
    targets = magnitudes(2, 2, 3, 5, seed=3)
    slow = []
    for chosen in itertools.product((0, 1), repeat=4):
        sums = torch.zeros_like(targets)
        for output, owner in enumerate(chosen):
            sums[:, owner] += estimates[:, output]
        slow.append(((sums - targets).abs() * weights[:, None]).mean((-2, -1)).sum(1))
    torch.testing.assert_close(assignment_reconstruction_losses(estimates, targets, weights), torch.stack(slow).amin(0))


def unit(count: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=1, keepdim=True)


def slow_contrast(heard, texts, names, temperature, cap=None) -> list[float]:
    losses = []
    for m in range(len(heard)):
        own = temperature * min(float(heard[m] @ texts[m]), math.inf if cap is None else cap)
        terms = [own]
        for a in range(len(texts)):
            if a != m and (names is None or names[a] != names[m]):
                terms.append(temperature * float(heard[m] @ texts[a]))
        losses.append(math.log(sum(math.exp(term) for term in terms)) - own)
    return losses


def test_contrast_is_the_slow_formula():
    heard, texts = unit(5, 0), unit(5, 1)
    names = torch.tensor([0, 1, 0, 2, 1])
    plain = contrastive_losses(heard, texts, 7.0)
    np.testing.assert_allclose(plain, slow_contrast(heard, texts, None, 7.0), rtol=1e-5)
    masked = contrastive_losses(heard, texts, 7.0, names=names)
    np.testing.assert_allclose(masked, slow_contrast(heard, texts, names.tolist(), 7.0), rtol=1e-5)
    both = contrastive_losses(heard, texts, 7.0, both_directions=True)
    back = slow_contrast(texts, heard, None, 7.0)
    np.testing.assert_allclose(both, (plain.numpy() + back) / 2, rtol=1e-5)
    capped = contrastive_losses(heard, texts, 7.0, cap=-0.2)
    np.testing.assert_allclose(capped, slow_contrast(heard, texts, None, 7.0, -0.2), rtol=1e-5)


def test_contrast_with_other_ranks_is_that_of_all_together():
    heard, texts, names = unit(5, 0), unit(5, 1), torch.tensor([0, 1, 0, 2, 1])
    whole = contrastive_losses(heard, texts, 7.0, names=names, both_directions=True)
    parts = [
        contrastive_losses(
            heard[s], texts[s], 7.0, others=(heard, texts), first=s.start, names=names, both_directions=True
        )
        for s in (slice(0, 2), slice(2, 5))
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_sound_gains_nothing_above_the_cap():
    texts = unit(3, 1)
    heard = texts.clone().requires_grad_()
    contrastive_losses(heard, texts, 7.0, cap=0.9).sum().backward()
    # Only the negatives still push.
    own = (heard.grad * texts).sum(1)
    free = texts.clone().requires_grad_()
    contrastive_losses(free, texts, 7.0).sum().backward()
    assert (own > (free.grad * texts).sum(1)).all()


def test_text_states_are_unpacked_as_they_were_packed():
    for dimensions, width in ((6, 4), (3, 9)):
        vectors, states = torch.randn(2, 5, dimensions), torch.randn(2, 5, 7, width)
        packed = pack_text(vectors, states)
        assert packed.shape == (2, 5, 8, max(dimensions, width))
        for found, wanted in zip(unpack_text(packed, dimensions, width), (vectors, states), strict=True):
            assert torch.equal(found, wanted)
    with pytest.raises(ValueError, match="packed by pack_text"):
        unpack_text(torch.zeros(2, 5), 6, 4)
