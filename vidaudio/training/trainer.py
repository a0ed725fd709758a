"""Lightning's trainer, set up for a run: device, precision, ranks, how often what happens."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from tqdm import tqdm

from vidaudio.encoders.spec import best_precision
from vidaudio.errors import RecipeError
from vidaudio.separation import Separator, headline_figures
from vidaudio.tasks.separation.recipe import TrainRecipe
from vidaudio.training.distributed import current_rank
from vidaudio.training.state_files import PeriodicStates, StateIO

if TYPE_CHECKING:
    from vidaudio.tasks.separation.module import SeparationModule

# To look at the loss makes the device wait, so not at every step of a fast system.
BAR_EVERY_SECONDS = 2.0


def prepare_for_device(model: Separator, recipe: TrainRecipe) -> Separator:
    """A model as the recipe wants it worked through: the order of its numbers in memory, its U-Net compiled or not."""
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if recipe.compile:
        # A look for compilers of CUDA extensions, of which there are none here.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        model.unet.compile(backend=recipe.compile_backend)
    return model


def make_trainer(recipe: TrainRecipe, folder: Path, callbacks: list[pl.Callback], logger: Logger | None) -> pl.Trainer:
    """A trainer for this process's place.

    Raises:
        RecipeError: More processes than GPUs, or an option that GPUs alone have.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    here = current_rank()
    gpus = torch.cuda.device_count()
    if gpus and here.local_world_size > gpus:
        raise RecipeError(f"{here.local_world_size} processes on this machine were asked for, and it has {gpus} GPUs")
    if recipe.sync_batch_norm and here.world_size > 1 and not gpus:
        raise RecipeError("sync_batch_norm needs GPUs: PyTorch has it for them alone")
    parts = recipe.data.accumulate
    precision = best_precision() if recipe.precision == "auto" else recipe.precision
    trainer = pl.Trainer(
        # One more, or Lightning would not even enter a run that owes only its last validation; `CheckpointCallback`
        # takes it back.
        max_steps=recipe.schedule.steps + 1,
        accelerator="auto" if here.world_size == 1 else ("cuda" if gpus else "cpu"),
        devices=here.local_world_size,
        num_nodes=here.nodes,
        strategy=_strategy(gpus) if here.world_size > 1 else "auto",
        # Said outright, or a Slurm job around the process would be taken for Lightning's to save and requeue.
        plugins=[TorchElasticEnvironment() if here.world_size > 1 else LightningEnvironment(), StateIO()],
        sync_batchnorm=recipe.sync_batch_norm and here.world_size > 1,
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
        gradient_clip_val=recipe.optimiser.gradient_clip_norm,
        accumulate_grad_batches=parts,
        # Lightning counts the parts of steps here.
        val_check_interval=recipe.validate_every_steps * parts,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=logger or False,
        callbacks=callbacks,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    # It asks all ranks before every part of a step, on the device, which has to catch up first; `GracefulStop` asks
    # instead.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer


def _strategy(gpus: int) -> DDPStrategy:
    # Statistics of BatchNorm are rank 0's and copied before a validation, not at every step: a rank without a part of
    # the last validation batch would be waited for.
    return DDPStrategy(
        process_group_backend="nccl" if gpus else "gloo", broadcast_buffers=False, gradient_as_bucket_view=True
    )


def state_writer(recipe: TrainRecipe, folder: Path) -> list[pl.Callback]:
    """Return what writes states in the middle of anything, where the recipe wants them."""
    if recipe.state.every_steps is None:
        return []
    return [PeriodicStates(folder, recipe.state.every_steps, recipe.state.keep_last)]


class ProgressBar(pl.Callback):
    """Steps done, time left, and the numbers that say whether it learns."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._shown_next = -math.inf

    def on_train_start(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self.bar = tqdm(total=self.steps, initial=trainer.global_step, desc="training", unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, trainer: pl.Trainer, module: SeparationModule, outputs: Any, *_: Any) -> None:
        step = trainer.global_step
        if step == self.bar.n:
            return
        self.bar.update(step - self.bar.n)
        if time.monotonic() >= self._shown_next:
            self._shown_next = time.monotonic() + BAR_EVERY_SECONDS
            shown = {"loss": f"{float(outputs['loss']):.3f}", **headline_figures(module.validation_numbers or {})}
            self.bar.set_postfix(shown, refresh=False)

    def on_train_end(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self.bar.close()

    def on_exception(self, trainer: pl.Trainer, module: SeparationModule, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
