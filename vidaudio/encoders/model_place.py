"""Places of transformers' models: a folder on this machine, or a name on its hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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


def missing_from(place: ModelPlace, files: Sequence[Sequence[str]]) -> str | None:
    """Return what keeps a place from being a model's, in words: nothing is there, or a file is missing.

    Args:
        place: The place.
        files: Groups of file names; a folder has a file of each group.
    """
    if not Path(place.name).is_dir():
        return None if is_hub_name(place.name) and not place.is_folder else "there is no such folder"
    missing = next((group for group in files if not any((Path(place.name) / name).is_file() for name in group)), None)
    return None if missing is None else f"the folder has no {missing[0]}"


def unfit_tokenizer(tokenizer: Any, texts: int) -> str | None:
    """Return why a tokenizer cannot belong to a model, in words; None if it can.

    A folder without the tokenizer's files gives one that knows no words: every text would be the same.

    Args:
        tokenizer: The tokenizer.
        texts: Number of tokens that the model has vectors for.
    """
    vocabulary = tokenizer.get_vocab()
    if set(vocabulary) <= set(tokenizer.all_special_tokens):
        return "its tokenizer knows no words: tokenizer.json, or vocabulary files, are missing"
    if max(vocabulary.values()) >= texts:
        return f"its tokenizer has {len(vocabulary):,} tokens, and the model knows {texts:,}"
    return None


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of a hub's name, which a path of this machine may have as well."""
    return _HUB_NAME.fullmatch(name) is not None
