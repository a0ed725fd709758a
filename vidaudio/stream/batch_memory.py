"""Memory of a batch that is sent from a loader process to the training process.

PyTorch copies every tensor that a loader process sends into shared memory, unless the tensor is there already. The
receiver opens each piece of shared memory over a connection of its own, which takes as long as reading some windows. So
the large tensors of a batch share one piece of memory from the beginning, and small tensors are sent inside the
message.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from vidaudio.errors import PackError
from vidaudio.stream.loader_errors import readable

ALIGNMENT_BYTES = 64
SMALL_BYTES = 1 << 16


def allocate_shared(parts: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, Tensor]:
    """Return uninitialised tensors, one after another in one piece of memory, shared when called in a loader process.

    Args:
        parts: Shape and data type of each tensor, by name.
    """
    starts, total = {}, 0
    for name, (shape, dtype) in parts.items():
        starts[name] = total
        total += -(-math.prod(shape) * dtype.itemsize // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    # As in PyTorch's own collation: memory that is made shared later is copied.
    storage = torch.UntypedStorage(total) if get_worker_info() is None else torch.UntypedStorage._new_shared(total)
    whole = torch.empty(0, dtype=torch.uint8).set_(storage)
    found = {}
    for name, (shape, dtype) in parts.items():
        end = starts[name] + math.prod(shape) * dtype.itemsize
        found[name] = whole[starts[name] : end].view(dtype).view(shape)
    return found


def write_pictures(pictures: np.ndarray, place: Tensor) -> None:
    """Copy a sample's pictures into a batch, both uint8 `[F, 3, H, W]`.

    Raises:
        PackError: When the pictures differ in size from the batch's first.
    """
    if pictures.shape != place.shape:
        raise PackError(
            f"pictures of {pictures.shape[-2]} x {pictures.shape[-1]} cannot be put into one batch with those of "
            f"{place.shape[-2]} x {place.shape[-1]}: corpora that are mixed must be packed with one size"
        )
    place.numpy()[:] = pictures


def shareable(batch: Any) -> Any:
    """Wrap a batch for transfer from a loader process, as the `collate_fn` of a DataLoader.

    The wrapped batch is unpickled as the same dictionary in the training process. In the main process, the batch is
    returned as it is.
    """
    worker = get_worker_info()
    if worker is None:
        return batch
    try:
        return _Sent(batch)
    except Exception as error:
        raise readable(error, f"loader process {worker.id}") from error


class _Sent:
    """A pickled batch that unpickles as the batch's dictionary.

    The batch is pickled here and not by the queue's own thread. That thread prints an error (no file descriptor left,
    no shared memory) and drops the batch, and the training process would wait for the batch for ever.
    """

    def __init__(self, batch: dict[str, Any]) -> None:
        self._pickled = bytes(ForkingPickler.dumps(_light(batch)))

    def __reduce__(self) -> tuple:
        return _rebuild_batch, (self._pickled,)


def _light(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _light(inner) for name, inner in value.items()}
    return value.numpy() if isinstance(value, Tensor) and value.nbytes <= SMALL_BYTES else value


def _rebuild_batch(pickled: bytes) -> dict[str, Any]:
    return _tensors(pickle.loads(pickled))


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tensors(inner) for name, inner in value.items()}
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
