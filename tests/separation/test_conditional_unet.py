import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidaudio.errors import RecipeError
from vidaudio.separation import ConditionalUNet, ConditionalUNetConfig, MaskFusion
from vidaudio.separation.conditional_unet import convolve_each

TINY = ConditionalUNetConfig(levels=4, width=4, max_multiplier=4, conditioned=2, heads=2, state_dimensions=6)
OUTPUTS = 5


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def small_unet(config: ConditionalUNetConfig = TINY, *, seed: int = 0) -> ConditionalUNet:
    """Return a network whose norms do something, in training and in evaluation, and whose gradients are not small."""
    torch.manual_seed(seed)
    unet = ConditionalUNet(config, out_channels=OUTPUTS)
    for part in unet.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
            nn.init.normal_(part.running_mean, 0, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
        elif isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, a=0.2)
    return unet


def inputs(config: ConditionalUNetConfig = TINY, *, pictures: int = 2, prompts: int = 3) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    picture = torch.randn(pictures, 1, 32, 48)
    states = torch.randn(pictures, prompts, 7, config.state_dimensions)
    return picture, states, torch.rand(pictures, prompts, OUTPUTS)


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest expected value."""
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def gradients(unet: ConditionalUNet, result: Tensor) -> dict[str, Tensor]:
    """Return each parameter's gradient of a sum in which every value of the result has a weight of its own."""
    torch.manual_seed(2)
    (result * torch.randn_like(result)).mean().backward()
    found = {name: parameter.grad for name, parameter in unet.named_parameters() if parameter.grad is not None}
    unet.zero_grad()
    return found


def test_the_default_has_the_published_number_of_parameters():
    with torch.device("meta"):
        unet, query, fusion = ConditionalUNet(), nn.Linear(512, 32), MaskFusion()
    assert parameters(unet) == 87_671_202
    # The published network has biases before a BatchNorm besides, and a norm that is never called.
    assert parameters(unet, query, fusion) + 6_976 + 3_072 == 87_697_699
    assert parameters(*(block.conv for block in unet.down)) == 15_336_448
    assert parameters(*(block.residual.conv for block in unet.down)) == 10_211_328
    assert parameters(*(block.residual.conv for block in unet.up)) == 33_767_424
    assert parameters(*(block.conv for block in unet.up)) == 14_929_920 + 32
    assert parameters(unet.attention) == 13_403_136


def test_norms_and_biases_are_where_the_paper_has_them():
    with torch.device("meta"):
        unet = ConditionalUNet()
    biased = [name for name, part in unet.named_modules() if isinstance(part, nn.Conv2d) and part.bias is not None]
    assert biased == ["up.0.conv"]
    assert [isinstance(block.norm, nn.BatchNorm2d) for block in unet.up] == [False, *[True] * 6]
    assert [block.conv.in_channels for block in unet.up] == [128, 256, 512, 1024, 1024, 1024, 512]
    assert [block.conv.out_channels for block in unet.up] == [32, 64, 128, 256, 512, 512, 512]
    assert [block.self_norm.normalized_shape for block in unet.attention] == [(512,)] * 3


