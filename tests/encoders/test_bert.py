"""BERT behind the encoders' door: transformers' own states, the pooling asked for, an identity, plain errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidaudio.encoders.bert import BertSpec, load_bert
from vidaudio.errors import EncoderError


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_are_transformers_own(tiny_bert: Path, pooling: str):
    from transformers import AutoModel, AutoTokenizer

    encoder = load_bert(BertSpec(str(tiny_bert), pooling))
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_bert), AutoModel.from_pretrained(tiny_bert).eval()
    texts = ["low", "very high and middle"]
    found = encoder.embed_texts(texts)
    assert found.shape == (2, encoder.dimensions) == (2, 24)
    for text, vector in zip(texts, found, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else states.mean(dim=0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-6)


def test_a_vector_does_not_depend_on_the_others_and_a_label_is_its_words(tiny_bert: Path):
    encoder = load_bert(BertSpec(str(tiny_bert), "mean"))
    together = encoder.embed_texts(["low", "very high and middle"])
    np.testing.assert_array_equal(together[0], encoder.embed_texts(["low"])[0])
    np.testing.assert_array_equal(encoder.embed_label("very_high"), encoder.embed_texts(["very high"])[0])
    assert encoder.fingerprint["pooling"] == "mean"
    assert encoder.fingerprint["weights_sha256"] == load_bert(BertSpec(str(tiny_bert))).weights_sha256


def test_of_a_sentence_that_is_too_long_the_beginning_counts(tiny_bert: Path):
    """Also where there is a vocabulary alone, which does not say how long is too long."""
    bert = load_bert(BertSpec(str(tiny_bert)))
    long = bert.embed_texts(["low " * 30, "low " * 40])
    assert np.array_equal(long[0], long[1])


def test_what_is_no_bert_is_one_sentence(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"cannot be loaded.* query\.bert\.model"):
        load_bert(BertSpec(str(tmp_path)))


def test_no_bar_is_drawn_and_bars_of_others_are_drawn_again_afterwards(
    tiny_bert: Path, capsys: pytest.CaptureFixture[str]
):
    from transformers.utils import logging

    logging.enable_progress_bar()
    load_bert(BertSpec(str(tiny_bert)))
    assert "Loading" not in "".join(capsys.readouterr())
    assert logging.is_progress_bar_enabled()
