"""Editing: strength between the sound itself and noise alone, and known frames that stay what they are."""

import math

import pytest
import torch

from tests.generation.test_denoiser import random_denoiser
from tests.generation.test_samplers import MODERN, SHAPE, gaussian_network, mel, oracle
from vidaudio.errors import UsageError
from vidaudio.generation import (
    Diffusion,
    DiffusionConfig,
    Edit,
    ExampleNoise,
    Flow,
    Guidance,
    MelConfig,
    SamplerConfig,
    blend,
    frames_of_spans,
    guided,
    sample,
    sample_edit,
)
from vidaudio.generation.editing import check_reach, edit_steps, first_level, noised_again
from vidaudio.generation.samplers import NoiseLevel, sampler_levels

CASES = [
    (Diffusion(DiffusionConfig(steps=400)), "ancestral"),
    (Diffusion(DiffusionConfig(steps=400)), "ddim"),
    (Diffusion(DiffusionConfig(steps=400)), "dpm-solver++"),
    (Diffusion(DiffusionConfig(steps=400)), "sde-dpm-solver++"),
    (Diffusion(MODERN), "dpm-solver++"),
    (Flow(), "euler"),
]
IDS = ["ancestral", "ddim", "dpm-solver++", "stochastic", "modern", "flow"]


def predictor(process: Diffusion | Flow, examples: int = 1):
    found = guided(random_denoiser(), torch.ones(examples, 6), Guidance())
    if isinstance(process, Diffusion) and process.config.learned_variance:
        return found
    return lambda noisy, times: found(noisy, times)[:, :1]


@pytest.mark.parametrize(("process", "name"), CASES, ids=IDS)
class TestEverySampler:
    def test_from_noise_alone_it_equals_the_plain_sampler(self, process, name):
        config, predict = SamplerConfig(name, 6), predictor(process)
        with torch.inference_mode():
            plain = sample(process, predict, ExampleNoise([3]), SHAPE, config)
            edited = sample_edit(process, predict, ExampleNoise([3]), Edit(mel()[0, 0]), config)
        assert torch.equal(plain, edited)

    def test_a_little_strength_gives_the_mel_back(self, process, name):
        own, config = mel()[0, 0], SamplerConfig(name, 100)
        predict = gaussian_network(process, 0.0, 0.5)
        distances = []
        for strength in (1e-4, 0.05, 0.3, 0.6, 1.0):
            found = sample_edit(process, predict, ExampleNoise([1]), Edit(own, strength), config)
            distances.append(float((found[0, 0] - own).square().mean().sqrt()))
        assert distances[0] < 0.02
        assert distances == sorted(distances)
        # Of two independent mels.
        assert distances[-1] > 0.6

    def test_strength_leaves_out_the_first_levels(self, process, name):
        config = SamplerConfig(name, 100)
        levels = sampler_levels(process, config)
        asked = []

        def predict(noisy, times):
            asked.append(float(times[0]))
            return oracle(process, mel()[:1])(noisy, times)

        sample_edit(process, predict, ExampleNoise([1]), Edit(mel()[0, 0], 0.3), config)
        assert max(asked) <= 300 < levels[len(levels) - 2 - len(asked)].time
        assert len(asked) == edit_steps(process, config, 0.3, 1)

    def test_kept_frames_are_the_mel_s_and_the_others_are_generated(self, process, name):
        own, other = mel()[0, 0], mel()[1:2]
        generated = torch.zeros(SHAPE[1], dtype=torch.bool)
        generated[4:9] = True
        steps = []
        found = sample_edit(
            process,
            oracle(process, other),
            ExampleNoise([1]),
            Edit(own, generated=generated, repeats=3),
            SamplerConfig(name, 5),
            on_step=lambda: steps.append(1),
        )[0, 0]
        assert torch.equal(found[:, ~generated], own[:, ~generated])
        torch.testing.assert_close(found[:, generated], other[0, 0][:, generated], rtol=0, atol=2e-3)
        assert len(steps) == edit_steps(process, SamplerConfig(name, 5), 1.0, 3) == 15

    def test_known_frames_have_the_noise_of_their_level(self, process, name):
        own, config = torch.full((8, 400), 0.5), SamplerConfig(name, 4)
        seen = []

        def predict(noisy, times):
            seen.append(noisy[0, 0, :, 1:])
            return gaussian_network(process, 0.0, 0.5)(noisy, times)

        sample_edit(process, predict, ExampleNoise([1]), Edit(own, generated=torch.arange(400) == 0), config)
        for values, level in zip(seen[1:], sampler_levels(process, config)[1:-1], strict=True):
            assert float(values.mean()) == pytest.approx(0.5 * level.amplitude, abs=0.05)
            assert float(values.std()) == pytest.approx(level.spread, rel=0.05)

    def test_an_example_does_not_depend_on_its_neighbours(self, process, name):
        edit = Edit(mel()[0, 0], 0.8, torch.arange(SHAPE[1]) > 7, repeats=2)
        config = SamplerConfig(name, 4)
        with torch.inference_mode():
            both = sample_edit(process, predictor(process, 2), ExampleNoise([1, 2]), edit, config)
            alone = sample_edit(process, predictor(process), ExampleNoise([2]), edit, config)
            again = sample_edit(process, predictor(process), ExampleNoise([2]), edit, config)
        torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-4)
        assert torch.equal(alone, again)
        assert not torch.allclose(both[0], both[1], atol=0.05)


