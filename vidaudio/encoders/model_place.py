"""Places of transformers' models: a folder on this machine, or a name on its hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidaudio.encoders.named_by import NamedByFile
from vidaudio.encoders.spec import PACKAGE_FOLDER

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model is loaded from.

    Attributes:
        name: Folder, or name on the hub.
        is_folder: Whether it is a folder.
        paths: Paths of this machine that are read, except those in this package.
        options: Options of transformers' `from_pretrained`.
    """

    name: str
    is_folder: bool
    paths: tuple[str, ...]
    options: dict[str, Any]


def model_place(model: str, named_by: NamedByFile | None) -> ModelPlace:
    """Return the place of a model.

    Args:
        model: A folder, or a hub's name. `{package}` is replaced by the folder of this package.
        named_by: The file that names the model; None if the user names it.
    """
    name = model.replace("{package}", str(PACKAGE_FOLDER))
    # A name from a file is a hub's name, even if a folder of that name exists here.
    is_folder = Path(name).is_dir() if named_by is None else not is_hub_name(name)
    own = name.startswith(f"{PACKAGE_FOLDER}{os.sep}") and ".." not in Path(name).parts
    only_local = is_folder or named_by is not None
    return ModelPlace(
        name, is_folder, (name,) if is_folder and not own else (), {"local_files_only": True} if only_local else {}
    )


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of a hub's name, which a path of this machine may have as well."""
    return _HUB_NAME.fullmatch(name) is not None
