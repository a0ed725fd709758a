"""The world's own ResNet and BERT: trained, as their facts say, and good on what they never saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vidaudio.demo import train_bert, train_clip, train_resnet
from vidaudio.demo.captions import NOTHING, Facts
from vidaudio.demo.training_facts import FACTS_FILE, TrainingFacts, require_trained, write_facts
from vidaudio.encoders.bert import BertSpec, load_bert
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import EncoderError


@pytest.fixture(scope="module")
def resnet():
    torch.set_num_threads(1)
    return train_resnet.open_resnet()


@pytest.fixture(scope="module")
def bert():
    return train_bert.open_bert()


def test_the_facts_are_about_the_weights_that_ship(resnet, bert):
    clip = load_encoder(EncoderSpec(str(train_clip.FOLDER), None, "float32", 8))
    for folder, encoder in ((train_resnet.FOLDER, resnet), (train_bert.FOLDER, bert), (train_clip.FOLDER, clip)):
        facts = require_trained(folder, encoder.weights_sha256)
        assert facts.steps >= 100
        assert facts.command.endswith(f"train_{folder.name}")


def test_weights_are_small_and_half_precision():
    for path in (train_resnet.FOLDER / train_resnet.WEIGHTS_FILE, train_bert.FOLDER / "model.safetensors"):
        assert path.stat().st_size < 2e6
        assert {w.dtype for w in load_file(path).values() if w.is_floating_point()} == {torch.float16}


def test_recipes_find_them_in_the_package(resnet, bert):
    named = load_encoder(EncoderSpec("resnet18-dilated-64", "{package}/demo/resnet/resnet18.safetensors", "float32", 8))
    assert named.weights_sha256 == resnet.weights_sha256
    assert named.dimensions == 8 * train_resnet.WIDTH
    assert load_bert(BertSpec("{package}/demo/bert")).weights_sha256 == bert.weights_sha256


def test_the_resnet_names_fresh_drawings():
    measured = train_resnet.evaluate_resnet(train_resnet.FOLDER, seed=1, videos_per_kind=2)
    assert measured["accuracy"] > 0.9
    assert measured["nearest_kind"] > 0.9


def test_the_bert_tells_fresh_captions_apart(bert):
    measured = train_bert.evaluate_bert(bert, seed=1, captions=100)
    assert measured["retrieval"] > 0.95
    assert measured["synonyms"] > 0.95
    assert measured["label_cosine"] < 0.9


def test_an_encoder_that_nobody_trained_is_refused(tmp_path: Path):
    with pytest.raises(EncoderError, match="does not say what its encoder was trained on"):
        require_trained(tmp_path, "abc")
    facts = {"command": "python -m x", "seed": 0, "steps": 5, "examples": 1, "trained_on": "words"}
    write_facts(tmp_path, TrainingFacts(**facts, weights_sha256="abc", measured={"accuracy": 1.0}))
    assert require_trained(tmp_path, "abc").measured == {"accuracy": 1.0}
    with pytest.raises(EncoderError, match=r"about other weights .* python -m x"):
        require_trained(tmp_path, "def")
    for change in ({"steps": 0}, {"measured": {}}):
        content = json.loads((tmp_path / FACTS_FILE).read_text()) | change
        (tmp_path / "changed").mkdir(exist_ok=True)
        (tmp_path / "changed" / FACTS_FILE).write_text(json.dumps(content))
        with pytest.raises(EncoderError, match="no training step or of no measurement"):
            require_trained(tmp_path / "changed", "abc")
    (tmp_path / FACTS_FILE).write_text('{"steps": 3}')
    with pytest.raises(EncoderError, match="holds no facts"):
        require_trained(tmp_path, "abc")


def test_the_bert_is_written_as_transformers_reads_it(tmp_path: Path):
    facts = train_bert.train(tmp_path, steps=2)
    encoder = load_bert(BertSpec(str(tmp_path)))
    assert require_trained(tmp_path, encoder.weights_sha256) == facts
    assert load_bert(BertSpec(str(tmp_path))).weights_sha256 == facts.weights_sha256


def test_every_word_of_the_world_is_a_token():
    words = train_bert.vocabulary()
    assert len(set(words)) == len(words)
    assert {"bell", "siren", "golden", "wallpaper", "-"} <= set(words)


def test_masking_hides_a_share_and_never_special_tokens():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 50, (200, 20), generator=generator)
    special = torch.zeros_like(tokens, dtype=torch.bool)
    special[:, 0] = True
    hidden, wanted = train_bert.mask_tokens(tokens, special, 4, 50, generator)
    chosen = wanted != train_bert.IGNORED
    assert not chosen[:, 0].any()
    assert 0.12 < chosen[:, 1:].float().mean() < 0.18
    assert torch.equal(wanted[chosen], tokens[chosen])
    assert torch.equal(hidden[~chosen], tokens[~chosen])
    assert 0.75 < (hidden[chosen] == 4).float().mean() < 0.85


def test_what_cannot_be_said_of_a_picture_costs_nothing():
    wanted = train_resnet.targets([Facts(NOTHING, None, "dots"), Facts(0, "golden", "wall")])
    sizes = (NOTHING + 1, len(train_resnet.COLOURS), len(train_resnet.PLACES))
    logits = [torch.zeros(2, size) for size in sizes]
    before = train_resnet.naming_loss(logits, wanted)
    logits[1][0] = torch.randn(sizes[1])
    assert torch.equal(train_resnet.naming_loss(logits, wanted), before)
    logits[0][1, 0] += 1
    assert train_resnet.naming_loss(logits, wanted) < before
