"""Files of weights that others publish: read without executing anything in them, and filled into networks of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vidaudio.errors import EncoderError

# Where checkpoints of whole trainings keep the weights.
MODEL = "model"
# What pickles of NumPy's values name, in NumPy 1 and 2.
_NUMPY_NAMES = (
    *(("numpy", name) for name in ("dtype", "ndarray")),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a PyTorch file, by their names; those under `model`, if any.

    Raises:
        EncoderError: When the file cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with _numpy_values_left_out():
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Broken zip files, pickles and headers raise a dozen error types; all mean that this is not a weights file.
        raise EncoderError(f"{path} cannot be read as weights ({type(error).__name__})") from error
    tensors = found.get(MODEL, found) if isinstance(found, dict) else found
    if not isinstance(tensors, dict) or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise EncoderError(f"{path} holds no table of weights")
    return dict(tensors)


def fill(network: nn.Module, tensors: Mapping[str, Tensor], where: str, title: str) -> None:
    """Fill a network with weights.

    Args:
        network: The network to fill.
        tensors: Its weights, all of them and no others; counters of BatchNorm may be missing.
        where: Name of the weights in messages.
        title: Name of the network in messages, with its article.

    Raises:
        EncoderError: When the weights belong to another network.
    """
    wanted = network.state_dict()
    # BatchNorm counts its batches in a buffer that affects no output.
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    wrong = sorted((set(wanted) - counters) ^ (set(tensors) - counters))
    wrong += [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    if wrong:
        raise EncoderError(f"{where} holds no weights of {title} ({wrong[0]} does not fit)")
    network.load_state_dict(tensors, strict=False)


class _LeftOut:
    """Value in a file that is not kept."""

    def __init__(self, *parts: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Classes that take the place of NumPy's, under NumPy's names, which are those in the files.
_LEFT_OUT: list[Any] = [
    type(name, (_LeftOut,), {"__module__": module, "__qualname__": name}) for module, name in _NUMPY_NAMES
]


@contextlib.contextmanager
def _numpy_values_left_out() -> Iterator[None]:
    """Let PyTorch read files with NumPy's values, such as a training's counters, without making these values."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(_LEFT_OUT)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
