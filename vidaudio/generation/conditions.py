"""Conditions: the vectors that tell a generator what to sound like, at one fixed length.

Encoders differ in the length of their vectors: about 10 for OpenAI's CLIP, 1 for CLAP, and priors have scales of their
own. Every vector is converted to the length sqrt(D) where it enters (LAION's scale), so that a generator that was
trained with pictures' vectors can be asked with any other's.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def fixed_length(vectors: Tensor) -> Tensor:
    """Return vectors `[..., D]` with the length sqrt(D); a vector of zeros stays one."""
    return functional.normalize(vectors.float(), dim=-1) * vectors.shape[-1] ** 0.5
