"""The vocoder's parts against the bigvgan library, and the distances against slow formulas."""

import copy
import sys
import types
import warnings

import numpy as np
import pytest
import torch

from vidaudio.errors import RecipeError, UsageError
from vidaudio.generation import (
    DiscriminatorConfig,
    Discriminators,
    MelConfig,
    MelFrontEnd,
    Vocoder,
    VocoderConfig,
    VocoderLossConfig,
    VocoderLosses,
    mel_distance,
    stft_distance,
)
from vidaudio.generation.libraries import require
from vidaudio.generation.vocoder import are_folded, from_library_names

MEL = MelConfig(n_fft=1024, hop=256, bands=16)
SMALL = VocoderConfig(MEL, 16, (16, 16), None, (3, 5), ((1, 3), (1,)))
RESOLUTIONS = ((256, 64, 128), (128, 32, 128), (64, 16, 64))


def library_generator(config: VocoderConfig):
    from bigvgan import BigVGAN
    from bigvgan.env import AttrDict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return BigVGAN(AttrDict(config.library_values())).eval()


@pytest.fixture
def library_discriminators(monkeypatch):
    """The library's discriminators, of which those compared here need nothing of torchaudio."""
    transforms = types.ModuleType("torchaudio.transforms")
    transforms.Spectrogram = transforms.Resample = None
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", transforms)
    monkeypatch.delitem(sys.modules, "bigvgan.discriminators", raising=False)
    yield require("bigvgan.discriminators")
    del sys.modules["bigvgan.discriminators"]


@pytest.mark.parametrize("tanh", [True, False])
def test_equals_the_librarys_generator(tanh):
    config = VocoderConfig(MEL, 16, (16, 16), None, (3, 5), ((1, 3), (1,)), final_tanh=tanh, final_bias=tanh)
    torch.manual_seed(0)
    theirs, ours = library_generator(config), Vocoder(config).eval()
    ours.load_state_dict(from_library_names(theirs.state_dict()))
    mels = torch.randn(2, 16, 12) * 3 - 4
    with torch.inference_mode():
        wanted = theirs(mels)[:, 0]
        found = ours(mels)
        torch.testing.assert_close(found, wanted)
        assert found.shape == (2, 12 * 256)
        assert found.abs().max() <= 1
        torch.testing.assert_close(copy.deepcopy(ours)(mels), wanted)
        assert not are_folded(ours.state_dict())
        torch.testing.assert_close(ours.fold()(mels), wanted)
        assert are_folded(ours.state_dict())


@pytest.mark.parametrize(("rates", "kernels"), [((8, 4, 4, 2), None), ((4, 4, 4, 4), (4, 8, 8, 6)), ((256,), None)])
def test_sound_is_as_long_as_the_mels_frames(rates, kernels):
    vocoder = Vocoder(VocoderConfig(MEL, 16, rates, kernels, (3,), ((1,),)))
    assert vocoder(torch.zeros(1, 16, 7)).shape == (1, 7 * 256)


@pytest.mark.filterwarnings("ignore:A window was not provided")
def test_equal_the_librarys_discriminators(library_discriminators):
    from bigvgan.env import AttrDict

    periods = (2, 3, 5)
    values = AttrDict(
        mpd_reshapes=periods,
        resolutions=RESOLUTIONS,
        use_spectral_norm=False,
        discriminator_channel_mult=0.0625,
    )
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = [
            library_discriminators.MultiPeriodDiscriminator(values),
            library_discriminators.MultiResolutionDiscriminator(values),
        ]
    ours = Discriminators(DiscriminatorConfig(periods, 0.0625, RESOLUTIONS, 0.0625))
    ours.periods.load_state_dict(renamed(theirs[0]))
    ours.resolutions.load_state_dict(renamed(theirs[1]))
    real, made = torch.randn(2, 2, 501)
    wanted = [judge(real[:, None], made[:, None]) for judge in theirs]
    for number, sound in enumerate((real, made)):
        scores = [score for found in wanted for score in found[number]]
        layers = [layer for found in wanted for layer in found[number + 2]]
        for (our_scores, our_layers), score, layer in zip(ours(sound), scores, layers, strict=True):
            torch.testing.assert_close(our_scores, score)
            for one, other in zip(our_layers, layer, strict=True):
                torch.testing.assert_close(one, other)


