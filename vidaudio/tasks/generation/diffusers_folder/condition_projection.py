"""Projection of conditions: vectors of any length to what is added to the U-Net's embedding of time."""

from __future__ import annotations

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional


class ConditionProjection(ModelMixin, ConfigMixin):
    """Linear layer after vectors are brought to the length sqrt(D), at which the generator was trained.

    Args:
        dimensions: Dimensions of a vector (D).
        outputs: Width of the embedding of time.
    """

    @register_to_config
    def __init__(self, dimensions: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimensions, outputs)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the projections of vectors, `[N, D]` to `[N, outputs]`."""
        fixed = functional.normalize(vectors.float(), dim=-1) * vectors.shape[-1] ** 0.5
        return self.linear(fixed.to(self.linear.weight.dtype))
