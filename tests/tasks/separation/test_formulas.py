"""Every system of train/, from one batch of a corpus to its loss, equals what its paper says, written a second time.

The second writing gets the batch, the weights and the encoders' own files, and uses nothing of the package: how the
samples are mixed, transformed and warped, which vector a source is asked with, the networks, the heads and the loss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertModel, BertTokenizer

from tests.packed import make_packed
from tests.separation import slow_parts
from tests.separation import slow_reference as slow
from tests.trained import TINY
from vidaudio.tasks.data import indexes
from vidaudio.tasks.queries.text_queries import first_labels, text_table
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.checkpoint import build_model
from vidaudio.tasks.separation.data import streams
from vidaudio.tasks.separation.module import SeparationModule
from vidaudio.tasks.separation.query_factory import make_query_encoder
from vidaudio.tasks.separation.recipe import SeparationRecipe

# The label of each clip in turn.
LABELS = ("low", "very high", "middle")
N_FFT, HOP, ROWS, LEVELS = 1024, 256, 32, 3
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Recipe, and the optimiser's step: of the hybrid, an even one and an odd one.
CASES = [
    ("clipsep", 0),
    ("clipsep_nit", 0),
    ("clipsep_text", 0),
    ("clipsep_hybrid", 4),
    ("clipsep_hybrid", 7),
    ("labelsep", 0),
    ("bertsep", 0),
    ("sop", 0),
    ("frozen sop", 0),
    ("sop_original", 0),
    ("pit", 0),
]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory, encoder_fingerprint: dict, resnet_weights: Path) -> dict:
    from vidaudio.encoders.load import load_encoder
    from vidaudio.encoders.spec import EncoderSpec

    folder = tmp_path_factory.mktemp("formulas")
    resnet = load_encoder(EncoderSpec("resnet18-dilated-64", str(resnet_weights), "float32", 4)).fingerprint
    options: dict[str, Any] = {"labels": LABELS, "clips_per_split": {"train": 9}}
    return {
        "clip": make_packed(folder / "clip", encoder_fingerprint, picture_size=32, **options),
        "resnet": make_packed(folder / "resnet", resnet, **options),
    }


@pytest.fixture(scope="module")
def recipe_of(tiny_bert: Path, resnet_weights: Path) -> Callable[[str, int], SeparationRecipe]:
    pictures = f"query.pictures.weights={resnet_weights}"
    further = {
        "bertsep": (f"query.bert.model={tiny_bert}",),
        "frozen sop": ("query={kind: pictures, pictures: {trained: false}}", pictures),
        "sop_original": (
            "model.front_end={sample_rate: 16000, n_fft: 1024}",
            "data.frame_spacing_seconds=1",
            "query.pictures.augment=false",
            pictures,
        ),
        "clipsep_nit": ("model.noise={gamma: 0.3, activation_weight: 0.2, start_step: 0}",),
    }

    def recipe(name: str, sources: int) -> SeparationRecipe:
        sizes = f"data={{batch_size: 2, workers: 0, sources: {sources}}}"
        file = "sop" if name == "frozen sop" else name
        return load_train_recipe(file, (*TINY, sizes, *further.get(name, ())))

    return recipe


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize(("name", "step"), CASES, ids=[f"{name}-{step}" for name, step in CASES])
def test_a_systems_loss_equals_the_formulas(
    name: str,
    step: int,
    sources: int,
    corpora: dict[str, Path],
    recipe_of: Callable[[str, int], SeparationRecipe],
    tiny_clip: Path,
    tiny_bert: Path,
    resnet_weights: Path,
):
    recipe = recipe_of(name, sources)
    stream, _ = streams(recipe, str(corpora["resnet" if name == "sop" else "clip"]))
    found_labels = first_labels(indexes(stream)) if name == "labelsep" else ()
    maker = make_query_encoder(recipe, encoder=stream.index.encoder, labels=found_labels)
    table = {"train": text_table(indexes(stream), maker, training=True)} if "text" in maker.modalities else {}
    model = build_model(recipe, maker.dimensions, len(maker.labels)).eval()
    _far_from_the_beginning(model)
    batch = stream.batch(1)
    # Loud everywhere: no pixel is so faint that rounding decides whose it is.
    batch["audio"] = torch.randint(-20_000, 20_000, batch["audio"].shape, dtype=torch.int16)
    module = SeparationModule(model, recipe, stream, None, maker, table)
    found = module(batch, step=step).item()

    weights = model.state_dict()
    labels = [[LABELS[row % 3] for row in rows] for rows in batch["rows"].tolist()]
    if name in ("clipsep", "clipsep_nit", "sop") or (name == "clipsep_hybrid" and step % 2 == 0):
        asked = batch["vectors"].double().mean(dim=2).tolist()
    elif name in ("clipsep_text", "clipsep_hybrid"):
        asked = [[_clip_text(tiny_clip, f"a photo of {label}") for label in each] for each in labels]
    elif name == "labelsep":
        learned = weights["query.embedding.weight"].tolist()
        asked = [[learned[sorted(LABELS).index(label)] for label in each] for each in labels]
    elif name == "bertsep":
        asked = [[_bert_text(tiny_bert, label) for label in each] for each in labels]
    elif name == "frozen sop":
        body = load_file(resnet_weights)
        asked = [[_frozen_resnet(body, window) for window in each] for each in batch["frames"]]
    elif name == "sop_original":
        asked = [[_picture_vector(weights, window) for window in each] for each in batch["frames"]]
    else:
        asked = None
    assert found == pytest.approx(_loss(name, recipe, weights, batch, asked), rel=1e-5, abs=1e-5)


@torch.no_grad()
def _far_from_the_beginning(model: torch.nn.Module) -> None:
    """Weights and statistics so large that every term of the formulas counts; but for the ResNet's own."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if "body" in name or not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("norm.weight", "scale")):
            tensor.uniform_(0.5, 1.5)
        else:
            tensor.normal_(0, 0.5 if name.startswith(("noise", "heads")) else 0.15)


