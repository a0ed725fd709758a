import pytest
import torch

from vidaudio.errors import RecipeError
from vidaudio.separation import FrontEndConfig, QuerySeparator, SeparatorConfig, UNetConfig, mix_sources


def test_the_default_has_the_published_sizes():
    model = QuerySeparator().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 30_290_659
    assert model.separate(torch.randn(1, 65535) * 0.1, torch.randn(1, 512)).shape == (1, 65280)


def test_separation_is_the_mixture_spectrum_times_the_unwarped_mask(small_model):
    model = small_model.eval()
    mixture, query = torch.rand(2, 4095) - 0.5, torch.randn(2, 6)
    spectrum = model.front_end.stft(mixture)
    log_magnitude = model.front_end.to_log(spectrum.abs() + 1e-10).log()[:, None]
    mask = model.front_end.to_linear(torch.sigmoid(model(log_magnitude, query[:, None])[:, 0]))
    expected = model.front_end.istft(torch.polar(mask * spectrum.abs(), spectrum.angle())).clamp(-1, 1)
    torch.testing.assert_close(model.separate(mixture, query), expected, atol=1e-5, rtol=0)
    binary = model.mask(spectrum, query, threshold=0.5)
    assert torch.equal(binary, (mask > 0.5).float())


def test_several_queries_at_once_give_what_each_gives_alone(small_model):
    model = small_model.eval()
    mixture, queries = (torch.rand(2, 4095) - 0.5) * 0.2, torch.randn(2, 3, 6)
    together = model.separate_all(mixture, queries)
    alone = torch.stack([model.separate(mixture, query) for query in queries.unbind(dim=1)], dim=1)
    torch.testing.assert_close(together, alone)


def test_sixty_steps_on_one_pair_learn_to_tell_two_tones_apart(small_model, tones):
    queries = torch.eye(6)[None, :2]
    optimiser = torch.optim.Adam(small_model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = small_model.loss(tones, queries)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    sources, mixture = mix_sources(tones)
    low = small_model.eval().separate(mixture, queries[:, 0])[0]
    error = (low - sources[0, 0, : len(low)]).square().sum() / low.square().sum()
    assert error < 0.1


def test_bfloat16_and_channels_last_train_with_a_float32_loss_near_the_float32_one(small_model, tones):
    queries = torch.randn(1, 2, 6)
    plain = small_model.loss(tones, queries)["loss"]
    small_model.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        fast = small_model.loss(tones, queries)["loss"]
    assert fast.dtype == torch.float32
    assert fast.item() == pytest.approx(plain.item(), rel=0.02)
    fast.backward()
    assert all(parameter.grad.isfinite().all() for parameter in small_model.parameters())


def test_the_state_is_named_after_the_parts_and_loads_into_a_new_model(small_model):
    state = small_model.state_dict()
    assert {name.split(".")[0] for name in state} == {"unet", "query", "fusion"}
    again = QuerySeparator(small_model.config)
    again.load_state_dict(state, strict=True)
    log_magnitude, queries = torch.randn(1, 1, 32, 32), torch.randn(1, 2, 6)
    assert torch.equal(again.eval()(log_magnitude, queries), small_model.eval()(log_magnitude, queries))


def test_a_spectrogram_the_unet_cannot_halve_is_refused():
    with pytest.raises(RecipeError, match=r"front_end\.log_rows is 96.*multiple of 128"):
        SeparatorConfig(front_end=FrontEndConfig(log_rows=96))
    SeparatorConfig(front_end=FrontEndConfig(log_rows=96), unet=UNetConfig(levels=5))


def test_a_model_in_training_mode_does_not_separate(small_model):
    state = {name: value.clone() for name, value in small_model.state_dict().items()}
    with pytest.raises(RuntimeError, match="eval"):
        small_model.separate(torch.zeros(1, 4095), torch.zeros(1, 6))
    assert all(torch.equal(value, state[name]) for name, value in small_model.state_dict().items())


def test_a_mixture_of_another_length_is_refused(small_model):
    with pytest.raises(ValueError, match="4095"):
        small_model.separate(torch.zeros(1, 4000), torch.zeros(1, 6))
