"""Training by several processes, run after run, without paying for imports each time: `python -m ... JOBS.json`.

Everything is imported once; each run's ranks are forked from here, before any of PyTorch's threads exist, and find
their place in the environment as under torchrun. A job says what `train` is called with and what is watched:

    recipe, settings, data, run, resume   as for `vidaudio train`
    ranks         processes
    record        folder: RANK.jsonl gets a line a part of a step: stream step, rows, loss to the last bit; RANK.judged
                  a line a validation: the hash of the model that was validated
    kill_after    steps after which all ranks end by SIGKILL
    term_after    steps after which the ranks in `term_ranks` send themselves and their loader processes `signal`
    term_in_validation   the same, but at the first batch of a validation
    signal        its name; SIGTERM if not given
    freeze        BatchNorm uses and keeps its statistics, so that parts of a batch do not see one another
    synchronise   BatchNorm over all ranks: the conversion that GPUs get, whose layers here compute over gloo
    gradients     folder: STEP.pt gets rank 0's gradients of every step, before they are clipped
    copy          [from, to]: nothing is trained, a folder is copied

Prints each job's exit codes as JSON.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import vidaudio.training.train as training
from vidaudio.cli import _stop
from vidaudio.encoders.base import weights_hash
from vidaudio.errors import VidaudioError
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.training.base import TrainingModule, TrainingTask
from vidaudio.training.distributed import all_reduce_sum, mean_over_ranks


class NormOverRanks(torch.nn.BatchNorm2d):
    """BatchNorm of the batches of all ranks together, by its definition; PyTorch has it for GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        # In float64, so that a division of the batch changes nothing but the last bit.
        values, count = x.double(), x.numel() // x.shape[1]
        mean = mean_over_ranks(values.mean(dim=(0, 2, 3)), count)
        centred = values - mean[:, None, None]
        variance = mean_over_ranks(centred.square().mean(dim=(0, 2, 3)), count)
        total = all_reduce_sum(torch.tensor(count))
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_((variance * total / (total - 1)).to(self.running_var), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x)


class WatchedLoop(training.TrainingLoop):
    """Loop that records, disturbs and freezes, as the job says."""

    job: ClassVar[dict[str, Any]] = {}

    def __init__(self, task: TrainingTask, module: TrainingModule, **named: Any) -> None:
        if self.job.get("synchronise"):
            module.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module.model)
            for part in module.model.modules():
                if isinstance(part, torch.nn.SyncBatchNorm):
                    part.__class__ = NormOverRanks
        super().__init__(task, module, **named)
        if "record" in self.job:
            folder = Path(self.job["record"])
            folder.mkdir(parents=True, exist_ok=True)
            self.file = (folder / f"{os.environ['RANK']}.jsonl").open("a")

    def fetch(self, batches):
        # When the next step begins, whatever belongs to the step before has been done.
        if self.steps_done >= self.job.get("kill_after", math.inf):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fetch(batches)

    def backward(self, batch, optimiser, *, is_last):
        if self.job.get("freeze"):
            for part in self.module.modules():
                if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                    part.eval()
        loss = super().backward(batch, optimiser, is_last=is_last)
        if "record" in self.job:
            # As it is summed over the parts.
            found = float(loss / self.task.recipe.data.accumulate)
            line = {"part": batch["step"], "rows": batch["rows"].tolist(), "loss": found.hex()}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        return loss

    def update(self, optimiser, wrapped) -> None:
        if "gradients" in self.job and self.fabric.is_global_zero:
            folder = Path(self.job["gradients"])
            folder.mkdir(parents=True, exist_ok=True)
            found = {name: parameter.grad.clone() for name, parameter in self.module.model.named_parameters()}
            torch.save(found, folder / f"{self.steps_done}.pt")
        super().update(optimiser, wrapped)

    def finish_step(self, loss) -> None:
        super().finish_step(loss)
        if self.job.get("term_after") == self.steps_done:
            self._signal()

    def validate_batch(self, batch) -> None:
        if self.job.get("term_in_validation"):
            self._signal()
        super().validate_batch(batch)

    def validate(self) -> None:
        super().validate()
        if "record" in self.job:
            path = Path(self.job["record"]) / f"{os.environ['RANK']}.judged"
            with path.open("a") as file:
                file.write(f"{weights_hash(self.module.eval_model)}\n")

    def _signal(self) -> None:
        if self.fabric.global_rank in self.job["term_ranks"]:
            number = signal.Signals[self.job.get("signal", "SIGTERM")]
            for process in multiprocessing.active_children():
                os.kill(process.pid, number)
            os.kill(os.getpid(), number)


def run_rank(job: dict[str, Any]) -> None:
    """As the command line would."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    WatchedLoop.job = job
    training.TrainingLoop = WatchedLoop
    recipe = load_train_recipe(job.get("recipe", "clipsep"), job["settings"])
    train(recipe, job["data"], job["run"], resume=job.get("resume", False), progress=False)


def run_job(job: dict[str, Any]) -> list[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children = []
    for rank in range(job["ranks"]):
        child = os.fork()
        if child:
            children.append(child)
            continue
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["ranks"], "LOCAL_WORLD_SIZE": job["ranks"]}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        code = 70
        try:
            run_rank(job)
            code = 0
        except VidaudioError as error:
            print(f"rank {rank}: {error}", file=sys.stderr)
            code = error.exit_code
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main() -> None:
    codes = []
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if "copy" in job:
            shutil.copytree(*job["copy"])
            codes.append([])
        else:
            codes.append(run_job(job))
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
