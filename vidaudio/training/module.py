"""CLIPSep under Lightning: the step, the schedule, the validation. Everything heavy happens on the training device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from vidaudio.separation import CLIPSep, mix_sources
from vidaudio.separation.fast_sdr import image_sdr
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.loader import MixtureStream
from vidaudio.training.queries import image_queries
from vidaudio.training.recipe import Modality, TrainRecipe, rate_factor


@dataclass(frozen=True)
class TextTable:
    """Text queries of labelled samples: `vectors` float32 `[labels, D]`, and `of_row`, each row's label as a number."""

    vectors: Tensor
    of_row: Tensor


def text_table(index: TrainingIndex, queries: dict[str, np.ndarray]) -> TextTable:
    """Look-up from index rows to the text query of their first label."""
    labels = sorted(queries)
    number = {label: n for n, label in enumerate(labels)}
    of_row = [number[row[0]] for row in index.table["labels"].to_pylist()]
    return TextTable(torch.from_numpy(np.stack([queries[label] for label in labels])), torch.tensor(of_row))


class SeparationModule(pl.LightningModule):
    """Trains a CLIPSep on a `MixtureStream`.

    Args:
        model: Freshly built or with weights.
        recipe: Of the run.
        train_stream, validation_stream: Batches; validation may be None.
        text: Per split name, the text queries; needed only where the recipe queries by text.
    """

    def __init__(
        self,
        model: CLIPSep,
        recipe: TrainRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
        text: dict[str, TextTable] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.train_stream = train_stream
        self.validation_stream = validation_stream
        self.text = text or {}

    def queries(self, batch: dict[str, Tensor], modality: Modality, split: str) -> Tensor:
        """Query of every source of a batch, float32 `[B, N, D]`."""
        if modality == "image":
            return image_queries(batch["vectors"])
        table = self.text[split]
        return table.vectors.to(self.device)[table.of_row.to(self.device)[batch["rows"]]]

    def training_step(self, batch: dict[str, Any], _number: int) -> Tensor:
        queries = self.queries(batch, self.recipe.query.train, "train")
        losses = self.model.loss(batch["audio"], queries, batch["gains"])
        self.log("train/loss", losses["loss"], batch_size=len(queries))
        return losses["loss"]

    def validation_step(self, batch: dict[str, Any], _number: int) -> None:
        queries = self.queries(batch, self.recipe.query.validation, "validation")
        losses = self.model.loss(batch["audio"], queries)
        sources, mixture = mix_sources(batch["audio"])
        separated = self.model.separate(mixture, queries[:, 0])
        target = sources[:, 0, : separated.shape[-1]]
        sdr = image_sdr(target, separated)
        gain = (sdr - image_sdr(target, mixture[:, : separated.shape[-1]])).float()
        count = len(queries)
        self.log("validation/loss", losses["loss"], batch_size=count, sync_dist=True)
        heard = torch.isfinite(gain)
        if heard.any():
            self.log("validation/sdr_improvement", gain[heard].mean(), batch_size=int(heard.sum()), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        block = self.recipe.optimiser
        optimiser = torch.optim.Adam(
            self.model.parameters(),
            lr=block.learning_rate,
            betas=block.betas,
            eps=block.epsilon,
            weight_decay=block.weight_decay,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, self.recipe.schedule))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self):
        # The optimiser's own count is the one position that is exact: a loader has always read ahead of it.
        self.train_stream.set_start_step(self.trainer.global_step)
        return self.train_stream.loader(workers=self.recipe.data.workers)

    def val_dataloader(self):
        if self.validation_stream is None:
            return []
        return self.validation_stream.loader(workers=min(self.recipe.data.workers, 2))
