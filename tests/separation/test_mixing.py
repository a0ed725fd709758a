import pytest
import torch

from vidaudio.separation import mix_sources


@pytest.mark.parametrize("count", [2, 3])
def test_int16_is_scaled_gained_clipped_divided_and_summed(count):
    audio = torch.randint(-32768, 32768, (2, count, 50), dtype=torch.int16)
    gains = torch.rand(2, count) + 0.5
    sources, mixture = mix_sources(audio, gains)
    for b in range(2):
        for t in range(50):
            total = 0.0
            for n in range(count):
                value = max(-1.0, min(1.0, audio[b, n, t].item() / 32768 * gains[b, n].item())) / count
                assert sources[b, n, t].item() == pytest.approx(value, abs=1e-6)
                total += value
            assert mixture[b, t].item() == pytest.approx(total, abs=1e-6)


def test_floats_without_gains_are_only_clipped_and_divided():
    audio = torch.tensor([[[0.5, -2.0], [0.25, 1.0]]], dtype=torch.float64)
    sources, mixture = mix_sources(audio)
    assert sources.dtype == torch.float32
    torch.testing.assert_close(sources, torch.tensor([[[0.25, -0.5], [0.125, 0.5]]]))
    torch.testing.assert_close(mixture, torch.tensor([[0.375, 0.0]]))


@pytest.mark.parametrize(
    ("audio", "gains", "named"),
    [
        (torch.zeros(2, 5), None, "sources, samples"),
        (torch.zeros(1, 2, 5, dtype=torch.int32), None, "int32"),
        (torch.zeros(1, 2, 5), torch.ones(2), "gains"),
    ],
)
def test_other_shapes_and_types_are_refused(audio, gains, named):
    with pytest.raises(ValueError, match=named):
        mix_sources(audio, gains)