def _loss(
    name: str, recipe: SeparationRecipe, weights: dict[str, Tensor], batch: dict[str, Any], asked: list | None
) -> float:
    """Of a batch, from its samples, its gains and what is asked for, `[B][N]` vectors."""
    features, magnitudes, mixtures = [], [], []
    for samples, gains in zip(batch["audio"].numpy(), batch["gains"].numpy(), strict=True):
        parts = slow_parts.mixed(samples, gains.astype(np.float64))
        warped = [
            slow_parts.warped(np.abs(slow_parts.direct_stft(sound, N_FFT, HOP)), ROWS)
            for sound in (*parts, parts.sum(axis=0))
        ]
        mixture = warped[-1] + 1e-10
        unet = {key.removeprefix("unet."): value for key, value in weights.items() if key.startswith("unet.")}
        features.append(slow_parts.unet(unet, torch.from_numpy(np.log(mixture))[None, None], LEVELS)[0].tolist())
        magnitudes.append([each.tolist() for each in warped[:-1]])
        mixtures.append(mixture.tolist())
    if name == "pit":
        heads, bias = weights["heads.weight"][:, :, 0, 0].tolist(), weights["heads.bias"].tolist()
        return slow.pit_loss([slow.pit_masks(each, heads, bias) for each in features], magnitudes, mixtures)

    def masks(vectors: list) -> list:
        scale, bias = weights["fusion.scale"].tolist(), weights["fusion.bias"].item()
        return [
            [slow.mask(each, vector, scale, bias) for vector in of_one]
            for each, of_one in zip(features, vectors, strict=True)
        ]

    if name == "sop_original":
        vectors = asked
    else:
        matrix, bias = weights["query.linear.weight"].tolist(), weights["query.linear.bias"].tolist()
        vectors = [[slow.linear(matrix, bias, each) for each in of_one] for of_one in asked]
    if name != "clipsep_nit":
        return slow.clipsep_loss(masks(vectors), magnitudes, mixtures)
    heads = [
        (weights[f"noise.heads.{n}.weight"].tolist(), weights[f"noise.heads.{n}.bias"].tolist())
        for n in range(len(vectors[0]))
    ]
    noises = masks([slow.noise_vectors(heads, of_one, "mean") for of_one in vectors])
    activation = slow.nit_activation(noises)
    assert activation > 0.3, "the regulariser would not be seen"
    return slow.nit_mask_loss(masks(vectors), noises, magnitudes, mixtures) + 0.2 * (activation - 0.3)


@functools.cache
@torch.no_grad()
def _clip_text(folder: Path, sentence: str) -> list[float]:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval().encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")([sentence]))[0].tolist()


@functools.cache
@torch.no_grad()
def _bert_text(folder: Path, words: str) -> list[float]:
    """The last state of the first token."""
    tokens = BertTokenizer(str(folder / "vocab.txt"))(words, return_tensors="pt")
    return BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0, 0].tolist()


def _frozen_resnet(body: dict[str, Tensor], window: Tensor) -> list[float]:
    """The largest of each map, CLIP's normalisation, mean over the pictures."""
    maps = slow_parts.resnet_maps(body, slow_parts.normalised(window, CLIP_MEAN, CLIP_STD))
    return maps.flatten(2).max(dim=2).values.mean(dim=0).tolist()


def _picture_vector(weights: dict[str, Tensor], window: Tensor) -> list[float]:
    """ImageNet's normalisation, a convolution to k maps, the largest of each over places and pictures."""
    body = {key.removeprefix("query.body."): value for key, value in weights.items() if key.startswith("query.body.")}
    maps = slow_parts.resnet_maps(body, slow_parts.normalised(window, IMAGENET_MEAN, IMAGENET_STD))
    matrix, bias = weights["query.project.weight"].double(), weights["query.project.bias"].double()
    return F.conv2d(maps, matrix, bias, padding=1).amax(dim=(0, 2, 3)).tolist()
