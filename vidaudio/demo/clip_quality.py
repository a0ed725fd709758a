"""How good an encoder is at the demo world: zero-shot accuracy, and how far its pictures lie from its words.

CLIPSep trains on embeddings of pictures and is asked with embeddings of text. How well that carries over depends on the
modality gap (Liang et al. 2022, "Mind the gap"), so the demo measures it on drawings nobody trained on, rendered to
H.264 and decoded again like any other video.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import av
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torch import Tensor

from vidaudio.demo.render import render_video
from vidaudio.demo.world import KINDS, Purpose, derive_seed

FRAME_SIZE = 224
"""Pixels of a stored frame's side."""

JPEG_QUALITY = 92

PROMPTS = (
    "a photo of {}",
    "a photo of the small {}",
    "a low resolution photo of a {}",
    "a photo of many {}",
)
"""The four prompts whose mean embedding is a text query (CLIPSep, appendix)."""


def as_frame(picture: Image.Image) -> Image.Image:
    """A picture as it is stored: bicubic to 224 px on the short side, centre crop, JPEG; given back decoded."""
    picture = picture.convert("RGB")
    factor = FRAME_SIZE / min(picture.size)
    width, height = round(picture.width * factor), round(picture.height * factor)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - FRAME_SIZE) // 2, (height - FRAME_SIZE) // 2
    picture = picture.crop((left, top, left + FRAME_SIZE, top + FRAME_SIZE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return Image.open(buffer).convert("RGB")


def load_clip(folder: str | os.PathLike[str]) -> tuple[torch.nn.Module, object, SimpleTokenizer]:
    """Open a model written by `vidaudio.demo.train_clip`: (model in float32, preprocessing of a picture, tokenizer)."""
    folder = Path(folder)
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(folder / "bpe_vocabulary.txt.gz"))
    return model.eval(), preprocess, tokenizer


@torch.inference_mode()
def text_queries(model: torch.nn.Module, tokenizer: SimpleTokenizer) -> Tensor:
    """The text query of every kind: the mean raw embedding of its four prompts, [kinds, D]."""
    return torch.stack(
        [model.encode_text(tokenizer([p.format(kind.label) for p in PROMPTS])).mean(0) for kind in KINDS]
    )


@torch.inference_mode()
def image_embeddings(
    model: torch.nn.Module, preprocess: object, *, seed: int, videos_per_kind: int, purpose: Purpose = Purpose.CLIP_TEST
) -> Tensor:
    """Raw embeddings of three frames, a second apart, of fresh videos of every kind, [kinds, videos, 3, D].

    Args:
        model: An open_clip model.
        preprocess: Its preprocessing.
        seed: Seed of the drawings.
        videos_per_kind: Videos of each kind.
        purpose: What the drawings are derived for.
    """
    batches = []
    with tempfile.TemporaryDirectory(prefix="vidaudio-clip-") as scratch:
        path = Path(scratch) / "video.mp4"
        for kind in KINDS:
            frames = []
            for number in range(videos_per_kind):
                render_video(path, kind, derive_seed(purpose, seed, kind.label, number), duration=2.5)
                frames += [as_frame(picture) for picture in frames_each_second(path, 3)]
            pixels = torch.stack([preprocess(frame) for frame in frames])
            batches.append(model.encode_image(pixels).reshape(videos_per_kind, 3, -1))
    return torch.stack(batches)


def frames_each_second(path: Path, count: int) -> list[Image.Image]:
    """The frames shown at 0, 1, 2 ... s."""
    pictures: list[Image.Image] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if len(pictures) < count and frame.time is not None and frame.time >= len(pictures) - 1e-6:
                pictures.append(frame.to_image())
    return pictures


def evaluate_clip(folder: str | os.PathLike[str], *, seed: int = 0, videos_per_kind: int = 12) -> dict[str, float]:
    """Measure a model on held-out videos.

    Args:
        folder: Where the model's files are.
        seed: Seed of the drawings, of purpose `CLIP_TEST`.
        videos_per_kind: Videos of every kind, three frames each.

    Returns:
        zero_shot_accuracy: share of single frames nearest (cosine) to their own kind's text query.
        modality_gap: distance of the mean normalised image embedding from the mean normalised text query.
        matched_cosine, mismatched_cosine: mean cosine of a frame and the text query of its kind, and of another kind.
        text_by_image_centroid: share of text queries whose nearest mean raw image embedding is their own kind's.
        raw_text_offset: distance of a text query from its kind's mean raw image embedding, relative to the mean
            distance between two kinds' mean image embeddings.
        image_norm, text_norm: mean norms of raw embeddings.
    """
    model, preprocess, tokenizer = load_clip(folder)
    frames = image_embeddings(model, preprocess, seed=seed, videos_per_kind=videos_per_kind).flatten(1, 2)
    return gap_report(frames, text_queries(model, tokenizer))


def gap_report(frames: Tensor, texts: Tensor) -> dict[str, float]:
    """The figures of `evaluate_clip` from raw embeddings: frames [kinds, frames, D] and text queries [kinds, D]."""
    kinds = torch.arange(len(texts))
    unit_frames, unit_texts = F.normalize(frames, dim=-1), F.normalize(texts, dim=-1)
    cosines = torch.einsum("knd,td->knt", unit_frames, unit_texts)
    matched = cosines[kinds, :, kinds].mean()
    mismatched = (cosines.sum() - cosines[kinds, :, kinds].sum()) / (cosines.numel() - cosines[..., 0].numel())
    centroids = frames.mean(1)
    between = torch.cdist(centroids, centroids)
    spread = between.sum() / (len(texts) * (len(texts) - 1))
    to_centroids = torch.cdist(texts, centroids)
    return {
        "zero_shot_accuracy": float((cosines.argmax(-1) == kinds[:, None]).float().mean()),
        "modality_gap": float((unit_frames.mean((0, 1)) - unit_texts.mean(0)).norm()),
        "matched_cosine": float(matched),
        "mismatched_cosine": float(mismatched),
        "text_by_image_centroid": float(np.mean((to_centroids.argmin(-1) == kinds).numpy())),
        "raw_text_offset": float(to_centroids.diagonal().mean() / spread),
        "image_norm": float(frames.norm(dim=-1).mean()),
        "text_norm": float(texts.norm(dim=-1).mean()),
    }
