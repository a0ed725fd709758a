"""The CLIP that ships with the demo: small, loadable with open_clip, and good on drawings it never saw."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file

import vidaudio.demo
from vidaudio.demo import clip_quality, train_clip
from vidaudio.demo.captions import NOTHING
from vidaudio.demo.world import KINDS, Purpose

FOLDER = Path(vidaudio.demo.__file__).parent / "clip"


@pytest.fixture(scope="module")
def clip():
    torch.set_num_threads(1)
    return clip_quality.load_clip(FOLDER)


@pytest.fixture(scope="module")
def frames(clip):
    model, preprocess, _ = clip
    return clip_quality.image_embeddings(model, preprocess, seed=1, videos_per_kind=4).flatten(1, 2)


def test_files_are_small_and_half_precision():
    files = ["open_clip_config.json", "open_clip_model.safetensors", "bpe_vocabulary.txt.gz"]
    assert sum((FOLDER / name).stat().st_size for name in files) < 5e6
    weights = load_file(FOLDER / "open_clip_model.safetensors")
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float16}


def test_pictures_and_words_are_as_far_apart_as_in_vit_b_32(clip, frames):
    model, _, tokenizer = clip
    report = clip_quality.gap_report(frames, clip_quality.text_queries(model, tokenizer))
    assert report["zero_shot_accuracy"] >= 0.95
    assert 0.15 <= report["mismatched_cosine"] <= 0.22
    assert 0.25 <= report["matched_cosine"] <= 0.35
    assert 0.7 <= report["text_cosine"] <= 0.8
    assert 0.7 <= report["modality_gap"] <= 0.9


def test_classifier_of_pictures_classifies_text_once_the_means_agree(clip, frames):
    """The gap is one of the means, mostly: what is learned on pictures holds for texts that are moved to them."""
    model, _, tokenizer = clip
    kinds = torch.arange(len(KINDS))
    targets = torch.nn.functional.one_hot(kinds.repeat_interleave(frames.shape[1])).float()
    inputs = frames.flatten(0, 1)
    gram = inputs.T @ inputs + torch.eye(inputs.shape[1])
    weights = torch.linalg.solve(gram, inputs.T @ targets)
    texts = clip_quality.text_queries(model, tokenizer)
    texts = texts - texts.mean(0) + inputs.mean(0)
    assert ((texts @ weights).argmax(-1) == kinds).float().mean() >= 0.75


def test_synonyms_mean_their_kind(clip):
    model, _, tokenizer = clip
    unit = torch.nn.functional.normalize
    with torch.inference_mode():
        queries = unit(clip_quality.text_queries(model, tokenizer), dim=-1)
        for number, kind in enumerate(KINDS):
            words = unit(model.encode_text(tokenizer([f"a picture of a {s}" for s in kind.synonyms])), dim=-1)
            assert ((words @ queries.T).argmax(-1) == number).all()


def test_vocabulary_is_what_the_tokenizer_and_the_model_agree_on(clip, tmp_path):
    model, _, tokenizer = clip
    assert tokenizer.vocab_size == model.token_embedding.num_embeddings
    train_clip.write_vocabulary(tmp_path / "v.gz", train_clip.learn_merges(["low lower lowest low"], 50))
    lines = gzip.decompress((tmp_path / "v.gz").read_bytes()).decode().split("\n")
    assert lines[0].startswith("#version")
    assert all(len(line.split()) == 2 for line in lines[1:])
    small = SimpleTokenizer(bpe_path=str(tmp_path / "v.gz"), context_length=8)
    assert len(small.encode("low")) == 1
    assert small.decode(small.encode("lowest zebra")).split() == ["lowest", "zebra"]


def test_training_draws_from_its_own_purpose(monkeypatch):
    drawn = []

    def record(purpose, *keys):
        drawn.append(purpose)
        return real(purpose, *keys)

    real = train_clip.derive_seed
    monkeypatch.setattr(train_clip, "derive_seed", record)
    for kind in (0, NOTHING):
        picture, facts = train_clip.draw_example(0, kind, 0)
        assert picture.shape == (train_clip.IMAGE_SIZE, train_clip.IMAGE_SIZE, 3)
        assert facts.kind == kind
    assert set(drawn) == {Purpose.CLIP_TRAIN}


def test_objective_wants_true_pairs_norms_and_cones(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.normalize(torch.randn(8, 16, generator=generator), dim=-1) * train_clip.NORM
    text = image + 0.1 * torch.randn(8, 16, generator=generator)
    true, kinds = torch.eye(8, dtype=torch.bool), torch.arange(8)
    fitting = train_clip.objective(image, text, true, kinds)
    assert fitting < train_clip.objective(image, text.roll(1, 0), true, kinds)
    assert fitting < train_clip.objective(2 * image, 2 * text, true, kinds)
    apart = train_clip.mean_cosines(image, text, kinds) - torch.tensor(train_clip.CONES)
    assert apart.abs().min() > 0.05, "the cones of random vectors are not those that are wanted"
    monkeypatch.setattr(train_clip, "CONE_WEIGHT", 0.0)
    without = train_clip.objective(image, text, true, kinds)
    assert float(fitting - without) == pytest.approx(50 * float(apart.square().sum()), rel=1e-4)
