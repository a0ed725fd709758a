"""Names of tasks, as logs and Dask's keys have them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskId:
    """A task of one run; as a text, `<stage>-<part>`.

    Attributes:
        stage: Stage, without a hyphen.
        part: What the task works on: the number of a shard, six digits, or the name of a training shard.
        run: Id of the run, without a hyphen. It is part of the key, so that no run gets results of an older one.
    """

    stage: str
    part: str
    run: str

    def __str__(self) -> str:
        return f"{self.stage}-{self.part}"

    @property
    def key(self) -> str:
        """Return the task's key in Dask."""
        return f"{self.stage}-{self.part}-{self.run}"

    @classmethod
    def parse(cls, key: str) -> TaskId:
        """Return the task with this key."""
        name, _, run = key.rpartition("-")
        stage, _, part = name.partition("-")
        return cls(stage, part, run)
