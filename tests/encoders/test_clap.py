"""CLAP: transformers' own vectors of sound and words, each by itself, and plain errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small_clap import write_small_clap
from vidaudio.encoders.clap import ClapEncoder, load_clap
from vidaudio.encoders.named_by import NamedByFile
from vidaudio.errors import EncoderError
from vidaudio.stream.index_checks import check_fingerprint

RATE = 48_000


@pytest.fixture(scope="module")
def clap(tiny_clap: Path) -> ClapEncoder:
    return load_clap(str(tiny_clap))


def sounds(seconds: float, count: int = 3) -> torch.Tensor:
    """Return noise at other levels, with a tone of another pitch each."""
    times, number = torch.arange(int(seconds * RATE)) / RATE, torch.arange(1.0, count + 1)[:, None]
    noise = torch.randn(count, len(times), generator=torch.Generator().manual_seed(0))
    return 0.3 * torch.sin(2 * torch.pi * 200 * 3**number * times) + 0.1 * noise / 10**number


@pytest.mark.parametrize("fusion", [False, True])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("seconds", [2.0, 0.7])
def test_vectors_of_sound_are_transformers_own(tmp_path: Path, fusion: bool, padding: str, seconds: float):
    from transformers import ClapFeatureExtractor, ClapModel

    folder = write_small_clap(tmp_path / "clap", fusion=fusion, padding=padding)
    encoder, heard = load_clap(str(folder)), sounds(seconds)
    features = ClapFeatureExtractor.from_pretrained(folder)
    mels = features(list(heard.numpy()), sampling_rate=RATE, return_tensors="pt").input_features.float()
    torch.testing.assert_close(encoder._mel(heard), mels, atol=1e-2, rtol=1e-3)
    with torch.inference_mode():
        expected = ClapModel.from_pretrained(folder).eval().get_audio_features(mels, torch.zeros(3, 1)).pooler_output
    found = encoder.embed_audio(heard)
    assert found.shape == (3, encoder.dimensions) == (3, 24)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    assert float((found[0] - found[1]).norm()) > 0.01


def test_vectors_that_are_kept_do_not_depend_on_a_trainings_autocast(clap: ClapEncoder):
    texts, heard = ["low", "a sound of high"], sounds(2.0)

    def embedded() -> list[torch.Tensor]:
        return [clap.embed_text(texts), *clap.text_states(texts), clap.embed_audio(heard)]

    expected, in_float32 = embedded(), clap.sound_vectors(heard)
    with torch.autocast(clap.device.type, torch.bfloat16):
        assert all(torch.equal(one, other) for one, other in zip(expected, embedded(), strict=True))
        # What is trained through follows the training's precision.
        assert not torch.equal(clap.sound_vectors(heard), in_float32)


def test_vectors_of_words_are_transformers_own(tiny_clap: Path, clap: ClapEncoder):
    from transformers import AutoTokenizer, ClapModel

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_clap), ClapModel.from_pretrained(tiny_clap).eval()
    texts = ["low", "a sound of high"]
    with torch.inference_mode():
        expected = [model.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output[0] for text in texts]
    torch.testing.assert_close(clap.embed_text(texts), torch.stack(expected))
    mean = (expected[0] + model.get_text_features(**tokenizer("a low", return_tensors="pt")).pooler_output[0]) / 2
    torch.testing.assert_close(clap.embed_label("low", ("{}", "a {}")), mean.detach())


def test_no_vector_depends_on_the_others(clap: ClapEncoder):
    heard, texts = sounds(1.3, 5), ["low", "a sound of middle high", "high"]
    assert torch.equal(clap.embed_audio(heard)[3:4], clap.embed_audio(heard[3:4]))
    assert torch.equal(clap.embed_text(texts)[1:2], clap.embed_text(texts[1:2]))
    assert clap.embed_text([]).shape == clap.embed_audio(heard[:0]).shape == (0, 24)


def test_of_long_sound_the_middle_is_heard_and_of_a_long_sentence_the_beginning(clap: ClapEncoder):
    heard = sounds(3.0, 2)
    middle = heard[:, RATE // 2 : RATE // 2 + 2 * RATE]
    assert torch.equal(clap.embed_audio(heard), clap.embed_audio(middle))
    long = clap.embed_text(["low " * 30, "low " * 40])
    assert torch.equal(long[0], long[1])


def test_a_sentence_that_is_cut_is_reported_once(tiny_clap: Path, caplog: pytest.LogCaptureFixture):
    clap = load_clap(str(tiny_clap))
    clap.embed_text(["low", "low " * 30, "low " * 40])
    clap.text_states(["a low", "high " * 5], tokens=6)
    first, second = caplog.messages
    assert re.search(r"^'low low .* \.\.\.' has 32 tokens, and the CLAP \w+ reads the first 16 of a text", first)
    assert second.startswith("'high high high high high ' has 7 tokens")


def test_sound_of_another_rate_is_resampled(clap: ClapEncoder):
    times = torch.arange(2 * RATE) / RATE
    tone = 0.3 * torch.sin(2 * torch.pi * 500 * times)[None]
    at_half = clap.embed_audio_at(tone[:, ::2], RATE // 2)
    assert float(torch.cosine_similarity(at_half, clap.embed_audio(tone))) > 0.99
    assert torch.equal(clap.embed_audio_at(tone, RATE), clap.embed_audio(tone))


def test_the_fingerprint_tells_weights_and_what_goes_in(tiny_clap: Path, clap: ClapEncoder, tmp_path: Path):
    assert clap.fingerprint["architecture"] == str(tiny_clap)
    assert (clap.fingerprint["input"], clap.fingerprint["sample_rate"]) == ("sound", RATE)
    assert check_fingerprint(clap.fingerprint)["window_seconds"] == 2.0
    other = load_clap(str(write_small_clap(tmp_path / "other", seed=1)))
    assert other.fingerprint["weights_sha256"] != clap.fingerprint["weights_sha256"]
    assert load_clap(str(tiny_clap)).fingerprint == clap.fingerprint


def test_what_is_no_clap_is_one_sentence(tiny_bert: Path, tmp_path: Path, clap: ClapEncoder, monkeypatch):
    with pytest.raises(EncoderError, match=r"the CLAP /nowhere cannot be loaded: there is no such folder\."):
        load_clap("/nowhere")
    with pytest.raises(EncoderError, match=r"cannot be loaded: the folder has no config\.json\."):
        load_clap(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"the CLAP .* cannot be loaded.*query\.clap\.model"):
        load_clap(str(tmp_path))
    with pytest.raises(EncoderError, match=r"the CLAP .* cannot be loaded"):
        load_clap(str(tiny_bert))
    partly = write_small_clap(tmp_path / "partly") / "model.safetensors"
    tensors = load_file(partly)
    save_file({name: tensor for name, tensor in tensors.items() if "text_projection" not in name}, partly)
    with pytest.raises(EncoderError, match=r"cannot be loaded: ValueError: the weights lack text_projection"):
        load_clap(str(partly.parent))
    with pytest.raises(EncoderError, match=r"\[N, samples\], not \[48\]"):
        clap.embed_audio(torch.zeros(48))
    with pytest.raises(EncoderError, match=r"\[N, samples\], not \[2, 0\]"):
        clap.embed_audio(torch.zeros(2, 0))
    monkeypatch.setattr("vidaudio.encoders.library_settings._answers", lambda _: False)
    with pytest.raises(EncoderError, match=r"the CLAP nobody/nothing cannot be loaded.*query\.clap\.model"):
        load_clap("nobody/nothing")


def test_a_clap_whose_parts_are_missing_or_anothers_is_refused(tmp_path: Path):
    folder = write_small_clap(tmp_path / "clap")
    # Without its tokenizer, every text would be begin and end alone, and all vectors one.
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"):
        if (folder / name).exists():
            (folder / name).rename(tmp_path / name)
    with pytest.raises(EncoderError, match=r"its tokenizer knows no words: tokenizer\.json, or vocabulary files"):
        load_clap(str(folder))
    folder = write_small_clap(tmp_path / "of another")
    facts = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(facts | {"hop_length": 10, "max_length_s": 10}))
    with pytest.raises(EncoderError, match=r"its parts do not fit together: .* is preprocessor_config.json this"):
        load_clap(str(folder))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match=r"the folder has no preprocessor_config\.json\."):
        load_clap(str(folder))


def test_a_folder_that_a_file_names_is_not_opened(tmp_path: Path):
    folder = write_small_clap(tmp_path / "named" / "by a file")
    with pytest.raises(EncoderError, match="a place of this machine that you have not named yourself"):
        load_clap(str(folder), NamedByFile("the checkpoint", "name it yourself"))
    load_clap(str(folder))
    assert load_clap(str(folder), NamedByFile("the checkpoint", "name it")).embed_text(["low"]).isfinite().all()


@pytest.mark.parametrize("fusion", [False, True])
@pytest.mark.parametrize("seconds", [0.7, 2.0, 3.1])
def test_vectors_with_gradient_are_those_of_embed_audio(tmp_path: Path, fusion: bool, seconds: float):
    encoder, heard = load_clap(str(write_small_clap(tmp_path / "clap", fusion=fusion))), sounds(seconds)
    heard.requires_grad_()
    found = encoder.sound_vectors(heard)
    torch.testing.assert_close(found.detach(), encoder.embed_audio(heard.detach()), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    (gradient,) = torch.autograd.grad(found[0, 0], heard)
    assert gradient[0].isfinite().all()
    assert gradient[0].any()
    # No sound depends on the others, and nothing is drawn.
    assert not gradient[1:].any()
    assert torch.equal(encoder.sound_vectors(heard), found)
    assert encoder.sound_vectors(heard[:0]).shape == (0, 24)
    assert not any(parameter.requires_grad for parameter in encoder._model.parameters())


def test_the_gradient_is_the_slope(clap: ClapEncoder):
    heard, text = sounds(0.5, 1), clap.embed_text(["low"]).clone()[0]

    def similarity(sound: torch.Tensor) -> torch.Tensor:
        return clap.sound_vectors(sound)[0] @ text

    heard.requires_grad_()
    (gradient,) = torch.autograd.grad(similarity(heard), heard)
    step = 2e-3 * gradient / gradient.norm()
    with torch.no_grad():
        slope = (similarity(heard + step) - similarity(heard - step)) / (2 * step.norm())
    assert float(slope) == pytest.approx(float(gradient.norm()), rel=0.05)


def test_silence_has_finite_gradients(clap: ClapEncoder):
    for heard in (torch.zeros(1, RATE), torch.cat([torch.zeros(1, RATE), sounds(0.5, 1)], dim=1)):
        heard.requires_grad_()
        (gradient,) = torch.autograd.grad(clap.sound_vectors(heard).sum(), heard)
        assert gradient.isfinite().all()


def test_the_spectrogram_is_precise_under_autocast(clap: ClapEncoder):
    heard, seen = sounds(0.5, 2), []
    hook = clap._mel.register_forward_hook(lambda module, given, found: seen.append(found))
    with torch.autocast("cpu", torch.bfloat16):
        assert clap.sound_vectors(heard).dtype == torch.float32
    hook.remove()
    assert torch.equal(seen[0], clap._mel(heard))


def test_states_are_transformers_own_and_their_vectors_those_of_embed_text(tiny_clap: Path, clap: ClapEncoder):
    from transformers import AutoTokenizer, ClapModel

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_clap), ClapModel.from_pretrained(tiny_clap).eval()
    # More than one block.
    texts = ["low", "a sound of high", "middle " * 20] * 30
    vectors, states = clap.text_states(texts, tokens=10)
    assert states.shape == (90, 10, 16)
    given = tokenizer(texts, return_tensors="pt", padding="max_length", max_length=10, truncation=True)
    with torch.inference_mode():
        expected = model.text_model(**given).last_hidden_state
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors[:2], clap.embed_text(texts[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors[2:3], clap.embed_text(["middle " * 8]), atol=1e-5, rtol=0)
    # The tiny model has 16 tokens at most, and its vectors are those of one sentence at a time.
    vectors, states = clap.text_states(texts[:3])
    assert states.shape == (3, 16, 16)
    torch.testing.assert_close(vectors, clap.embed_text(texts[:3]), atol=1e-5, rtol=0)
    assert not vectors.is_inference()
    assert [part.shape for part in clap.text_states([], tokens=5)] == [(0, 24), (0, 5, 16)]
    with pytest.raises(EncoderError, match="at least 3 tokens"):
        clap.text_states(texts, tokens=2)


def test_the_temperature_is_the_models_own(clap: ClapEncoder):
    assert clap.temperature == pytest.approx(float(clap._model.logit_scale_a.exp()))
    with torch.no_grad():
        clap._model.logit_scale_a += 1
        assert clap.temperature == pytest.approx(float(clap._model.logit_scale_a.exp()))
        clap._model.logit_scale_a -= 1
