"""All methods by name; fitting, saving and loading one."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vidaudio.errors import GapError
from vidaudio.files import atomic_write
from vidaudio.modality_gap.base import GapData, GapMethod
from vidaudio.modality_gap.bridge import Bridge
from vidaudio.modality_gap.prior import Prior
from vidaudio.modality_gap.regression import Mlp, Ridge
from vidaudio.modality_gap.retrieval import Retrieval
from vidaudio.modality_gap.statistics import MeanShift, Recolour, Standardise
from vidaudio.modality_gap.training_methods import CentredNoise, Dropout, Mixup, Noise
from vidaudio.text import first_line

METHODS: dict[str, type[GapMethod]] = {
    method.name: method
    for method in (
        *(MeanShift, Standardise, Recolour, Retrieval, Ridge, Mlp, Prior, Bridge),
        *(Dropout, Noise, CentredNoise, Mixup),
    )
}
ASKING_METHODS = tuple(name for name, method in METHODS.items() if not method.trains)
TRAINING_METHODS = tuple(name for name, method in METHODS.items() if method.trains)

_DESCRIPTION = "vidaudio.gap"


def method_options(name: str) -> dict[str, Any]:
    """Return the options of a method's fit, with their defaults.

    Raises:
        GapError: When there is no method of this name.
    """
    if name not in METHODS:
        raise GapError(f"there is no gap method {name!r}; there are {', '.join(METHODS)}")
    parameters = inspect.signature(METHODS[name].fit).parameters.values()
    named = inspect.Parameter.KEYWORD_ONLY
    return {p.name: p.default for p in parameters if p.kind is named and p.name != "seed"}


def fit_method(name: str, data: GapData, *, seed: int = 0, **options: Any) -> GapMethod:
    """Fit the method of this name.

    Raises:
        GapError: When there is none, an option is unknown, or the data lack what the method needs.
    """
    known = method_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        have = f"it has {', '.join(known)}" if known else "it has none"
        raise GapError(f"the gap method {name} has no option {unknown[0]}; {have}")
    return METHODS[name].fit(data, seed=seed, **options)


def save_method(method: GapMethod, path: str | Path) -> None:
    """Write a fitted method as a safetensors file, whole or not at all."""
    described = {"method": method.name, "encoder": method.encoder, "dimensions": method.dimensions}
    described |= {"options": method.options, "hash": method.hash}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(path)) as temporary:
        save_file(method.tensors, str(temporary), metadata={_DESCRIPTION: json.dumps(described)})


def load_method(path: str | Path, *, encoder: str | None = None) -> GapMethod:
    """Read a fitted method.

    Args:
        path: File of `save_method`.
        encoder: Hash of the encoder whose vectors it is meant for; None to accept any.

    Raises:
        GapError: When the file is missing, damaged, not a fitted method, or fitted to another encoder.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            described = json.loads((file.metadata() or {})[_DESCRIPTION])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        kind = METHODS[described["method"]]
        method = kind(tensors, described["encoder"], int(described["dimensions"]), described["options"])
    except OSError as error:
        raise GapError(f"cannot read the gap method {path}: {first_line(error, without_paths=True)}") from error
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise GapError(f"{path} is not a gap method that vidaudio wrote, or is damaged; fit it again") from error
    if method.hash != described.get("hash"):
        raise GapError(f"{path} is damaged: its contents do not match their hash; fit it again")
    if encoder is not None and method.encoder != encoder:
        raise GapError(
            f"{path} was fitted to another encoder ({method.encoder[:12]}) than these vectors are of ({encoder[:12]}); "
            "fit the method to a corpus of this encoder: vidaudio gap CORPUS"
        )
    return method