def second_writing(unet: ConditionalUNet, picture: Tensor, states: Tensor) -> Tensor:
    """Return the features of one picture and one prompt, from the formulas and the state dict alone."""
    weights, config = unet.state_dict(), unet.config

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def residual(name: str, x: Tensor) -> Tensor:
        y = x + norm(f"{name}.residual.norm", F.conv2d(x, weights[f"{name}.residual.conv.weight"], padding=1))
        return torch.where(y > 0, y, 0.2 * y)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def layer_norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attend(name: str, tokens: Tensor, context: Tensor) -> Tensor:
        query, both = linear(f"{name}.query", tokens), linear(f"{name}.key_value", context)
        size = tokens.shape[-1] // config.heads
        heads = []
        for head in range(config.heads):
            columns = slice(head * size, (head + 1) * size)
            keys, values = both[:, : tokens.shape[-1]][:, columns], both[:, tokens.shape[-1] :][:, columns]
            heads.append(torch.softmax(query[:, columns] @ keys.T / math.sqrt(size), dim=-1) @ values)
        return linear(f"{name}.output", torch.cat(heads, dim=-1))

    def mlp(name: str, tokens: Tensor) -> Tensor:
        hidden = linear(f"{name}.1", layer_norm(f"{name}.0", tokens))
        return linear(f"{name}.3", hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))

    def attention(name: str, x: Tensor) -> Tensor:
        tokens = x[0].reshape(x.shape[1], -1).T
        normed = layer_norm(f"{name}.self_norm", tokens)
        tokens = tokens + attend(f"{name}.self_attention", normed, normed)
        tokens = tokens + mlp(f"{name}.self_mlp", tokens)
        tokens = tokens + attend(f"{name}.cross_attention", layer_norm(f"{name}.cross_norm", tokens), states)
        return (tokens + mlp(f"{name}.cross_mlp", tokens)).T.reshape(x.shape)

    def level(number: int, x: Tensor) -> Tensor:
        y = norm(f"down.{number}.norm", F.conv2d(x, weights[f"down.{number}.conv.weight"], stride=2, padding=1))
        y = residual(f"down.{number}", torch.where(y > 0, y, 0.2 * y))
        outer = config.levels - config.conditioned
        if number >= outer:
            y = attention(f"attention.{number - outer}", y)
        if number < config.levels - 1:
            y = torch.cat([y, level(number + 1, y)], dim=1)
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        y = F.conv2d(residual(f"up.{number}", y), weights[f"up.{number}.conv.weight"], padding=1)
        return norm(f"up.{number}.norm", y).clamp_min(0) if number else y + weights["up.0.conv.bias"][:, None, None]

    return level(0, norm("input_norm", picture)[None])[0]


def test_the_network_equals_a_second_writing_of_it():
    unet = small_unet().double().eval()
    picture, states, coefficients = (x.double() for x in inputs())
    features = unet(picture, states)
    expected = torch.stack(
        [
            torch.stack([second_writing(unet, one, prompt) for prompt in prompts])
            for one, prompts in zip(picture, states, strict=True)
        ]
    )
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(
        unet(picture, states, coefficients), torch.einsum("bnk,bnkhw->bnhw", coefficients, expected)
    )


CONFIGS = {
    "two_of_four_levels": TINY,
    "the_innermost_level": ConditionalUNetConfig(levels=3, width=4, conditioned=1, heads=2, state_dimensions=6),
    "all_levels": ConditionalUNetConfig(levels=2, width=4, conditioned=2, heads=2, state_dimensions=6),
}


