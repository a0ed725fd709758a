"""Contrast of separated sounds with the texts that asked for them, in a space of sound and text (L_CNT).

Mahmud et al., ICLR 2024: softmax cross entropy over the texts of a batch, from sound to text, with the temperature that
the frozen encoder was trained with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_losses(
    heard: Tensor,
    texts: Tensor,
    temperature: float,
    *,
    others: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
    names: Tensor | None = None,
    both_directions: bool = False,
    cap: float | None = None,
) -> Tensor:
    """Return the cross entropy of each sound, `[M]`.

    Args:
        heard: Unit vectors of the sounds, `[M, D]`; M may be 0.
        texts: Unit vectors of the texts that asked for them, `[M, D]`.
        temperature: Factor of the cosines; CLAP's exp(logit_scale_a).
        others: Sounds and texts of all ranks, `[A, D]` each, these among them from row `first` on; None for these.
        first: Row of the first sound in `others`.
        names: Number of each text, equal where texts are, int64 `[A]`; other sounds of an equal text are no negatives.
            None takes them for negatives, as the published code does.
        both_directions: Whether the mean with the other direction, from text to sound, is taken.
        cap: Cosine above which a sound gains nothing from being more like its text; None for no limit.
    """
    all_heard, all_texts = (heard, texts) if others is None else others
    own = torch.arange(first, first + len(heard), device=heard.device)
    losses = _cross_entropy(heard, all_texts, own, temperature, names, cap)
    if not both_directions:
        return losses
    return (losses + _cross_entropy(texts, all_heard, own, temperature, names, cap)) / 2


def _cross_entropy(
    asking: Tensor, answers: Tensor, own: Tensor, temperature: float, names: Tensor | None, cap: float | None
) -> Tensor:
    with torch.autocast(asking.device.type, enabled=False):
        cosines = asking.float() @ answers.float().T
        is_own = own[:, None] == torch.arange(len(answers), device=own.device)
        if cap is not None:
            cosines = torch.where(is_own, cosines.clamp(max=cap), cosines)
        if names is not None:
            is_same = names[own][:, None] == names[None]
            cosines = cosines.masked_fill(is_same & ~is_own, -torch.inf)
        return F.cross_entropy(temperature * cosines, own, reduction="none")
