import pytest
import torch

from vidaudio.separation import (
    FixedFilters,
    ideal_binary_mask,
    ideal_ratio_mask,
    image_sdr,
    make_example,
    mix_sources,
    separate_with_mask,
)


@pytest.mark.parametrize("count", [2, 3])
def test_the_ideal_binary_mask_is_the_training_target(small_front_end, count):
    audio = torch.rand(2, count, 4095) * 2 - 1
    sources, _ = mix_sources(audio)
    mask = ideal_binary_mask(small_front_end, sources)
    assert (mask == make_example(small_front_end, audio).targets).float().mean() > 0.999


def test_ideal_ratio_masks_are_shares(small_front_end):
    sources = torch.rand(2, 3, 4095) - 0.5
    masks = ideal_ratio_mask(small_front_end, sources)
    magnitudes = small_front_end.to_log(small_front_end.stft(sources).abs())
    torch.testing.assert_close(masks, magnitudes / magnitudes.sum(dim=1, keepdim=True))
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(2, 32, 32))


def test_ideal_masks_separate_tones(small_front_end, tones):
    sources, mixture = mix_sources(tones)
    samples = small_front_end.config.output_samples
    before = image_sdr(sources[0, 0, :samples], mixture[0, :samples])
    for ideal in (ideal_binary_mask, ideal_ratio_mask):
        estimate = separate_with_mask(small_front_end, mixture, ideal(small_front_end, sources)[:, 0])
        assert estimate.shape == (1, samples)
        assert image_sdr(sources[0, 0, :samples], estimate[0]) > before + 12


@pytest.mark.parametrize(("kind", "ideal"), [("binary", ideal_binary_mask), ("ratio", ideal_ratio_mask)])
def test_fixed_filters_are_the_mean_ideal_masks_of_a_kind(small_front_end, kind, ideal):
    batches = [(torch.rand(2, 2, 4095) - 0.5, [["dog", "cat"], ["bell", "dog"]]) for _ in range(2)]
    filters = FixedFilters(small_front_end, kind).fit(batches)
    masks = [ideal(small_front_end, sources) for sources, _ in batches]
    dogs = torch.stack([mask[b, n] for mask in masks for b, n in ((0, 0), (1, 1))])
    torch.testing.assert_close(filters.mask("dog"), dogs.mean(dim=(0, 2))[:, None])
    assert filters.labels == {"dog", "cat", "bell"}


def test_no_gain_per_row_leaves_less_error_than_the_wiener_filter(small_front_end):
    sources = torch.randn(4, 2, 4095) * torch.tensor([0.2, 0.1])[None, :, None]
    gains = FixedFilters(small_front_end, "wiener").fit([(sources, [["a", "b"]] * 4)]).mask("a")
    assert gains.shape == (32, 1)
    assert gains[2:-2].mean().item() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("kind", ["binary", "ratio", "wiener"])
def test_a_fixed_filter_separates_what_an_equaliser_can(small_front_end, tones, kind):
    sources, mixture = mix_sources(tones)
    filters = FixedFilters(small_front_end, kind).fit([(sources, [["low", "high"]])])
    estimate = separate_with_mask(small_front_end, mixture, filters.mask("low").expand(1, 32, 32))
    assert image_sdr(sources[0, 0, : estimate.shape[1]], estimate[0]) > 12


def test_silent_rows_do_not_count(small_front_end, tones):
    sources, _ = mix_sources(tones)
    silence = torch.zeros_like(sources)
    once = FixedFilters(small_front_end).fit([(sources, [["low", "high"]])])
    diluted = FixedFilters(small_front_end).fit([(sources, [["low", "high"]]), (silence, [["low", "high"]])])
    torch.testing.assert_close(diluted.mask("low"), once.mask("low"))


def test_unknown_kinds_and_wrong_labels_are_refused(small_front_end):
    filters = FixedFilters(small_front_end)
    with pytest.raises(KeyError, match="dog"):
        filters.mask("dog")
    with pytest.raises(ValueError, match="rows"):
        filters.fit([(torch.zeros(2, 2, 4095), [["a", "b"]])])
    with pytest.raises(ValueError, match="median"):
        FixedFilters(small_front_end, "median")