@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("fused", [False, True], ids=["features", "fused"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_sharing_changes_neither_the_result_nor_the_gradients(config, fused, training, prompts):
    unet = small_unet(config).train(training)
    picture, states, coefficients = inputs(config, prompts=prompts)
    arguments = (picture, states, coefficients) if fused else (picture, states)
    found, expected = unet(*arguments), unet.forward_each(*arguments)
    assert found.shape == ((2, prompts, 32, 48) if fused else (2, prompts, OUTPUTS, 32, 48))
    assert distance(found, expected) < 1e-5
    by_name, expected_by_name = gradients(unet, found), gradients(unet, expected)
    assert set(by_name) == set(expected_by_name) == {name for name, _ in unet.named_parameters()}
    # The norm of the first level undoes these: what is left of their gradients is rounding, and some edges.
    almost_without = {"input_norm.weight", "input_norm.bias"} if training else set()
    for name, gradient in by_name.items():
        assert distance(gradient, expected_by_name[name]) < (1e-2 if name in almost_without else 1e-4), name


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_sharing_is_exact_to_double_precision_and_for_the_inputs_too(training):
    unet = small_unet().double().train(training)
    leaves = [x.double().requires_grad_() for x in inputs()]
    found, expected = unet(*leaves), unet.forward_each(*leaves)
    assert distance(found, expected) < 1e-12
    weights = torch.randn_like(found)
    sources = [*leaves, *unet.parameters()]
    of_found = torch.autograd.grad((found * weights).sum(), sources)
    of_expected = torch.autograd.grad((expected * weights).sum(), sources)
    for gradient, other in zip(of_found, of_expected, strict=True):
        assert distance(gradient, other) < 1e-9


def test_running_statistics_differ_only_by_the_factor_of_the_estimate():
    shared = small_unet().train()
    each = copy.deepcopy(shared)
    before = copy.deepcopy(shared.state_dict())
    picture, states, _ = inputs()
    shared(picture, states)
    each.forward_each(picture, states)
    after, other = shared.state_dict(), each.state_dict()
    pixels = {f"down.{level}.": 2 * (32 >> level + 1) * (48 >> level + 1) for level in range(3)}
    pixels["input_norm."] = 2 * 32 * 48
    for name in (name for name in after if name.endswith(("running_mean", "running_var"))):
        values = next((count for start, count in pixels.items() if name.startswith(start)), None)
        estimate, expected = after[name] - 0.9 * before[name], other[name] - 0.9 * before[name]
        if values is not None and name.endswith("var"):
            expected = expected * (values / (values - 1)) / (3 * values / (3 * values - 1))
        torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-6)


def test_a_prompt_does_not_depend_on_the_other_prompts():
    unet = small_unet().eval()
    picture, states, coefficients = inputs()
    together = unet(picture, states, coefficients)
    others = states.clone()
    others[:, 0], others[:, 2] = torch.randn_like(states[:, 0]), torch.randn_like(states[:, 2])
    torch.testing.assert_close(unet(picture, others, coefficients)[:, 1], together[:, 1], rtol=0, atol=0)
    assert distance(unet(picture, others, coefficients)[:, 0], together[:, 0]) > 1e-3
    alone = unet(picture, states[:, 1:2], coefficients[:, 1:2])
    assert distance(alone[:, 0], together[:, 1]) < 1e-5
    assert distance(unet(picture[1:], states[1:], coefficients[1:])[0], together[1]) < 1e-5


def seen(unet: ConditionalUNet, *arguments: Tensor) -> dict[str, Tensor]:
    """Return the outputs of all convolutions and query layers that are called as modules."""
    found: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, output, name=name: found.update({name: output.clone()}))
        for name, part in unet.named_modules()
        if isinstance(part, nn.Conv2d) or name.endswith("query")
    ]
    with torch.no_grad():
        unet(*arguments)
    for hook in hooks:
        hook.remove()
    return found


def test_what_cannot_depend_on_the_prompt_is_computed_once_a_picture():
    unet = small_unet().eval()
    picture, states, coefficients = inputs()
    outputs, with_others = seen(unet, picture, states, coefficients), seen(unet, picture, -states, coefficients)
    shared = {name for name, output in outputs.items() if len(output) == 2}
    encoder = {f"down.{level}.{name}" for level in range(3) for name in ("conv", "residual.conv")}
    assert shared == encoder | {"attention.0.self_attention.query", "attention.0.cross_attention.query"}
    for name, output in outputs.items():
        assert torch.equal(output, with_others[name]) == (name in shared), name


def test_fusion_makes_no_feature_maps():
    unet = small_unet().eval()
    picture, states, coefficients = inputs()
    assert seen(unet, picture, states)["up.0.conv"].shape == (6, OUTPUTS, 32, 48)
    assert "up.0.conv" not in seen(unet, picture, states, coefficients)


