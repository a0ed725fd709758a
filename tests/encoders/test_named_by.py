"""Encoders that a file names cause no request, and open no place that the user has not named."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from vidaudio.encoders.bert import BertSpec, load_bert
from vidaudio.encoders.load import load_encoder, local_places
from vidaudio.encoders.named_by import NamedByFile, Unreachable, no_requests
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import EncoderError

FOREIGN = NamedByFile("foreign/corpus.json", "add --trust-encoder")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Hosts that anybody asks for; nobody is reached."""
    asked: list[object] = []

    def resolve(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("HOME", str(tmp_path))
    return asked


@pytest.mark.parametrize(
    ("architecture", "pretrained"),
    [
        ("hf-hub:nobody/nothing", None),
        ("ViT-B-16-SigLIP", "webli"),
        ("ViT-B-32-quickgelu", "metaclip_400m"),
        ("resnet18-dilated", "IMAGENET1K_V1"),
    ],
)
def test_a_file_that_names_an_encoder_causes_no_request(connections, architecture, pretrained) -> None:
    with pytest.raises(EncoderError, match="nothing is fetched") as caught:
        load_encoder(EncoderSpec(architecture, pretrained, "float32", named_by=FOREIGN))
    assert not connections
    assert "foreign/corpus.json names the encoder" in str(caught.value)
    assert "--trust-encoder" in str(caught.value)


def test_a_bert_that_a_file_names_causes_no_request(connections) -> None:
    with pytest.raises(EncoderError, match="nothing is fetched"):
        load_bert(BertSpec("nobody/nothing", "cls", FOREIGN))
    assert not connections


def test_a_place_is_opened_for_a_file_once_the_user_has_named_it(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDAUDIO_CACHE", str(tmp_path / "cache"))
    spec = EncoderSpec(str(tiny_clip), None, "float32", 2, FOREIGN)
    with pytest.raises(EncoderError, match="you have not named yourself"):
        load_encoder(spec)
    own = load_encoder(EncoderSpec(str(tiny_clip), None, "float32", 2))
    assert load_encoder(spec).fingerprint == own.fingerprint


def test_a_place_that_is_not_opened_is_not_even_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDAUDIO_CACHE", str(tmp_path / "cache"))
    answers = set()
    for name in ("there", "not-there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        for spec in (
            EncoderSpec(str(tmp_path / name), None, "float32", named_by=FOREIGN),
            EncoderSpec("ViT-B-32", str(tmp_path / name), "float32", named_by=FOREIGN),
            EncoderSpec("resnet18-dilated", str(tmp_path / name), "float32", named_by=FOREIGN),
        ):
            with pytest.raises(EncoderError) as caught:
                load_encoder(spec)
            answers.add(str(caught.value).replace("not-there", "there"))
    assert len(answers) == 3


def test_this_packages_own_encoders_are_open_to_all() -> None:
    assert local_places(EncoderSpec("{package}/demo/clip", None)) == []
    assert local_places(EncoderSpec("{package}/../../etc", None)) != []
    assert load_encoder(EncoderSpec("{package}/demo/clip", None, "float32", 2, FOREIGN)).dimensions


def test_only_the_thread_that_loads_is_cut_off() -> None:
    from huggingface_hub import constants

    server = socket.create_server(("127.0.0.1", 0))
    seen: list[bool] = []

    def elsewhere() -> None:
        with socket.create_connection(server.getsockname()):
            seen.append(bool(constants.HF_HUB_OFFLINE))

    with server, no_requests():
        assert constants.HF_HUB_OFFLINE
        with pytest.raises(Unreachable):
            socket.create_connection(server.getsockname())
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert seen == [False]
    assert not constants.HF_HUB_OFFLINE
