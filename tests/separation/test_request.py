"""Requests: several sounds together, everything but some; and systems that put out all sources of long sounds."""

from __future__ import annotations

import itertools

import pytest
import torch

from vidaudio.separation import (
    PermutationSeparator,
    RankedSeparator,
    Request,
    SeparatorConfig,
    candidate_masks,
    request_mask,
    separate_all_long,
    separate_long,
)


@pytest.fixture
def model(small_model):
    for name, parameter in small_model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return small_model.eval()


def test_a_request_is_the_largest_wanted_mask_times_what_the_unwanted_leave(model):
    spectrum = model.front_end.stft(torch.rand(2, 4095) - 0.5)
    queries = torch.randn(4, 6)
    one = [model.mask(spectrum, query.expand(2, -1)) for query in queries]
    expected = torch.maximum(one[0], one[1]) * (1 - one[2]) * (1 - one[3])
    torch.testing.assert_close(request_mask(model, spectrum, Request(queries[:2], queries[2:])), expected)
    binary = request_mask(model, spectrum, Request(queries[:2], queries[2:]), threshold=0.2)
    assert torch.equal(binary, (expected > 0.2).float())


def test_everything_but_a_sound_and_the_sound_are_the_mixture(model):
    mixture, query = torch.rand(2, 9000) - 0.5, torch.randn(6)
    sound = separate_long(model, mixture, query)
    rest = separate_long(model, mixture, Request(query[None][:0], query[None]))
    torch.testing.assert_close(sound + rest, mixture, atol=1e-4, rtol=0)


def test_a_request_of_nothing_is_refused():
    with pytest.raises(ValueError, match="needs a query"):
        Request(torch.zeros(0, 6), torch.zeros(0, 6))


def test_candidates_are_the_complement_of_the_first_all_heads_or_the_first():
    masks = torch.rand(2, 3, 4, 5)
    assert torch.equal(candidate_masks(masks, "complement"), torch.stack([masks[:, 0], 1 - masks[:, 0]], dim=1))
    assert torch.equal(candidate_masks(masks, "heads"), masks)
    assert torch.equal(candidate_masks(masks, "first"), masks[:, :1])
    with pytest.raises(ValueError, match="complement, heads, first"):
        candidate_masks(masks, "best")


class Swapping(PermutationSeparator):
    """Two heads, of the low and the high bins, that change places from window to window."""

    calls = itertools.count()

    def masks(self, spectrum, queries=None):
        low = torch.zeros(len(spectrum), *spectrum.shape[1:])
        low[:, : spectrum.shape[1] // 4] = 1
        both = torch.stack([low, 1 - low], dim=1)
        for window in range(len(both)):
            if next(self.calls) % 2:
                both[window] = both[window].flip(0)
        return both


def test_heads_that_change_places_between_windows_are_put_in_order(small_model):
    config = small_model.config
    model = Swapping(SeparatorConfig(query="none", front_end=config.front_end, unet=config.unet)).eval()
    time = torch.arange(30_000) / 16_000
    low, high = 0.3 * torch.sin(2 * torch.pi * 300 * time), 0.3 * torch.sin(2 * torch.pi * 5000 * time)
    separated = separate_all_long(model, (low + high)[None], batch_size=3)
    assert separated.shape == (2, 1, 30_000)
    torch.testing.assert_close(separated[0, 0, 500:-500], low[500:-500], atol=0.01, rtol=0)
    torch.testing.assert_close(separated[1, 0, 500:-500], high[500:-500], atol=0.01, rtol=0)


class SwappingRanked(RankedSeparator):
    """The heads of `Swapping`, in places that the sound of a window decides, so that they are the same in each pass."""

    def soft_masks(self, spectrum, queries=None):
        low = torch.zeros(len(spectrum), *spectrum.shape[1:])
        low[:, : spectrum.shape[1] // 4] = 1
        swapped = (spectrum.abs().sum(dim=(1, 2)) * 1000).long() % 2 == 1
        return torch.where(swapped[:, None, None, None], torch.stack([1 - low, low], 1), torch.stack([low, 1 - low], 1))


class Mistaken:
    """An encoder of low and high sound that takes one for the other in every third sound."""

    def __init__(self) -> None:
        self.heard = itertools.count()

    def embed_sound(self, sound, sample_rate):
        power = torch.fft.rfft(sound).abs().square()
        low = power[:, : power.shape[1] // 4].sum(dim=1) / power.sum(dim=1)
        vectors = torch.stack([low, 1 - low], dim=1)
        for window in range(0, len(vectors), 2):
            if next(self.heard) % 3 == 0:
                vectors[window : window + 2] = vectors[window : window + 2].flip(1)
        return torch.nn.functional.normalize(vectors, dim=1)


def test_a_query_gets_one_ranked_head_over_the_whole_sound(small_model):
    config = small_model.config
    model = SwappingRanked(SeparatorConfig(query="ranked", front_end=config.front_end, unet=config.unet)).eval()
    model.rank_by(Mistaken())
    time = torch.arange(30_000) / 16_000
    swell = 0.2 + 0.1 * torch.sin(2 * torch.pi * 3 * time)
    low, high = swell * torch.sin(2 * torch.pi * 300 * time), swell * torch.sin(2 * torch.pi * 5000 * time)
    mixture, seen = (low + high)[None], []
    heads = model.soft_masks(model.front_end.stft(mixture[0].unfold(0, config.front_end.window_samples, 2000)))
    assert {bool(each[0, 0, 0]) for each in heads} == {False, True}
    for query, wanted in (([1.0, 0.0], low), ([0.0, 1.0], high)):
        asked = torch.tensor(query)
        found = separate_long(model, mixture, asked, batch_size=3, progress=lambda *done: seen.append(done))
        torch.testing.assert_close(found[0, 500:-500], wanted[500:-500], atol=0.02, rtol=0)
        rest = separate_long(model, mixture, Request(asked[None][:0], asked[None]), batch_size=3)
        torch.testing.assert_close(found + rest, mixture, atol=1e-4, rtol=0)
    totals = {total for _, total in seen}
    assert len(totals) == 1
    assert seen[-1] == (totals.pop(),) * 2


def test_ranked_heads_are_chosen_anew_after_a_pause(small_model):
    class Right(Mistaken):
        def __init__(self) -> None:
            self.heard = itertools.repeat(1)

    config = small_model.config
    model = SwappingRanked(SeparatorConfig(query="ranked", front_end=config.front_end, unet=config.unet)).eval()
    model.rank_by(Right())
    time = torch.arange(60_000) / 16_000
    swell = 0.2 + 0.1 * torch.sin(2 * torch.pi * 3 * time)
    swell[20_000:40_000] = 0
    low, high = swell * torch.sin(2 * torch.pi * 300 * time), swell * torch.sin(2 * torch.pi * 5000 * time)
    for shift in range(0, 8000, 1000):
        # Which places the heads have after the pause differs with where the windows lie.
        found = separate_long(model, (low + high)[None, shift:], torch.tensor([1.0, 0.0]), batch_size=3)
        torch.testing.assert_close(found[0, 500:-500], low[shift + 500 : -500], atol=0.05, rtol=0)
