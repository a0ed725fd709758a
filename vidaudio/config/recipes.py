"""Loader of recipes: YAML files, found by name or path, checked key by key against a pydantic model.

`vidaudio build vggsound` and `vidaudio train clipsep` name files in the recipe folders of the package. A recipe may
begin with `extends: other` and then lists only the differences.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vidaudio.config.errors import explain
from vidaudio.errors import RecipeError

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
# What the files of a folder are called, and names that exist there without a file.
_CALLED = {"manifests/protocols": "protocol", "manifests/phrasings": "list of phrasings"}
_ALSO = {"manifests/protocols": ("split", "manifest")}


class RecipeModel(BaseModel):
    """A block of a recipe: unknown keys are mistakes, and values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def recipe_folder(kind: str) -> Path:
    """Return the folder `pipelines`, `manifests` or `train`: in an installed package, or beside it in a checkout."""
    installed = PACKAGE_FOLDER / "_recipes" / kind
    return installed if installed.is_dir() else PACKAGE_FOLDER.parent / kind


def recipe_names(kind: str) -> list[str]:
    """Return the names that can be used instead of a path."""
    return sorted(path.stem for path in recipe_folder(kind).glob("*.yaml"))


def find_recipe(name: str, kind: str) -> Path:
    """Return the file of a recipe that is given by path or by name."""
    path, what = Path(name), _CALLED.get(kind, "recipe")
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise RecipeError(f"there is no {what} file {path}")
    named = recipe_folder(kind) / f"{name}.yaml"
    if named.is_file():
        return named
    names = [*_ALSO.get(kind, ()), *recipe_names(kind)]
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    # There are too many recipes to list here; the documentation lists them. Of the other kinds all names are listed.
    listed = "" if near and kind not in _CALLED else f"There are: {', '.join(names)}. "
    hint = f"{guess}{listed}"
    raise RecipeError(f"there is no {what} {name!r} in {kind}/; {hint[0].lower()}{hint[1:]}A path must end in .yaml.")


def load_values(name: str, kind: str) -> dict[str, Any]:
    """Return the plain values of a recipe, merged over those of the recipe that it `extends`."""
    return _load_chain(find_recipe(name, kind), kind, ())


def _load_chain(path: Path, kind: str, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise RecipeError(f"{path} extends itself, by way of {', '.join(p.name for p in above)}")
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise RecipeError(f"{path} must be a mapping of keys to values")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends wants the name or the path of one recipe, not {base!r}")
    # A path is relative to the file that names it.
    beside = path.parent / base
    found = beside if beside.suffix in (".yaml", ".yml") and beside.is_file() else find_recipe(base, kind)
    return merge(_load_chain(found, kind, (*above, path.resolve())), values)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, merged mapping by mapping; lists are replaced as a whole."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def override(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply `--set key.sub=value` settings; values are read as YAML."""
    merged = dict(values)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set wants key=value, not {setting!r}")
        try:
            # A value that begins with {package} is a path, though YAML would read a mapping.
            value = text if text.startswith("{package}") else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {key}: {text!r} is not a YAML value; put quotes around a text") from error
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        merged = merge(merged, nested)
    return merged


ModelT = typing.TypeVar("ModelT", bound=BaseModel)


def check(model: type[ModelT], values: Mapping[str, Any], where: str) -> ModelT:
    """Validate values against a model.

    Args:
        model: Model of the recipe.
        values: Values of the recipe.
        where: Origin of the values, which begins the message.

    Raises:
        RecipeError: When a key or value is wrong; the message names each one, what was expected, and the nearest
            existing key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: " + "; ".join(explain(model, error))) from None
