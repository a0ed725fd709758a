"""The dilated ResNet-18: output stride 16, torchvision's weights, global maximum, CLIP's normalisation."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.resnet import ResNetEncoder
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import EncoderError
from vidaudio.separation import DilatedResNet18


@pytest.fixture(scope="module")
def encoder(resnet_weights: Path) -> ResNetEncoder:
    return load_encoder(EncoderSpec("resnet18-dilated-64", str(resnet_weights), "float32", 4))


def test_the_last_stage_keeps_a_sixteenth_and_every_second_place_is_torchvisions(resnet_weights: Path):
    whole = resnet18()
    whole.load_state_dict(load_file(resnet_weights))
    dilated = DilatedResNet18()
    dilated.load_state_dict({n: t for n, t in whole.state_dict().items() if not n.startswith("fc.")})
    whole.eval(), dilated.eval()
    pixels = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        fine = dilated(pixels)
        x = whole.maxpool(whole.relu(whole.bn1(whole.conv1(pixels))))
        coarse = whole.layer4(whole.layer3(whole.layer2(whole.layer1(x))))
    assert fine.shape == (1, 512, 8, 8)
    # A stride of 2 picks every second place of what dilation computes everywhere.
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, atol=1e-4, rtol=1e-4)


def test_a_vector_is_the_maximum_over_places_of_clip_normalised_pixels(encoder: ResNetEncoder, resnet_weights: Path):
    model = DilatedResNet18().eval()
    model.load_state_dict({n: t for n, t in load_file(resnet_weights).items() if not n.startswith("fc.")})
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    pixels = ((torch.from_numpy(picture).float() / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = model(pixels).flatten(2).max(dim=2).values[0].numpy()
    found = encoder.embed_images([Image.fromarray(picture)])
    assert found.shape == (1, 512)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    on_device = encoder.embed_pixels(torch.from_numpy(picture).permute(2, 0, 1)[None, None])
    np.testing.assert_allclose(on_device[0, 0].cpu().numpy(), expected, atol=1e-4)
    # In training it is called under autocast, and computes all the same what a query afterwards will.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = encoder.embed_pixels(torch.from_numpy(picture).permute(2, 0, 1)[None, None])
    assert torch.equal(again, on_device)


def test_the_fingerprint_has_what_a_corpus_records_of_any_encoder(encoder: ResNetEncoder, tiny_clip: Path):
    clip = load_encoder(EncoderSpec(str(tiny_clip), None, "float32", 4))
    assert encoder.fingerprint.keys() == clip.fingerprint.keys()
    assert encoder.name.startswith("resnet18-dilated-64-float32-")


def test_a_pth_file_is_read_without_executing_it(resnet_weights: Path, tmp_path: Path, encoder: ResNetEncoder):
    tensors = load_file(resnet_weights)
    torch.save(tensors, tmp_path / "resnet18.pth")
    again = load_encoder(EncoderSpec("resnet18-dilated", str(tmp_path / "resnet18.pth"), "float32", 4))
    assert again.weights_sha256 == encoder.weights_sha256
    assert again.image_size == 224

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"conv1.weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(EncoderError, match="cannot be read as weights"):
        load_encoder(EncoderSpec("resnet18-dilated", str(tmp_path / "bomb.pth")))
    assert not (tmp_path / "exploded").exists()


def test_what_does_not_fit_is_named(resnet_weights: Path, tmp_path: Path):
    tensors = copy.copy(load_file(resnet_weights))
    tensors["conv1.weight"] = tensors["conv1.weight"][:32].clone()
    save_file(tensors, tmp_path / "odd.safetensors")
    cases = [
        ("conv1.weight does not fit", "resnet18-dilated", str(tmp_path / "odd.safetensors")),
        ("neither a weights file nor one of torchvision's names", "resnet18-dilated", "nowhere.pth"),
        ("needs weights", "resnet18-dilated", None),
        ("did you mean resnet18-dilated", "resnet18-dilatedd", str(resnet_weights)),
    ]
    for message, architecture, weights in cases:
        with pytest.raises(EncoderError, match=message):
            load_encoder(EncoderSpec(architecture, weights, "float32"))
