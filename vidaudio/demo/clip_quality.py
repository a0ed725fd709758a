"""Quality of an encoder on the demo world: zero-shot accuracy, and distance between image and text embeddings.

CLIPSep trains on image embeddings and is queried with text embeddings. How well that transfers depends on the modality
gap (Liang et al. 2022, "Mind the gap"). The demo therefore measures the gap on held-out drawings, which are rendered to
H.264 and decoded again like any other video.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torch import Tensor

from vidaudio.demo.render import render_video
from vidaudio.demo.world import KINDS, Purpose, derive_seed
from vidaudio.modality_gap import measure_gap

FRAME_SIZE = 224
"""Side of a stored frame in pixels."""

JPEG_QUALITY = 92

PROMPTS = (
    "a photo of {}",
    "a photo of the small {}",
    "a low resolution photo of a {}",
    "a photo of many {}",
)
"""The four prompts whose mean embedding is the text query of a label (CLIPSep, appendix)."""


def as_frame(picture: Image.Image) -> Image.Image:
    """Return a picture as it is stored: bicubic to 224 px on the short side, centre crop, JPEG, decoded again."""
    picture = picture.convert("RGB")
    factor = FRAME_SIZE / min(picture.size)
    width, height = round(picture.width * factor), round(picture.height * factor)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - FRAME_SIZE) // 2, (height - FRAME_SIZE) // 2
    picture = picture.crop((left, top, left + FRAME_SIZE, top + FRAME_SIZE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return Image.open(buffer).convert("RGB")


def load_clip(
    folder: str | os.PathLike[str],
) -> tuple[open_clip.CLIP, Callable[[Image.Image], Tensor], SimpleTokenizer]:
    """Load a model that `vidaudio.demo.train_clip` wrote: (float32 model, image preprocessing, tokenizer)."""
    folder = Path(folder)
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(folder / "bpe_vocabulary.txt.gz"))
    return model.eval(), preprocess, tokenizer


@torch.inference_mode()
def text_queries(model: open_clip.CLIP, tokenizer: SimpleTokenizer) -> Tensor:
    """Return the text query of every kind, [kinds, D]: the mean raw embedding of its four prompts."""
    return torch.stack(
        [model.encode_text(tokenizer([p.format(kind.label) for p in PROMPTS])).mean(0) for kind in KINDS]
    )


@torch.inference_mode()
def image_embeddings(
    model: open_clip.CLIP,
    preprocess: Callable[[Image.Image], Tensor],
    *,
    seed: int,
    videos_per_kind: int,
    purpose: Purpose = Purpose.CLIP_TEST,
) -> Tensor:
    """Return raw embeddings of three frames, a second apart, of new videos of every kind, [kinds, videos, 3, D].

    Args:
        model: An open_clip model.
        preprocess: Image preprocessing of the model.
        seed: Seed of the drawings.
        videos_per_kind: Number of videos per kind.
        purpose: Purpose that the seeds of the drawings are derived for.
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
    """Return the first frame at or after each of the times 0, 1, 2 ... s, at most `count` frames."""
    pictures: list[Image.Image] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if len(pictures) < count and frame.time is not None and frame.time >= len(pictures) - 1e-6:
                pictures.append(frame.to_image())
    return pictures


def evaluate_clip(folder: str | os.PathLike[str], *, seed: int = 0, videos_per_kind: int = 12) -> dict[str, float]:
    """Measure a model on held-out videos.

    Args:
        folder: Folder of the model's files.
        seed: Seed of the drawings, of purpose `CLIP_TEST`.
        videos_per_kind: Number of videos per kind, with three frames each.

    Returns:
        zero_shot_accuracy: share of single frames whose nearest text query (cosine) is that of their own kind.
        modality_gap: distance between the mean normalised image embedding and the mean normalised text query.
        matched_cosine, mismatched_cosine: mean cosine of a frame and the text query of its own kind, and of another
            kind.
        text_by_image_centroid: share of text queries whose nearest mean raw image embedding is that of their own kind.
        raw_text_offset: mean distance of a text query from its kind's mean raw image embedding, divided by the mean
            distance between two kinds' mean image embeddings.
        image_cosine, text_cosine: mean cosine of two frames, and of two text queries.
        image_norm, text_norm: mean norms of raw embeddings.
    """
    model, preprocess, tokenizer = load_clip(folder)
    frames = image_embeddings(model, preprocess, seed=seed, videos_per_kind=videos_per_kind).flatten(1, 2)
    return gap_report(frames, text_queries(model, tokenizer))


def gap_report(frames: Tensor, texts: Tensor) -> dict[str, float]:
    """Compute `evaluate_clip`'s figures from raw embeddings: frames [kinds, frames, D], text queries [kinds, D]."""
    kinds = torch.arange(len(texts))
    gap = measure_gap(frames.flatten(0, 1), texts, kinds.repeat_interleave(frames.shape[1]).tolist(), kinds.tolist())
    centroids = frames.mean(1)
    between = torch.cdist(centroids, centroids)
    spread = between.sum() / (len(texts) * (len(texts) - 1))
    to_centroids = torch.cdist(texts, centroids)
    return {
        "zero_shot_accuracy": gap.image_recall,
        "modality_gap": gap.centroid_distance,
        "matched_cosine": gap.matched_cosine,
        "mismatched_cosine": gap.mismatched_cosine,
        "image_cosine": gap.image_cosine,
        "text_cosine": gap.text_cosine,
        "text_by_image_centroid": float(np.mean((to_centroids.argmin(-1) == kinds).numpy())),
        "raw_text_offset": float(to_centroids.diagonal().mean() / spread),
        "image_norm": float(frames.norm(dim=-1).mean()),
        "text_norm": float(texts.norm(dim=-1).mean()),
    }
