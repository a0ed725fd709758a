"""Embedding models: what a file must give, what it says of itself, and the same vectors however many go together."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from vidaudio.encoders.embedding_models import DESCRIPTION, embed_in_batches, open_embedding
from vidaudio.errors import EncoderError


class Levels(nn.Module):
    """Level and peak of a sound."""

    def forward(self, sounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = torch.stack([sounds.square().mean(1), sounds.abs().amax(1)], 1)
        return vectors, vectors.softmax(1)


class Words(nn.Module):
    def forward(self, sounds: torch.Tensor) -> torch.Tensor:
        return sounds.mean()


def scripted(model: nn.Module, path, **described):
    torch.jit.save(torch.jit.script(model), str(path), _extra_files={DESCRIPTION: json.dumps(described)})
    return path


def test_a_torchscript_file_says_what_it_takes_and_knows(tmp_path):
    model = open_embedding(f"levels={scripted(Levels(), tmp_path / 'a.pt', sample_rate=8000, classes=['a', 'b'])}")
    assert (model.name, model.sample_rate, model.classes) == ("levels", 8000, ("a", "b"))
    sounds = np.random.default_rng(0).uniform(-1, 1, (3, 500)).astype(np.float32)
    found = model.embed(sounds)
    np.testing.assert_allclose(found.vectors[:, 0, 1], np.abs(sounds).max(1), rtol=1e-6)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-6)
    # Sounds of two lengths are embedded in their order.
    parts = list(embed_in_batches(model, [*sounds, sounds[0, :200]]))
    np.testing.assert_allclose([part.vectors[0, 0, 1] for part in parts[:3]], np.abs(sounds).max(1), rtol=1e-6)
    assert parts[3].vectors[0, 0, 1] == np.abs(sounds[0, :200]).max()


def test_a_description_may_lie_beside_the_file(tmp_path):
    path = tmp_path / "a.pt"
    torch.jit.save(torch.jit.script(Levels()), str(path))
    assert open_embedding(f"a={path}").sample_rate == 16_000
    (tmp_path / "a.pt.json").write_text('{"sample_rate": 32000}')
    assert open_embedding(f"a={path}").sample_rate == 32_000
    (tmp_path / "a.pt.json").write_text('{"sample_rate": "high"}')
    with pytest.raises(EncoderError, match=r"a\.pt cannot be used as an embedding model: .*high"):
        open_embedding(f"a={path}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yamnet.tflite", "NAME=PLACE"),
        ("a=missing.pt", "no file missing.pt"),
        ("a=missing.tflite", "no file missing.tflite"),
        ("a=./no such folder", "no such folder cannot be loaded"),
    ],
)
def test_what_is_no_model_is_refused_in_a_sentence(text, words, monkeypatch):
    monkeypatch.setattr("vidaudio.encoders.library_settings._answers", lambda url: False)
    with pytest.raises(EncoderError, match=words):
        open_embedding(text)


def test_files_of_another_kind_are_refused(tmp_path):
    refusals = {".ts": "no TorchScript file", ".pt": "cannot be read as weights", ".tflite": "no TFLite file"}
    for suffix, words in refusals.items():
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"not a model" * 100)
        with pytest.raises(EncoderError, match=words):
            open_embedding(f"a={path}")
    model = open_embedding(f"words={scripted(Words(), tmp_path / 'b.pt')}")
    with pytest.raises(EncoderError, match="gives no vectors"):
        model.embed(np.zeros((2, 100), np.float32))


def test_a_classifier_of_transformers_is_read_from_a_folder(tmp_path):
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ASTConfig(**sizes, max_length=64, num_mel_bins=32, id2label={0: "dog", 1: "rain"})
    ASTForAudioClassification(config).save_pretrained(tmp_path)
    ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(tmp_path)
    model = open_embedding(f"ast={tmp_path}")
    assert (model.sample_rate, model.classes) == (16_000, ("dog", "rain"))
    sounds = np.random.default_rng(0).uniform(-1, 1, (2, 8000)).astype(np.float32)
    found = model.embed(sounds)
    assert found.vectors.shape == (2, 1, 16)
    np.testing.assert_array_equal(model.embed(sounds[1:]).vectors[0], found.vectors[1])
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)


def test_yamnet_hears_what_real_sounds_are(shared_data):
    from vidaudio.manifest import read_esc
    from vidaudio.media.audio_files import read_sound
    from vidaudio.separation import resample

    model = open_embedding(f"yamnet={shared_data / 'weights' / 'yamnet.tflite'}")
    assert len(model.classes) == 521
    clips = read_esc(shared_data / "esc10" / "metadata.csv", test_folds=(4,)).clips
    names = {"dog": "Dog", "rooster": "Chicken, rooster", "chainsaw": "Chainsaw"}
    right = []
    for clip in [clip for clip in clips if clip.labels[0] in names][::6]:
        sound = read_sound(clip.url)
        found = model.embed(resample(sound.samples.mean(0), sound.sample_rate, 16_000)[None])
        assert found.vectors.shape == (1, 9, 1024)
        likely = [model.classes[number] for number in found.probabilities[0].argsort()[::-1][:5]]
        right.append(names[clip.labels[0]] in likely)
    assert np.mean(right) >= 0.8


def test_yamnets_vector_is_what_its_classifier_reads(shared_data):
    model = open_embedding(f"yamnet={shared_data / 'weights' / 'yamnet.tflite'}")
    network, noise = model._model, np.random.default_rng(0).normal(0, 0.1, (1, model.WINDOW)).astype(np.float32)
    (vector,) = model.embed(noise).vectors[0]
    tensors = {tuple(tensor["shape"]): tensor for tensor in network.get_tensor_details() if "dense" in tensor["name"]}
    weights, bias = (network.get_tensor(tensors[shape]["index"]) for shape in ((521, 1024), (521,)))
    logits = weights * np.float32(tensors[521, 1024]["quantization"][0]) @ vector + bias
    # The network rounds the vector to 8 bits before it classifies.
    np.testing.assert_allclose(network.get_tensor(model._scores)[0], 1 / (1 + np.exp(-logits)), atol=0.01)


def test_a_clap_embeds_sounds_and_words_in_one_space(tiny_clap):
    model = open_embedding(f"clap={tiny_clap}")
    sounds = np.random.default_rng(0).uniform(-1, 1, (2, 48_000)).astype(np.float32)
    found = model.embed(sounds)
    words = model.embed_words(["low sound", "high sound"])
    assert (model.sample_rate, found.vectors.shape[1:], words.shape[0]) == (48_000, (1, words.shape[1]), 2)
    assert found.probabilities is None
    np.testing.assert_array_equal(model.embed_words(["high sound"])[0], words[1])