def test_fused_maps_and_the_bias_are_the_logits_of_mask_fusion():
    unet, fusion = small_unet().eval(), MaskFusion(OUTPUTS)
    nn.init.normal_(fusion.scale)
    nn.init.normal_(fusion.bias)
    picture, states, _ = inputs()
    queries = torch.randn(2, 3, OUTPUTS)
    logits = unet(picture, states, fusion.scale * torch.sigmoid(queries)) + fusion.bias
    features = unet(picture, states)
    expected = torch.cat([fusion(features[:, n], queries[:, n : n + 1]) for n in range(3)], dim=1)
    assert distance(logits, expected) < 1e-5


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_each_map_is_convolved_with_its_own_kernel(memory_format):
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    kernels = torch.randn(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.cat([F.conv2d(one[None], kernel[None], padding=1) for one, kernel in zip(x, kernels, strict=True)])
    torch.testing.assert_close(convolve_each(x, kernels), expected[:, 0])
    assert torch.autograd.gradcheck(convolve_each, (x, kernels))


def test_attention_sees_all_pixels_and_all_tokens():
    unet = small_unet().eval()
    picture, states, coefficients = (x.requires_grad_() for x in inputs(pictures=1, prompts=1))
    of_picture, of_states = torch.autograd.grad(unet(picture, states, coefficients)[0, 0, 0, 0], (picture, states))
    assert (of_picture[0, 0, -4:, -4:] != 0).any()
    assert (of_states.abs().amax(dim=-1) > 0).all()


def test_initial_weights_are_pytorchs_as_published():
    torch.manual_seed(0)
    unet = ConditionalUNet(ConditionalUNetConfig(levels=4, width=16, conditioned=1))
    for part in (unet.down[3].conv, unet.down[2].residual.conv, unet.up[2].residual.conv, unet.up[2].conv):
        fan_in = part.weight[0].numel()
        assert part.weight.std().item() == pytest.approx(math.sqrt(1 / 3 / fan_in), rel=0.012)
    norms = [part for part in unet.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 1 + 2 * 4 + 2 * 4 - 1
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)
    assert unet.attention[0].self_attention.query.weight.abs().max().item() <= 1 / math.sqrt(128)


def test_the_level_and_the_contrast_of_the_input_are_normalised():
    unet = small_unet().train()
    picture, states, coefficients = inputs()
    torch.testing.assert_close(unet(3 * picture + 5, states, coefficients), unet(picture, states, coefficients))


def test_the_state_dict_has_whole_convolutions():
    shapes = {name: tuple(value.shape) for name, value in small_unet().state_dict().items()}
    assert shapes["up.0.residual.conv.weight"] == (8, 8, 3, 3)
    assert shapes["up.0.conv.weight"] == (OUTPUTS, 8, 3, 3)
    assert sum(len(shape) == 4 for shape in shapes.values()) == 4 * 4


def test_channels_last_weights_change_nothing():
    unet = small_unet().eval()
    expected = unet(*inputs())
    unet.to(memory_format=torch.channels_last)
    assert distance(unet(*inputs()), expected) < 1e-5


def test_bfloat16_autocast_trains_and_stays_close():
    unet = small_unet().train()
    expected = unet(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        found = unet(*inputs())
        features = unet(*inputs()[:2])
    assert found.dtype == torch.float32
    assert features.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.03 * expected.norm()
    of_found, of_expected = gradients(unet, found), gradients(unet, expected)
    assert set(of_found) == set(of_expected)
    total = math.sqrt(sum(float((of_found[name] - of_expected[name]).square().sum()) for name in of_found))
    assert total < 0.2 * math.sqrt(sum(float(gradient.square().sum()) for gradient in of_expected.values()))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"levels": 1}, "unet.levels is 1: it must be at least 2"),
        ({"width": 0}, "unet.width is 0: it must be at least 1"),
        ({"conditioned": 0}, "unet.conditioned is 0: it must be at least 1"),
        ({"conditioned": 8}, "8 levels attend to the text .condition.levels., and the U-Net has 7"),
        ({"heads": 0}, "unet.heads is 0"),
        (
            {"heads": 3},
            "condition.heads is 3 and a level that attends to the text has 512 channels: choose a number of",
        ),
        ({"mlp_ratio": 0}, "unet.mlp_ratio is 0"),
        ({"state_dimensions": 0}, "unet.state_dimensions is 0"),
    ],
)
def test_bad_sizes_are_refused(sizes, message):
    with pytest.raises(RecipeError, match=message):
        ConditionalUNetConfig(**sizes)


def test_channels_are_those_of_the_paper():
    assert ConditionalUNetConfig().channels == (64, 128, 256, 512, 512, 512, 512)
    assert ConditionalUNetConfig().unconditioned == 4


def test_shapes_that_do_not_belong_together_are_refused():
    unet = small_unet()
    picture, states, coefficients = inputs()
    for run in (unet.forward, unet.forward_each):
        with pytest.raises(ValueError, match="32 x 40; a U-Net of 4 levels needs multiples of 16"):
            run(picture[..., :40], states)
        with pytest.raises(ValueError, match=r"2 pictures need \[2, prompts, tokens, 6\]"):
            run(picture, states[:1])
        with pytest.raises(ValueError, match=r"shape \(2, 3, 7, 5\)"):
            run(picture, states[..., :5])
        with pytest.raises(ValueError, match=r"coefficients have shape \(2, 2, 5\); expected \(2, 3, 5\)"):
            run(picture, states, coefficients[:, :2])
