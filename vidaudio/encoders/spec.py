"""Which encoder: architecture, weights, precision, what goes in, and who named it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from vidaudio.encoders.named_by import NamedByFile
from vidaudio.errors import EncoderError
from vidaudio.stream.vector_columns import VectorInput

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
RESNET = "resnet18-dilated"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Choice of an encoder, and how it is run.

    Attributes:
        architecture: A name that open_clip knows (`ViT-B-32`), an `hf-hub:` name, a folder with `open_clip_config.json`
            and weights, or a model config `.json`. `{package}` is replaced by the folder of this package.
            `resnet18-dilated` is Sound-of-Pixels' image encoder, see vidaudio.encoders.resnet.
        pretrained: A tag of open_clip (`openai`) or a local weights file; not used for folders and hubs.
        precision: `auto`, see `best_precision`, or a dtype's name.
        batch_size: Inputs per forward pass; part of the identity, since in bfloat16 it changes the last bits.
        named_by: The corpus or checkpoint that names the encoder; None if the user names it. An encoder that a file
            names is not downloaded, and is read only from places that the user has named before.
        input: What goes in: `frames` (pictures), `sound` or `text`.
        sample_rate: Sample rate of the sound that goes in, Hz; None for other encoders.
    """

    architecture: str = "ViT-B-32"
    pretrained: str | None = "openai"
    precision: str = "auto"
    batch_size: int = 64
    named_by: NamedByFile | None = field(default=None, compare=False)
    input: VectorInput = "frames"
    sample_rate: int | None = None

    def resolved(self) -> EncoderSpec:
        """Return a copy with the precision `auto` replaced by this machine's best one.

        Raises:
            EncoderError: When there is no such precision, or the sample rate does not fit what goes in.
        """
        precision = best_precision() if self.precision == "auto" else self.precision
        if precision not in DTYPES:
            raise EncoderError(f"precision {precision!r} is not one of auto, {', '.join(DTYPES)}")
        if (self.input == "sound") != (self.sample_rate is not None):
            raise EncoderError(
                f"{self.architecture}: an encoder of sound has a sample rate, and no other encoder has one"
            )
        return replace(self, precision=precision)


def best_precision() -> str:
    """Return `bfloat16` on a GPU or CPU that supports it, `float16` on other GPUs, otherwise `float32`."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    native = any(
        getattr(torch.cpu, test, lambda: False)() for test in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return "bfloat16" if native else "float32"


def spelled(spec: EncoderSpec) -> str:
    """Return an encoder as users write it: architecture and weights."""
    return spec.architecture if spec.pretrained is None else f"{spec.architecture}/{spec.pretrained}"
