"""Every system's loss equals a slow reference written from the formulas; sizes are the published ones."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.separation import slow_reference as slow
from vidaudio.errors import RecipeError
from vidaudio.separation import (
    FrontEndConfig,
    FusionConfig,
    LossConfig,
    NoiseConfig,
    Separator,
    SeparatorConfig,
    UNetConfig,
    build_separator,
    mix_sources,
)

FRONT_END = FrontEndConfig(n_fft=64, hop=32, window_samples=511, log_rows=16, frames=16)
SAMPLES = 511
DIMENSIONS = 6
LABELS = 5


def built(sources: int, **options) -> Separator:
    """A small system whose parameters are all far from their near-zero initialisation, so that every term counts."""
    config = SeparatorConfig(
        query_dimensions=DIMENSIONS,
        channels=4,
        sources=sources,
        front_end=FRONT_END,
        unet=UNetConfig(levels=3, width=4),
        **options,
    )
    torch.manual_seed(sources)
    model = build_separator(config).eval()
    for name, parameter in model.named_parameters():
        if "body" not in name and "norm" not in name:
            torch.nn.init.normal_(parameter, 0, 0.1 if name.startswith("unet") else 0.5)
    return model


def mixtures(sources: int) -> tuple[torch.Tensor, torch.Tensor]:
    audio = torch.randint(-20000, 20000, (2, sources, SAMPLES), dtype=torch.int16)
    return audio, torch.rand(2, sources) + 0.5


@torch.no_grad()
def pictures_of(model: Separator, audio: torch.Tensor, gains: torch.Tensor) -> tuple[list, list, list]:
    """U-Net features, source magnitudes and mixture magnitude, as lists."""
    sources, mixture = mix_sources(audio, gains)
    magnitude = model.front_end.to_log(model.front_end.stft(mixture).abs()) + 1e-10
    warped = model.front_end.to_log(model.front_end.stft(sources).abs())
    features = model.unet(magnitude.log()[:, None])
    return features.tolist(), warped.tolist(), magnitude.double().tolist()


def query_vectors(model: Separator, embeddings: list) -> list:
    layer = model.query.linear
    return [[slow.linear(layer.weight.tolist(), layer.bias.tolist(), e) for e in example] for example in embeddings]


def query_masks(model: Separator, features: list, vectors: list) -> list:
    scale, bias = model.fusion.scale.tolist(), model.fusion.bias.item()
    options = model.config.fusion
    return [
        [slow.mask(f, q, scale, bias, options.sigmoid, options.query_activation) for q in vector]
        for f, vector in zip(features, vectors, strict=True)
    ]


def close(found: torch.Tensor, expected: float) -> None:
    assert found.item() == pytest.approx(expected, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": LossConfig(pixel_weight="magnitude", sources="sum")},
        {"fusion": FusionConfig(sigmoid="inside", query_activation="none")},
    ],
    ids=["as the code", "loss as the paper", "fusion as the paper"],
)
def test_clipsep_equals_the_formulas(sources: int, options: dict):
    model = built(sources, **options)
    audio, gains = mixtures(sources)
    embeddings = torch.randn(2, sources, DIMENSIONS)
    features, magnitudes, mixture = pictures_of(model, audio, gains)
    masks = query_masks(model, features, query_vectors(model, embeddings.tolist()))
    loss = model.config.loss
    expected = slow.clipsep_loss(masks, magnitudes, mixture, loss.pixel_weight, loss.sources)
    close(model.loss(audio, embeddings, gains)["loss"], expected)


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("gamma", [0.25, 5.0])
def test_clipsep_nit_equals_the_formulas(sources: int, pooling: str, gamma: float):
    model = built(sources, noise=NoiseConfig(input=pooling, gamma=gamma))
    audio, gains = mixtures(sources)
    embeddings = torch.randn(2, sources, DIMENSIONS)
    features, magnitudes, mixture = pictures_of(model, audio, gains)
    vectors = query_vectors(model, embeddings.tolist())
    heads = [(head.weight.tolist(), head.bias.tolist()) for head in model.noise.heads]
    masks = query_masks(model, features, vectors)
    noises = query_masks(model, features, [slow.noise_vectors(heads, v, pooling) for v in vectors])
    mask_loss = slow.nit_mask_loss(masks, noises, magnitudes, mixture)
    activation = slow.nit_activation(noises)
    assert activation > 0.25, "the regulariser would not be seen"

    parts = model.loss(audio, embeddings, gains)
    close(parts["mask_loss"], mask_loss)
    close(parts["noise_activation"], activation)
    close(parts["loss"], mask_loss + 0.1 * max(0.0, activation - gamma))


def test_the_best_assignment_of_noise_heads_is_chosen_by_example_and_not_by_batch():
    model = built(2, noise=NoiseConfig(activation_weight=0))
    audio, gains = mixtures(2)
    embeddings = torch.randn(2, 2, DIMENSIONS)
    one_by_one = [model.loss(audio[b : b + 1], embeddings[b : b + 1], gains[b : b + 1])["loss"] for b in range(2)]
    close(model.loss(audio, embeddings, gains)["loss"], sum(loss.item() for loss in one_by_one) / 2)


def test_noise_masks_can_be_looked_at_and_separation_leaves_them_out():
    model = built(2, noise=NoiseConfig())
    plain = build_separator(built(2).config).eval()
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if not n.startswith("noise")})
    audio, gains = mixtures(2)
    embeddings = torch.randn(2, 2, DIMENSIONS)
    spectrum = model.front_end.stft(mix_sources(audio, gains)[1])
    torch.testing.assert_close(model.masks(spectrum, embeddings), plain.masks(spectrum, embeddings))

    features, _, _ = pictures_of(model, audio, gains)
    heads = [(head.weight.tolist(), head.bias.tolist()) for head in model.noise.heads]
    vectors = [slow.noise_vectors(heads, v, "mean") for v in query_vectors(model, embeddings.tolist())]
    expected = model.front_end.to_linear(torch.tensor(query_masks(model, features, vectors)))
    torch.testing.assert_close(model.noise_masks(spectrum, embeddings), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="no noise heads"):
        plain.noise_masks(spectrum, embeddings)


def test_a_bias_of_the_noise_masks_own_moves_them_alone_and_leaves_the_kink_of_the_first_step():
    shared, own = built(2, noise=NoiseConfig()), built(2, noise=NoiseConfig(initial_bias=-3.0))
    missing = own.load_state_dict(shared.state_dict(), strict=False)
    assert missing.missing_keys == ["noise.bias"]
    assert build_separator(own.config).noise.bias.item() == -3
    own.noise.bias.data.fill_(-3)
    audio, gains = mixtures(2)
    embeddings = torch.randn(2, 2, DIMENSIONS)
    spectrum = own.front_end.stft(mix_sources(audio, gains)[1])
    torch.testing.assert_close(own.masks(spectrum, embeddings), shared.masks(spectrum, embeddings))
    noise = [torch.logit(model.noise_masks(spectrum, embeddings)[:, :, 8:12]) for model in (own, shared)]
    assert (noise[0] < noise[1] - 1).all()

    # All masks 0.5: a query mask and its noise mask claim everything, so that each pixel of another source costs
    # the logarithm of almost nothing.
    for model in (own, shared):
        with torch.no_grad():
            model.fusion.scale.zero_()
            model.fusion.bias.zero_()
    parts = [model.loss(audio, embeddings, gains) for model in (own, shared)]
    assert parts[0]["mask_loss"] < 0.1 * parts[1]["mask_loss"]
    close(parts[0]["noise_activation"], 2 * torch.sigmoid(torch.tensor(-3.0)).item())
    parts[0]["loss"].backward()
    assert own.noise.bias.grad.abs() > 0


def test_noise_heads_wait_for_their_step_but_not_in_the_measure_of_a_whole_run():
    model = built(2, noise=NoiseConfig(start_step=10))
    plain = build_separator(built(2).config).eval()
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if not n.startswith("noise")})
    audio, gains = mixtures(2)
    embeddings = torch.randn(2, 2, DIMENSIONS)
    before, after, always = (model.loss(audio, embeddings, gains, step=step) for step in (9, 10, None))
    close(before["loss"], plain.loss(audio, embeddings, gains)["loss"].item())
    assert always.keys() == after.keys()
    assert all(torch.equal(always[part], after[part]) for part in after)
    before["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.noise.parameters())


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize(("weight", "margin"), [(0.5, 0.1), (0.5, 0.0), (20.0, 0.02), (3.0, 1.0)])
def test_the_second_regulariser_is_the_published_codes(sources: int, weight: float, margin: float):
    """Of each example and source by itself, and before the best assignment is chosen."""
    model = built(sources, noise=NoiseConfig(query_weight=weight, query_margin=margin))
    audio, gains = mixtures(sources)
    embeddings = torch.randn(2, sources, DIMENSIONS)
    features, magnitudes, mixture = pictures_of(model, audio, gains)
    heads = [(head.weight.tolist(), head.bias.tolist()) for head in model.noise.heads]
    vectors = query_vectors(model, embeddings.tolist())
    masks = query_masks(model, features, vectors)
    noises = query_masks(model, features, [slow.noise_vectors(heads, v, "mean") for v in vectors])
    mask_loss, penalty = slow.nit_regularised(masks, noises, magnitudes, mixture, weight, margin)
    parts = model.loss(audio, embeddings, gains)
    close(parts["mask_loss"], mask_loss)
    close(parts["query_penalty"], penalty)
    close(parts["loss"], sum(parts[part].item() for part in ("mask_loss", "noise_penalty", "query_penalty")))
    parts["query_penalty"].backward()
    assert penalty == 0 or model.query.linear.weight.grad.abs().sum() > 0


def test_the_loss_over_many_batches_has_the_regulariser_of_the_mean_activation_and_not_the_mean_of_the_regularisers():
    """Or it would depend on how mixtures fall into batches, and so on the number of ranks."""
    model = built(2, noise=NoiseConfig(gamma=0.5, activation_weight=3, query_weight=2))
    # One batch lies above gamma and one below.
    batches = []
    for mask_loss, query_penalty, activation in [(0.2, 0.1, 0.9), (0.5, 0.3, 0.3)]:
        noise_penalty = 3 * max(0, activation - 0.5)
        batches.append(
            {
                "loss": mask_loss + noise_penalty + query_penalty,
                "mask_loss": mask_loss,
                "noise_activation": activation,
                "noise_penalty": noise_penalty,
                "query_penalty": query_penalty,
            }
        )
    means = {name: torch.tensor((batches[0][name] + batches[1][name]) / 2) for name in batches[0]}
    close(model.total(means), 0.35 + 3 * (0.6 - 0.5) + 0.2)
    audio, gains = mixtures(2)
    assert model.loss(audio, torch.randn(2, 2, DIMENSIONS), gains).keys() == means.keys()


@pytest.mark.parametrize("sources", [2, 3])
def test_labelsep_equals_the_formulas(sources: int):
    model = built(sources, query="label", labels=LABELS)
    audio, gains = mixtures(sources)
    labels = torch.randint(LABELS, (2, sources))
    features, magnitudes, mixture = pictures_of(model, audio, gains)
    table = model.query.embedding.weight.tolist()
    embeddings = [[table[label] for label in example] for example in labels.tolist()]
    masks = query_masks(model, features, query_vectors(model, embeddings))
    close(model.loss(audio, labels, gains)["loss"], slow.clipsep_loss(masks, magnitudes, mixture))


@pytest.mark.parametrize("sources", [2, 3])
def test_the_original_sop_equals_the_formulas(sources: int):
    model = built(sources, query="pictures")
    model.query.body.layer4.requires_grad_(False)
    audio, gains = mixtures(sources)
    pictures = torch.randint(0, 256, (2, sources, 2, 3, 48, 48), dtype=torch.uint8)
    features, magnitudes, mixture = pictures_of(model, audio, gains)
    weight, bias = model.query.project.weight.tolist(), model.query.project.bias.tolist()
    vectors = []
    for example in pictures:
        vectors.append([])
        for source in example:
            mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
            pixels = (source.float() / 255 - mean[:, None, None]) / std[:, None, None]
            with torch.no_grad():
                vectors[-1].append(slow.picture_vector(model.query.body(pixels).tolist(), weight, bias))
    masks = query_masks(model, features, vectors)
    close(model.loss(audio, pictures, gains)["loss"], slow.clipsep_loss(masks, magnitudes, mixture))


def test_in_training_the_pictures_of_one_source_at_a_time_pass_the_original_sops_resnet():
    """BatchNorm normalises by what passes it together, and its running statistics move once a source."""
    model = built(2, query="pictures").query.train()
    pictures = torch.randint(0, 256, (3, 2, 2, 3, 48, 48), dtype=torch.uint8)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    alone = copy.deepcopy(model)
    expected = []
    for source in range(2):
        pixels = (pictures[:, source].flatten(0, 1).float() / 255 - mean[:, None, None]) / std[:, None, None]
        expected.append(alone.project(alone.body(pixels)).amax(dim=(2, 3)).view(3, 2, -1).amax(dim=1))
    torch.testing.assert_close(model(pictures), torch.stack(expected, dim=1))
    for name, buffer in model.body.named_buffers():
        torch.testing.assert_close(buffer, alone.body.get_buffer(name))
    assert model.body.bn1.num_batches_tracked == 2
    assert not torch.allclose(model(pictures[:, :1]), model.eval()(pictures[:, :1]))


def test_the_original_sops_last_convolution_begins_as_pytorch_has_it():
    torch.manual_seed(0)
    project = build_separator(SeparatorConfig(query="pictures")).query.project
    bound = (512 * 9) ** -0.5  # Kaiming's, uniform, as torch.nn.Conv2d draws its weights
    assert bound * 0.99 < project.weight.abs().max().item() <= bound
    assert project.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize("loss", [LossConfig(), LossConfig("magnitude", "sum")])
def test_pit_equals_the_formulas(sources: int, loss: LossConfig):
    model = built(sources, query="none", loss=loss)
    audio, gains = mixtures(sources)
    features, magnitudes, mixture = pictures_of(model, audio, gains)
    weight, bias = model.heads.weight[:, :, 0, 0].tolist(), model.heads.bias.tolist()
    masks = [slow.pit_masks(f, weight, bias) for f in features]
    expected = slow.pit_loss(masks, magnitudes, mixture, loss.pixel_weight, loss.sources)
    close(model.loss(audio, None, gains)["loss"], expected)


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 30_290_659),
        ({"noise": NoiseConfig()}, 30_292_771),
        ({"query": "label", "labels": 309}, 30_290_659 + 309 * 512),
        ({"query_dimensions": 256}, 30_290_659 - 256 * 32),
        ({"query": "none"}, 30_274_210 + 2 * 32 + 2),
        ({"query": "pictures"}, 30_274_210 + 33 + 11_176_512 + 512 * 32 * 9 + 32),
    ],
    ids=["clipsep", "clipsep_nit", "labelsep", "bertsep", "pit", "sop_original"],
)
def test_sizes_are_the_published_ones(options: dict, parameters: int):
    with torch.device("meta"):
        model = build_separator(SeparatorConfig(**options))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sum(parameter.numel() for parameter in model.unet.parameters()) == 30_274_210


@pytest.mark.parametrize("options", [{}, {"noise": NoiseConfig()}, {"query": "label", "labels": LABELS}])
def test_every_parameter_learns(options: dict):
    model = built(2, **options).train()
    audio, gains = mixtures(2)
    queries = torch.tensor([[0, 1], [2, 3]]) if "labels" in options else torch.randn(2, 2, DIMENSIONS)
    model.loss(audio, queries, gains)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_certain_masks_have_finite_losses_and_gradients():
    from vidaudio.separation.losses import union_losses

    certain = torch.tensor([-200.0, 0.0, 200.0])
    logits = certain.view(1, 1, 3, 1).expand(1, 2, 3, 3).clone().requires_grad_()
    noise = certain.view(1, 1, 1, 3).expand(1, 2, 3, 3).clone().requires_grad_()
    targets = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])[None]
    losses = union_losses(logits, noise, targets, torch.ones(1, 3, 3))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()
    assert noise.grad.isfinite().all()


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(RecipeError, match="made from queries"):
        SeparatorConfig(query="none", noise=NoiseConfig())
    with pytest.raises(RecipeError, match="too many assignments"):
        SeparatorConfig(query="none", sources=7)
    with pytest.raises(RecipeError, match="0 labels"):
        SeparatorConfig(query="label")
    with pytest.raises(RecipeError, match=r"noise\.gamma is -1"):
        NoiseConfig(gamma=-1)
    audio, gains = mixtures(3)
    with pytest.raises(ValueError, match="3 sources and the model 2 heads"):
        built(2, query="none").loss(audio, None, gains)
    with pytest.raises(ValueError, match="cannot be asked"):
        built(2, query="none").loss(audio[:, :2], torch.zeros(2, 2, DIMENSIONS), gains[:, :2])
    with pytest.raises(ValueError, match="give it queries"):
        built(2).loss(audio[:, :2], None, gains[:, :2])
