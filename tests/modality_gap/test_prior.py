"""The diffusion prior: its schedule, its tokens, and that a text's vector is its own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tests.modality_gap.made import cones
from vidaudio.errors import GapError
from vidaudio.modality_gap import GapData, fit_method, load_method, save_method
from vidaudio.modality_gap.prior import SHARES, PriorTransformer, scaled
from vidaudio.modality_gap.vector_diffusion import STEPS

DATA, OF_IMAGE, OF_TEXT = cones()
QUICK = {"steps": 200, "width": 32}


@pytest.fixture(scope="module")
def prior():
    return fit_method("prior", DATA, **QUICK)


def test_the_schedule_is_the_cosine_of_nichol_and_dhariwal():
    def signal(step: int) -> float:
        return math.cos((step / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2

    # The last step's beta is limited to 0.999.
    for step in (0, 1, 250, 500, 900, STEPS - 2):
        assert float(SHARES[step]) == pytest.approx(signal(step + 1) / signal(0), rel=1e-4)
    assert float(SHARES[-1]) == pytest.approx(1e-3 * float(SHARES[-2]), rel=1e-4)


def test_vectors_have_the_length_at_which_a_number_varies_by_one():
    vectors = scaled(torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * 7)
    torch.testing.assert_close(vectors.square().mean(dim=-1), torch.ones(5))


def test_pictures_are_drawn_near_those_of_the_same_label(prior):
    drawn = prior.map_texts(DATA.texts)
    centres = torch.stack([DATA.images[label == OF_IMAGE].mean(dim=0) for label in range(5)])
    cosines = F.cosine_similarity(drawn[:, None], centres[None], dim=-1)
    assert torch.equal(cosines.argmax(dim=1), OF_TEXT)
    asked = F.cosine_similarity(DATA.texts, centres[OF_TEXT], dim=-1)
    assert float(cosines.amax(dim=1).min()) > 0.9 > 0.5 > float(asked.max())
    torch.testing.assert_close(drawn.norm(dim=-1), DATA.images.norm(dim=-1).mean().expand(len(drawn)))


def test_a_text_has_its_vector_whatever_is_asked_beside_it(prior):
    together = prior.map_texts(DATA.texts[:7])
    assert torch.equal(prior.map_texts(DATA.texts[4:5]), together[4:5])
    assert torch.equal(prior.map_texts(DATA.texts[:7].flip(0)).flip(0), together)


def test_the_seed_decides_and_is_saved(prior, tmp_path):
    other = fit_method("prior", DATA, seed=1, **QUICK)
    assert not torch.equal(other.map_texts(DATA.texts[:2]), prior.map_texts(DATA.texts[:2]))
    save_method(other, tmp_path / "prior.safetensors")
    read = load_method(tmp_path / "prior.safetensors")
    assert torch.equal(read.map_texts(DATA.texts[:2]), other.map_texts(DATA.texts[:2]))


def test_of_two_draws_the_one_closest_to_the_text_is_kept(prior, monkeypatch):
    draws = torch.randn(2, DATA.texts.shape[1], generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("vidaudio.modality_gap.prior.ddim", lambda *_, **__: draws)
    for number in range(2):
        found = prior.map_texts(3 * draws[number : number + 1])
        torch.testing.assert_close(F.normalize(found, dim=-1), F.normalize(draws[number : number + 1], dim=-1))


def test_a_text_that_is_left_out_does_not_count():
    network = PriorTransformer(6, 16, torch.Generator().manual_seed(0))
    noisy, step = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([10, 900])
    seen = [network(noisy, step, torch.full((2, 6), value), torch.tensor([True, False])) for value in (1.0, 2.0)]
    assert torch.equal(seen[0][1], seen[1][1])
    assert not torch.equal(seen[0][0], seen[1][0])


def test_guidance_moves_away_from_the_vector_without_a_text():
    plain = fit_method("prior", DATA, **QUICK).map_texts(DATA.texts[:1])
    guided = fit_method("prior", DATA, guidance=3.0, **QUICK).map_texts(DATA.texts[:1])
    assert not torch.allclose(plain, guided)


def test_texts_must_belong_to_pictures():
    with pytest.raises(GapError, match="prior is fitted to pairs, and there are none; give clips labels or captions"):
        fit_method("prior", GapData.unpaired(DATA.images, DATA.texts, "e"))
    with pytest.raises(GapError, match="the width of a prior is a multiple of 4, not 30"):
        fit_method("prior", DATA, width=30)
    with pytest.raises(GapError, match="the prior's loss is no number; use a lower learning rate"):
        fit_method("prior", DATA, learning_rate=math.inf, **QUICK)
