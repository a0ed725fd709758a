"""Which encoder it was: fingerprints that differ whenever vectors could, and clear words where there is none."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import EncoderError

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"


@pytest.fixture
def folder(tiny_clip: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_clip, tmp_path / "clip")


def described(folder: Path, precision: str = "float32", batch_size: int = 4) -> tuple[str, str]:
    encoder = load_encoder(EncoderSpec(str(folder), None, precision, batch_size))
    return json.dumps(encoder.fingerprint, sort_keys=True), encoder.name


def change_weights(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["visual.proj"][0, 0] += 1e-3
    save_file(tensors, folder / WEIGHTS)


def change_config(folder: Path, block: str, key: str, value: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config[block][key] = value
    (folder / CONFIG).write_text(json.dumps(config))


def test_loading_twice_gives_one_fingerprint(folder: Path):
    assert described(folder) == described(folder)


def test_fingerprint_and_name_change_with_the_weights(folder: Path):
    before = described(folder)
    change_weights(folder)
    after = described(folder)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_fingerprint_does_not_change_with_the_weights_container(folder: Path):
    before = described(folder)
    torch.save(load_file(folder / WEIGHTS), folder / "open_clip_pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    assert described(folder) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", [0.5, 0.5, 0.3]),
        ("std", [0.25, 0.3, 0.21]),
        ("interpolation", "bilinear"),
        ("resize_mode", "squash"),
    ],
)
def test_fingerprint_changes_with_the_preprocessing(folder: Path, key: str, value: object):
    before = described(folder)
    change_config(folder, "preprocess_cfg", key, value)
    assert described(folder)[0] != before[0]


def test_fingerprint_changes_with_dtype_and_batch_size(folder: Path):
    prints = {described(folder, p, b)[0] for p in ("float32", "bfloat16") for b in (4, 8)}
    assert len(prints) == 4
    assert described(folder, "float32")[1] != described(folder, "bfloat16")[1]


def test_auto_is_resolved_before_it_is_recorded(folder: Path):
    encoder = load_encoder(EncoderSpec(str(folder), None, "auto", 4))
    assert encoder.fingerprint["precision"] in ("float32", "bfloat16", "float16")


def test_weights_out_of_reach_say_at_once_how_to_name_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """No name resolves, as on a machine without a network. The hub's own client would retry for most of a minute."""

    def resolves_nothing(host: str, *_: object, **__: object) -> list:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    asked: list[str] = []
    slept: list[float] = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", resolves_nothing)
    monkeypatch.setattr("time.sleep", slept.append)
    with caplog.at_level(logging.WARNING), pytest.raises(EncoderError) as caught:
        load_encoder(EncoderSpec("ViT-B-16-SigLIP", "webli", "float32"))
    message = str(caught.value)
    assert "ViT-B-16-SigLIP/webli" in message
    assert "--set embed.encoder.pretrained=/path/to/weights.safetensors" in message
    assert "\n" not in message
    assert asked
    assert not slept
    assert not caplog.records
    from huggingface_hub import constants

    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("architecture", "pretrained", "words"),
    [
        ("ViT-B-23", "openai", "did you mean ViT-B-32"),
        ("nothing-like-it", "openai", "no architecture 'nothing-like-it'"),
        ("ViT-B-32", "opneai", "neither a weights file nor a tag of ViT-B-32"),
        ("ViT-B-32", "/nowhere/weights.pt", "neither a weights file nor a tag"),
        ("ViT-B-32", None, "needs weights"),
        ("/nowhere/config.json", "x.pt", "there is no model config /nowhere/config.json"),
        ("local-dir:/nowhere", None, "/nowhere has no open_clip_config.json"),
    ],
)
def test_names_that_lead_nowhere_are_explained(architecture: str, pretrained: str | None, words: str):
    with pytest.raises(EncoderError, match=words):
        load_encoder(EncoderSpec(architecture, pretrained, "float32"))


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(EncoderError, match="'float8' is not one of auto, float32"):
        load_encoder(EncoderSpec(precision="float8"))


@pytest.mark.parametrize("damage", ["truncated", "noise", "empty", "missing", "other shapes"])
def test_weights_that_cannot_be_read_are_named(folder: Path, damage: str):
    weights = folder / WEIGHTS
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:50_000])
    elif damage == "noise":
        weights.write_bytes(b"not weights" * 1000)
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "missing":
        weights.unlink()
    else:
        change_config(folder, "model_cfg", "embed_dim", 48)
    with pytest.raises(EncoderError, match="cannot be loaded") as caught:
        load_encoder(EncoderSpec(str(folder), None, "float32"))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_executed(folder: Path, tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"visual.proj": Evil()}, folder / "open_clip_pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_encoder(EncoderSpec(str(folder), None, "float32"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is not JSON"), ("3", "no embed_dim, vision_cfg"), ('{"embed_dim": 8}', "vision_cfg, text_cfg")],
)
def test_a_bad_model_config_is_named_and_spoils_no_later_look_up(
    tmp_path: Path, folder: Path, content: str, words: str
):
    config = tmp_path / "bad.json"
    config.write_text(content)
    with pytest.raises(EncoderError, match=words):
        load_encoder(EncoderSpec(str(config), "weights.pt", "float32"))
    good = tmp_path / "good-model.json"
    good.write_text(json.dumps(json.loads((folder / CONFIG).read_text())["model_cfg"]))
    assert load_encoder(EncoderSpec(str(good), str(folder / WEIGHTS), "float32", 4)).dimensions == 32


def test_a_bad_config_in_a_folder_is_named(folder: Path):
    (folder / CONFIG).write_text("{")
    with pytest.raises(EncoderError, match="is not JSON"):
        load_encoder(EncoderSpec(str(folder), None, "float32"))
