import math

import pytest
import torch

from vidaudio.separation import LinearQuery, MaskFusion


@pytest.mark.parametrize("count", [2, 3])
def test_fusion_equals_the_formula_in_loops(count):
    fusion = MaskFusion(4)
    torch.nn.init.normal_(fusion.scale)
    torch.nn.init.normal_(fusion.bias)
    features, queries = torch.randn(2, 4, 3, 5), torch.randn(2, count, 4)
    masks = torch.sigmoid(fusion(features, queries))
    s, bias = fusion.scale.tolist(), fusion.bias.item()
    assert masks.shape == (2, count, 3, 5)
    for b in range(2):
        for n in range(count):
            for h in range(3):
                for w in range(5):
                    total = bias
                    for j in range(4):
                        total += s[j] / (1 + math.exp(-queries[b, n, j].item())) * features[b, j, h, w].item()
                    assert masks[b, n, h, w].item() == pytest.approx(1 / (1 + math.exp(-total)), abs=1e-5)


def test_scale_starts_at_one_and_bias_at_zero_and_both_learn():
    fusion = MaskFusion(4)
    assert fusion.scale.tolist() == [1, 1, 1, 1]
    assert fusion.bias.tolist() == [0]
    fusion(torch.randn(2, 4, 3, 5), torch.randn(2, 2, 4)).square().sum().backward()
    assert (fusion.scale.grad.abs() > 0).all()
    assert fusion.bias.grad.abs() > 0


def test_channels_last_features_give_the_same():
    fusion, features, queries = MaskFusion(4), torch.randn(2, 4, 8, 6), torch.randn(2, 3, 4)
    torch.testing.assert_close(
        fusion(features.contiguous(memory_format=torch.channels_last), queries), fusion(features, queries)
    )


def test_queries_pass_one_shared_linear_layer_and_are_not_normalised():
    query = LinearQuery(6, 4)
    embeddings = torch.randn(2, 3, 6).half()
    expected = embeddings.float() @ query.linear.weight.T + query.linear.bias
    torch.testing.assert_close(query(embeddings), expected)
    doubled = query(embeddings * 2) - query.linear.bias
    torch.testing.assert_close(doubled, 2 * (query(embeddings) - query.linear.bias))
    assert LinearQuery(512, 320).linear.weight.std().item() == pytest.approx(0.0001, rel=0.01)
