"""Messages about mistakes in a recipe, in plain words: which key, what it wants, and which value it has."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

_LONGEST_VALUE = 80
# What a key wants, by pydantic's type of error; names in braces come from the error's context.
_WANTS = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "too_short": "{min_length} values or more",
    "too_long": "{max_length} values or fewer",
    "dict_type": "keys with values",
    "mapping_type": "keys with values",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "invalid_key": "text for a key",
    "string_pattern_mismatch": "text of the form {pattern}",
}


def explain(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Return a phrase for every key with a mistake, in the recipe's order.

    If a key accepts one of several kinds of values, pydantic reports a mistake for each kind; they become one phrase.
    """
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for item in error.errors():
        by_key.setdefault(_key(model, item["loc"]), []).append(item)
    return [_phrase(model, key, items) for key, items in by_key.items()]


def _phrase(model: type[BaseModel], key: str, items: Sequence[Mapping[str, Any]]) -> str:
    first = items[0]
    if first["type"] == "extra_forbidden":
        siblings = _keys_beside(model, first["loc"])
        name = str(first["loc"][-1])
        # A key of another block is likelier meant than one of this block that is only somewhat alike.
        near = difflib.get_close_matches(name, siblings, n=1, cutoff=0.8) or _places_of(model, name)
        near = near or difflib.get_close_matches(name, siblings, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(siblings)}"
        return f"unknown key {key} ({hint})"
    if first["type"] == "missing":
        return f"{key} is missing"
    told = [item for item in items if item["type"] == "value_error"]
    if told:  # messages of our own validators
        of_one_value = not isinstance(told[0]["input"], Mapping | BaseModel)
        place, value = f"{key}: " if key else "", f", not {_shown(told[0]['input'])}" if of_one_value else ""
        return f"{place}{told[0]['ctx']['error']}{value}"
    known = [_WANTS[item["type"]].format(**item.get("ctx", {})) for item in items if item["type"] in _WANTS]
    wants = ", or ".join(dict.fromkeys(known)) or f"something else ({first['msg']})"
    return f"{key} wants {wants}, not {_shown(first['input'])}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing at all"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _key(model: type[BaseModel], location: Sequence[str | int]) -> str:
    """Return the key as the recipe writes it, without pydantic's names for the kinds of a value."""
    annotation: Any = model
    parts = []
    for part in location:
        annotation, written = _step(annotation, part)
        parts += [str(part)] if written else []
    return ".".join(parts)


def _keys_beside(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    annotation: Any = model
    for part in location[:-1]:
        annotation, _ = _step(annotation, part)
    inner = next((kind for kind in _kinds(annotation) if _is_model(kind)), None)
    return sorted(inner.model_fields) if inner else []


def _places_of(model: type[BaseModel], name: str, block: str = "") -> list[str]:
    """Return the full keys of a recipe that end in this name, in the recipe's order."""
    found = [f"{block}{name}"] if block and name in model.model_fields else []
    for key, field in model.model_fields.items():
        for kind in filter(_is_model, _kinds(field.annotation)):
            found += _places_of(kind, name, f"{block}{key}.")
    return found


def _step(annotation: Any, part: str | int) -> tuple[Any, bool]:
    """Return the annotation below `part`, and whether `part` is a key or an index rather than a kind of value."""
    kinds = _kinds(annotation)
    for kind in kinds:
        if _is_model(kind) and part in kind.model_fields:
            return kind.model_fields[part].annotation, True
        inside = typing.get_args(kind)
        origin = typing.get_origin(kind)
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(inside) == 2:
            return inside[1], True
        if origin in (list, tuple, set) and isinstance(part, int):
            return inside[0], True
    return (annotation, False) if len(kinds) > 1 else (Any, True)


def _kinds(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(annotation) if part is not type(None) for kind in _kinds(part)]
    return [annotation]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
