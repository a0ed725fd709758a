"""Lightning Fabric for a run: device, precision, and how the processes of the run share their gradients."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from vidaudio.encoders.spec import best_precision
from vidaudio.errors import RecipeError
from vidaudio.training.base import TrainingModule
from vidaudio.training.distributed import current_rank
from vidaudio.training.recipe import CommonRecipe


def make_fabric(recipe: CommonRecipe, *, optimisers: int = 1) -> Fabric:
    """Return a launched Fabric for this process's rank.

    Args:
        recipe: Recipe of the run.
        optimisers: Number of optimisers; with several, a backward pass reaches only some of the parameters.

    Raises:
        RecipeError: When there are more processes than GPUs, or an option needs GPUs and there are none.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    here = current_rank()
    gpus = torch.cuda.device_count()
    if gpus and here.local_world_size > gpus:
        raise RecipeError(f"{here.local_world_size} processes on this machine were asked for, and it has {gpus} GPUs")
    if recipe.sync_batch_norm and here.world_size > 1 and not gpus:
        raise RecipeError("sync_batch_norm needs GPUs: PyTorch has it for them alone")
    precision = best_precision() if recipe.precision == "auto" else recipe.precision
    distributed = here.world_size > 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning_fabric")
        fabric = Fabric(
            accelerator=("cuda" if gpus else "cpu") if distributed else "auto",
            devices=here.local_world_size,
            num_nodes=here.nodes,
            strategy=_ddp(gpus, optimisers) if distributed else "auto",
            plugins=[
                # Named here, or Fabric would take a Slurm job around the process for its own.
                TorchElasticEnvironment() if distributed else LightningEnvironment(),
                _Autocast("bf16-mixed", "cuda" if gpus else "cpu") if precision == "bfloat16" else Precision(),
            ],
        )
        fabric.launch()
    return fabric


class _Autocast(MixedPrecision):
    """Autocast to bfloat16 for computations, not for the batch: gains, vectors and sound keep their precision."""

    def convert_input(self, data: Any) -> Any:
        """Return the batch unchanged."""
        return data


def _ddp(gpus: int, optimisers: int) -> DDPStrategy:
    # BatchNorm's statistics are copied from rank 0 before a validation, not at every forward pass: the ranks would
    # wait for one that has no part of the last validation batch.
    return DDPStrategy(
        process_group_backend="nccl" if gpus else "gloo",
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        find_unused_parameters=optimisers > 1,
    )


def prepare_for_device(module: TrainingModule, recipe: CommonRecipe) -> None:
    """Apply the recipe's memory format, compilation and synchronised BatchNorm to a module, in place."""
    if recipe.channels_last:
        module.model.to(memory_format=torch.channels_last)
    if recipe.sync_batch_norm and current_rank().world_size > 1:
        module.model = nn.SyncBatchNorm.convert_sync_batchnorm(module.model)
    if recipe.compile:
        # PyTorch looks for compilers of CUDA extensions, and warns if there are none.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        module.compile_parts(recipe.compile_backend)