def renamed(discriminators) -> dict[str, torch.Tensor]:
    weights = from_library_names(discriminators.state_dict())
    return {name.removeprefix("network.discriminators."): value for name, value in weights.items()}


def judged(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(2, 9, generator=generator), [torch.randn(2, 3, 4, generator=generator) for _ in range(2)])
        for _ in range(3)
    ]


def test_losses_equal_the_librarys():
    library = require("bigvgan.loss")
    real, made = judged(0), judged(1)
    real_audio, made_audio = torch.randn(2, 2, 4096) * 0.2
    losses = VocoderLosses(MEL, VocoderLossConfig(adversarial_weight=3.0))
    wanted, _, _ = library.discriminator_loss([score for score, _ in real], [score for score, _ in made])
    torch.testing.assert_close(losses.discriminator(real, made), wanted)
    found = losses.generator(real_audio, made_audio, real, made)
    adversarial, _ = library.generator_loss([score for score, _ in made])
    features = library.feature_loss([layers for _, layers in real], [layers for _, layers in made])
    mel = library.MultiScaleMelSpectrogramLoss(sampling_rate=16_000)(real_audio[:, None], made_audio[:, None])
    torch.testing.assert_close(found["loss"], 3 * adversarial + features + 15 * mel)


def test_the_single_mels_loss_is_the_distance_of_the_vocoders_mel():
    losses = VocoderLosses(MEL, VocoderLossConfig(mel="single"))
    real, made = torch.randn(2, 2, 4096) * 0.2
    wanted = (MelFrontEnd(MEL).log_mel(real) - MelFrontEnd(MEL).log_mel(made)).abs().mean()
    torch.testing.assert_close(losses.mel(real, made), wanted)
    assert losses.mel_weight == 45
    torch.testing.assert_close(mel_distance(made, real, losses.front_end).mean(), wanted)


def slow_stft_distance(audio: np.ndarray, reference: np.ndarray, n_fft: int, hop: int, length: int) -> float:
    """Yamamoto et al. 2020, equations 4 to 6, frame by frame, with the window in the middle of the transform."""
    window = np.zeros(n_fft)
    first = (n_fft - length) // 2
    window[first : first + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)

    def magnitudes(sound):
        padded = np.pad(sound, n_fft // 2, mode="reflect")
        frames = [padded[n : n + n_fft] * window for n in range(0, len(padded) - n_fft + 1, hop)]
        return np.sqrt(np.maximum(np.abs(np.fft.rfft(frames)) ** 2, 1e-7))

    made, real = magnitudes(audio), magnitudes(reference)
    convergence = np.sqrt(((real - made) ** 2).sum()) / np.sqrt((real**2).sum())
    return convergence + np.abs(np.log(real) - np.log(made)).mean()


def test_the_stft_distance_equals_the_formula():
    rng = np.random.default_rng(0)
    audio, reference = rng.normal(0, 0.2, (2, 3, 3000))
    found = stft_distance(torch.from_numpy(audio).float(), torch.from_numpy(reference).float(), RESOLUTIONS)
    for row in range(3):
        wanted = np.mean([slow_stft_distance(audio[row], reference[row], *each) for each in RESOLUTIONS])
        assert float(found[row]) == pytest.approx(wanted, rel=1e-4)


def test_distances_of_a_sound_from_itself_are_none_also_in_silence():
    sound = torch.randn(2, 8000) * torch.tensor([[0.1], [0.0]])
    front_end = MelFrontEnd(MEL)
    assert stft_distance(sound, sound).tolist() == [0, 0]
    assert mel_distance(sound, sound, front_end).tolist() == [0, 0]
    other = torch.randn(2, 8000) * 0.1
    assert torch.isfinite(stft_distance(other, sound)).all()
    assert (mel_distance(other, sound, front_end) > 0.1).all()


def test_sizes_of_no_vocoder_are_refused():
    with pytest.raises(RecipeError, match="one list a kernel"):
        VocoderConfig(MEL, 16, (16, 16), block_kernels=())
    with pytest.raises(RecipeError, match="each must be 1 or more"):
        DiscriminatorConfig(periods=(0,))


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "bigvgan", None)
    monkeypatch.delitem(sys.modules, "bigvgan.env", raising=False)
    with pytest.raises(UsageError, match=r"bigvgan is not installed.*vidaudio\[vocoder\]"):
        Vocoder(SMALL)
