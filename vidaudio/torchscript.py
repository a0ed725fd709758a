"""Loading of TorchScript files that a user brings."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch


def load_torchscript(path: str, extra_files: dict[str, str] | None = None) -> torch.jit.ScriptModule:
    """Load a TorchScript file onto the CPU, in eval mode.

    Args:
        path: The file.
        extra_files: Names of further files inside it; their contents are filled in.

    Raises:
        ValueError: When the file is no TorchScript.
    """
    try:
        with without_deprecations():
            return torch.jit.load(path, map_location="cpu", _extra_files=extra_files).eval()
    except RuntimeError as error:
        raise ValueError(f"{path} is no TorchScript file: {str(error).splitlines()[0]}") from error


def is_torchscript(path: Path) -> bool:
    """Return whether a file is an archive of TorchScript; files of weights are archives too, without constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


@contextlib.contextmanager
def without_deprecations() -> Iterator[None]:
    """Keep PyTorch's advice on TorchScript files from the user, who did not make them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        # Newer PyTorch versions say it so.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
        yield