def test_going_back_gives_the_noisier_level_s_spread():
    level, before = NoiseLevel(300, 0.8, 0.6), NoiseLevel(500, 0.6, 0.8)
    noise = ExampleNoise([1, 2])
    noisy = 0.8 * 0.5 + 0.6 * noise((1, 200, 200))
    found = noised_again(noisy, level, before, noise((1, 200, 200)))
    assert float(found.mean()) == pytest.approx(0.6 * 0.5, abs=0.01)
    assert float(found.std()) == pytest.approx(0.8, abs=0.01)


def test_the_first_level_lies_at_the_strength_or_below():
    levels = sampler_levels(Flow(), SamplerConfig(steps=10))
    assert [first_level(levels, strength) for strength in (1.0, 0.95, 0.5, 0.49, 0.01)] == [0, 1, 5, 6, 10]


def test_an_edit_of_too_few_steps_for_its_strength_is_refused():
    process = Diffusion(DiffusionConfig(steps=1000))
    for one, config, strength in (
        (process, SamplerConfig(steps=1), 0.6),
        (process, SamplerConfig(steps=2), 0.6),
        (Flow(), SamplerConfig(steps=2), 0.3),
        (Flow(), SamplerConfig(steps=25), 0.03),
    ):
        with pytest.raises(UsageError, match="would change next to nothing; give more steps or strength"):
            check_reach(one, config, strength)
    check_reach(process, SamplerConfig(steps=1), 1.0)
    check_reach(process, SamplerConfig(steps=25), 0.6)
    check_reach(Flow(), SamplerConfig(steps=25), 0.3)


def test_frames_that_hold_any_of_a_span_are_unknown():
    config = MelConfig()
    click = torch.zeros(1, 32 * 512)
    for begin, end in ((0.0, 0.1), (0.4, 0.5), (0.9, 1.024)):
        found = frames_of_spans([(begin, end)], 32, config)
        first, last = round(begin * 16_000), round(end * 16_000) - 1
        click.zero_()
        click[0, first], click[0, last] = 1, 1
        # Slow formula: the frames whose samples hold one of the clicks or what lies between.
        starts = [512 * frame - 768 for frame in range(32)]
        slow = [any(start <= place < start + 2048 for place in range(first, last + 1)) for start in starts]
        assert found.tolist() == slow


@pytest.mark.parametrize("spans", [[(0.5, 1.0)], [(0.0, 0.3), (1.7, 2.0)], [(0.2, 0.6), (0.5, 0.9)], [(1.0, 1.001)]])
def test_a_blend_changes_nothing_outside_its_spans(spans):
    rate = 16_000
    original, made = torch.randn(2, 2, 2 * rate, generator=torch.Generator().manual_seed(0)) * 0.1
    found = blend(original, made, spans, rate)
    inside = torch.zeros(2 * rate, dtype=torch.bool)
    deep = torch.zeros(2 * rate, dtype=torch.bool)
    for begin, end in spans:
        first, last = round(begin * rate), round(end * rate)
        inside[first:last] = True
        deep[first + (320 if first else 0) : last - (320 if last < 2 * rate else 0)] = True
    assert torch.equal(found[:, ~inside], original[:, ~inside])
    torch.testing.assert_close(found[:, deep], made[:, deep], rtol=0, atol=1e-6)
    # The two do not resemble each other: equal power keeps the level in the fades, too.
    fading = inside & ~deep
    if int(fading.sum()) > 200:
        assert float(found[:, fading].std()) == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strength": 0.0}, "above 0 and up to 1"),
        ({"strength": 1.5}, "strength 1.5"),
        ({"strength": math.nan}, "strength nan"),
        ({"repeats": 0}, "made 0 times"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Edit(mel()[0, 0], **settings)
