"""Settings of a batch system, `dask.cluster`, with the checks that are possible without the batch system."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from vidaudio.config.recipes import RecipeModel


def _memory(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?\s*[kKMGT]i?B", text):
        raise ValueError("wants a size with its unit, as in 16GB")
    return text


def _walltime(text: str) -> str:
    if not re.fullmatch(r"(\d+-)?\d+(:\d\d){1,2}|\d+", text):
        raise ValueError("wants a time as the batch system writes it, in quotes: '24:00:00'")
    return text


def _scheduler(text: str) -> str:
    if not re.fullmatch(r"(tcp|tls|ucx|wss?)://\S+", text):
        raise ValueError("wants an address such as tcp://host:8786")
    return text


def _listen(text: str) -> str:
    if not re.fullmatch(r"([\w.-]*|\[[0-9a-fA-F:]+\]):\d{1,5}", text):
        raise ValueError("wants host:port, as in 127.0.0.1:8787; port 0 takes a free one")
    return text


SchedulerAddress = Annotated[str, AfterValidator(_scheduler)]
ListenAddress = Annotated[str, AfterValidator(_listen)]
Memory = Annotated[str, AfterValidator(_memory)]
Walltime = Annotated[str, AfterValidator(_walltime)]

# Options that the block's other keys set, or that vidaudio relies on.
_NOT_EXTRA = frozenset(
    {
        *("cores", "memory", "queue", "walltime", "interface", "processes", "name", "scheduler", "protocol"),
        *("security", "nanny", "worker_command", "config_name", "extra", "job_extra", "env_extra", "header_skip"),
    }
)


def _extra(values: dict[str, Any]) -> dict[str, Any]:
    mine = sorted(_NOT_EXTRA & set(values))
    if mine:
        raise ValueError(f"has no place for {', '.join(mine)}: the block's own keys or vidaudio itself set that")
    return values


Extra = Annotated[dict[str, Any], AfterValidator(_extra)]


class GpuJobsBlock(RecipeModel):
    """Jobs that embed, each with one GPU. Omitted keys are those of the other jobs; `extra` adds to their extra."""

    jobs: int = Field(1, ge=1)
    cores: int | None = Field(None, ge=1)
    memory: Memory | None = None
    walltime: Walltime | None = None
    queue: str | None = None
    extra: Extra = Field(default_factory=dict, description="asks for the GPU: {job_extra_directives: ['--gres=gpu:1']}")


class ClusterBlock(RecipeModel):
    """Jobs of a batch system, submitted by dask-jobqueue.

    Each job runs one Dask worker, which fetches and decodes. It also embeds, unless there are `gpu` jobs.
    """

    kind: Literal["slurm", "pbs", "sge", "lsf", "htcondor", "oar", "moab", "local"]
    jobs: int = Field(ge=1, description="how many; those that end at their wall time are submitted anew")
    cores: int = Field(1, ge=1, description="of a job; as many clips are decoded side by side")
    memory: Memory = "8GB"
    walltime: Walltime | None = Field(None, description="many times what one shard takes: what a job had begun is lost")
    queue: str | None = None
    downloads: int = Field(1, ge=1, description="shards that one job fetches side by side")
    interface: str | None = Field(None, description="network of scheduler and workers: ib0")
    host: str | None = Field(None, description="address at which the scheduler listens, instead of interface")
    extra: Extra = Field(default_factory=dict, description="handed to dask-jobqueue's job: account, log_directory ...")
    gpu: GpuJobsBlock | None = None

    @model_validator(mode="after")
    def _lasts(self) -> ClusterBlock:
        if self.walltime is None and self.kind not in ("htcondor", "local"):
            raise ValueError("walltime is missing; dask-jobqueue would ask for 30 minutes, too short for a slow shard")
        return self
