"""What a run keeps: `last.ckpt` to go on from, and the best weights by validation.

Files appear complete or not at all.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch

from vidaudio.training.checkpoint import BEST_FILE, LAST_FILE, save_checkpoint
from vidaudio.training.distributed import all_gather_object
from vidaudio.training.state_files import plain_errors
from vidaudio.training.state_reading import KEPT

if TYPE_CHECKING:
    from vidaudio.tasks.separation.module import SeparationModule
    from vidaudio.tasks.separation.queries import QueryEncoder
    from vidaudio.tasks.separation.recipe import TrainRecipe


class CheckpointCallback(pl.Callback):
    """Writes the state at every validation, when the run is stopped and at its end; the weights when they are better.

    What a state must know beside weights, optimiser and schedule is in its `state_dict`, and so in every state that
    Lightning writes, whoever asked for it.

    Args:
        folder: Of the run.
        recipe: Of the run.
        maker: Of the system's queries.
        data: What the streams' data are called, see `MixtureStream.identity`.
        shares: How often each of several corpora is drawn from.
        training_sources: Hashes of the sources that are trained on.
    """

    def __init__(
        self,
        folder: Path,
        recipe: TrainRecipe,
        maker: QueryEncoder,
        *,
        data: str,
        shares: list[float],
        training_sources: np.ndarray | None = None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.maker = maker
        self.data = data
        self.shares = shares
        self.training_sources = training_sources
        self.best_loss = math.nan
        self._validated_step = 0
        self._generators: list[dict[str, Any]] | None = None

    @property
    def state_key(self) -> str:
        """Under which its part of a state is found again, whatever the class is called some day."""
        return KEPT

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_loss": self.best_loss,
            "data": self.data,
            "shares": self.shares,
            "validated_step": self._validated_step,
            "recipe": self.recipe.model_dump(mode="json"),
            "encoder": self.maker.encoder,
            "labels": list(self.maker.labels),
            "training_sources": None if self.training_sources is None else torch.from_numpy(self.training_sources),
            # Every rank has its own.
            "generators": all_gather_object(generator_states()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_loss = state_dict["best_loss"]
        self._validated_step = state_dict.get("validated_step", 0)
        self._generators = state_dict.get("generators")

    def on_load_checkpoint(self, trainer: pl.Trainer, module: SeparationModule, checkpoint: dict[str, Any]) -> None:
        reset_loop_counters(checkpoint, trainer.accumulate_grad_batches)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: SeparationModule, checkpoint: dict[str, Any]) -> None:
        module.require_finite()

    def on_train_start(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        if self._generators is not None and len(self._generators) == trainer.world_size:
            set_generators(self._generators[trainer.global_rank])
        every = self.recipe.validate_every_steps
        step = trainer.global_step
        if trainer.enable_validation and step and step % every == 0 and self._validated_step != step:
            # The run was stopped between this step and its validation.
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
        trainer.fit_loop.epoch_loop.max_steps = self.recipe.schedule.steps

    def on_validation_end(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self._validated_step = trainer.global_step
        loss = module.validation_numbers["validation/loss"]
        if math.isfinite(loss) and not loss >= self.best_loss:
            self.best_loss = loss
            self._save_weights(trainer, module)
        self.save_state(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        # Where nothing is validated, the last weights are all there is to keep, after going on as well.
        unjudged = module.validation_stream is None or not (self.folder / BEST_FILE).is_file()
        if trainer.is_global_zero and unjudged:
            self._save_weights(trainer, module)
        self.save_state(trainer)

    def save_state(self, trainer: pl.Trainer) -> None:
        """Write `last.ckpt`; all ranks together."""
        trainer.save_checkpoint(self.folder / LAST_FILE)

    def _save_weights(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        if not trainer.is_global_zero:
            return
        numbers = module.validation_numbers or {}
        metrics = {name: round(value, 6) if math.isfinite(value) else None for name, value in numbers.items()}
        with plain_errors(self.folder / BEST_FILE):
            save_checkpoint(
                self.folder / BEST_FILE,
                module.eval_model,
                self.recipe,
                self.maker.encoder,
                trainer.global_step,
                {"metrics": metrics},
                self.maker.labels,
                self.training_sources,
            )


def reset_loop_counters(checkpoint: dict[str, Any], parts: int) -> None:
    """Bring Lightning's counters to what they are between two steps, wherever in a step's hooks the state was saved.

    It counts batches; with another number of accumulated parts a step, the same steps are another number of batches.
    """
    step = checkpoint["global_step"]
    loop = checkpoint["loops"]["fit_loop"]
    progress = loop["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts.update(dict.fromkeys(("ready", "started", "processed", "completed"), step * parts))
    progress["is_last_batch"] = False
    validation = loop["epoch_loop.val_loop.batch_progress"]
    for counts in (validation["total"], validation["current"]):
        counts.update(dict.fromkeys(counts, 0))


def generator_states() -> dict[str, Any]:
    """Of all random generators of this process, as plain values."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [name, keys.tolist(), *rest],
        "python": random.getstate(),
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Put generators into the states of `generator_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    np.random.set_state(tuple(states["numpy"]))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
