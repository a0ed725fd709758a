"""Builds as processes that start at once: forked from a harness that has imported everything and has one thread."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path


class Build:
    """One `vidaudio build` in a process of its own.

    Attributes:
        process_id: Of the driver.
        began: When it was started, `time.monotonic()`.
        code: Its exit code, negative for a signal; None while it runs.
    """

    def __init__(self, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
        self._log = log
        self.code: int | None = None
        self.began = time.monotonic()
        sys.stdout.flush()
        self.process_id = os.fork()
        if self.process_id == 0:
            _become_build(arguments, log, environment)

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.code is None:
            ended, status = os.waitpid(self.process_id, os.WNOHANG)
            if ended:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def kill(self) -> None:
        """End it and all it has started."""
        if self.poll() is None:
            os.killpg(self.process_id, signal.SIGKILL)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])

    def said(self) -> str:
        """All it wrote."""
        return self._log.read_text(errors="replace")


def _become_build(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """In the forked child: the command line, as `python -m vidaudio` would run it. Does not return."""
    code = 1
    try:
        os.setsid()
        os.environ.update(environment)
        with open(log, "wb", buffering=0) as file, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        import dask

        # Read before the harness knew its own: the workers of a local cluster preload what is set there.
        dask.config.refresh()
        from tests.chaos.points import install
        from vidaudio.cli import main

        install()
        sys.argv = ["vidaudio", *arguments]
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def preload() -> None:
    """Import what a build needs, once, before the first fork."""
    import bokeh.application
    import distributed
    import open_clip
    import pandas
    import torch

    import vidaudio.cli.app
    import vidaudio.encoders.clip
    import vidaudio.packs.write
    import vidaudio.pipeline.build

    torch.set_num_threads(1)
    del bokeh, distributed, open_clip, pandas, vidaudio
