import itertools

import pytest
import torch

from vidaudio.separation import FrontEndConfig, QuerySeparator, SeparatorConfig, UNetConfig, separate_long
from vidaudio.separation.overlap_add import crossfade, window_starts


class PassThrough(QuerySeparator):
    """A mask of ones, or of a given gain."""

    gain = 1.0

    def masks(self, spectrum, queries=None):
        return torch.full((len(spectrum), queries.shape[1], *spectrum.shape[1:]), self.gain)


@pytest.fixture(params=[FrontEndConfig(), FrontEndConfig(hop=512, frames=128, log_rows=128)], ids=["full", "demo"])
def pass_through(request) -> QuerySeparator:
    return PassThrough(SeparatorConfig(query_dimensions=4, front_end=request.param, unet=UNetConfig(width=1))).eval()


@pytest.mark.parametrize("samples", [1, 2, 257, 16000, 65024, 65280, 65281, 65535, 65536, 130560, 320000])
def test_a_mask_of_ones_gives_back_the_sound(pass_through, samples):
    mixture = torch.rand(2, samples) * 2 - 1
    output = separate_long(pass_through, mixture, torch.zeros(4), batch_size=3)
    assert output.shape == mixture.shape
    torch.testing.assert_close(output, mixture, atol=1e-4, rtol=0)


def test_a_mask_of_a_half_halves_every_channel(pass_through):
    pass_through.gain = 0.5
    mixture = torch.rand(3, 70000) * 2 - 1
    torch.testing.assert_close(separate_long(pass_through, mixture, torch.zeros(4)), mixture / 2, atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 149, 150, 151, 1234])
def test_windows_cover_the_sound_and_overlap_by_half_at_least(samples):
    starts = window_starts(samples, 100)
    assert starts[0] == 0
    assert max(0, samples - 100) == starts[-1]
    assert all(0 < later - earlier <= 50 for earlier, later in itertools.pairwise(starts))


def test_weights_fall_towards_the_edges_of_a_window_and_are_never_zero():
    fade = crossfade(65280)
    assert (fade > 0).all()
    assert fade[32640] == fade.max()
    assert fade[[0, -1]].max() < 1e-8
    torch.testing.assert_close(fade[:32640] + fade[32640:], torch.ones(32640))


def test_the_mask_comes_from_the_mean_of_the_channels(small_model):
    model = small_model.eval()
    left, right = torch.rand(2, 9000) - 0.5
    query = torch.randn(6)
    stereo = separate_long(model, torch.stack([left, right]), query)
    mono = separate_long(model, ((left + right) / 2)[None], query)
    torch.testing.assert_close(stereo.mean(dim=0, keepdim=True), mono, atol=1e-5, rtol=0)


def test_the_number_of_windows_at_a_time_changes_nothing(small_model):
    model, mixture, query = small_model.eval(), torch.rand(1, 20000) - 0.5, torch.randn(6)
    torch.testing.assert_close(
        separate_long(model, mixture, query, batch_size=1), separate_long(model, mixture, query, batch_size=100)
    )


def test_a_sound_of_one_window_comes_out_as_separate_has_it(small_model):
    model, query = small_model.eval(), torch.randn(6)
    mixture = torch.nn.functional.pad(torch.rand(1, 31 * 128) - 0.5, (0, 127))
    expected = model.separate(mixture, query[None])
    torch.testing.assert_close(separate_long(model, mixture[:, : 31 * 128], query), expected)


@pytest.mark.parametrize("shape", [(0, 100), (1, 0), (100,)])
def test_an_empty_mixture_is_refused(small_model, shape):
    with pytest.raises(ValueError, match="channels, samples"):
        separate_long(small_model, torch.zeros(shape), torch.zeros(6))
