"""Composition of the named systems: a recipe with a system's name must have the parts of that system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vidaudio.errors import RecipeError
from vidaudio.tasks.queries.blocks import Modality, modalities
from vidaudio.tasks.queries.checks import check_gap
from vidaudio.tasks.separation.objective import check_objective

if TYPE_CHECKING:
    from vidaudio.tasks.separation.recipe import SeparationRecipe

# Settings that define a system: query.kind, query.encoder, query.train, noise heads, a trained image encoder. None: any
# value is allowed.
_COMPOSITIONS: dict[str, list[tuple]] = {
    "clipsep": [("corpus", "clip", "image", False, None)],
    "clipsep_nit": [("corpus", "clip", "image", True, None)],
    "clipsep_text": [("corpus", "clip", "text", False, None), ("vectors", None, "text", False, None)],
    "clipsep_hybrid": [("corpus", "clip", "alternate", False, None)],
    "labelsep": [("label", None, "text", False, None)],
    "bertsep": [("bert", None, "text", False, None)],
    "sop": [("corpus", "resnet18-dilated", "image", False, None), ("pictures", None, "image", False, False)],
    "sop_original": [("pictures", None, "image", False, True)],
    "pit": [("none", None, None, False, None)],
    "bimodal_mixsep": [(None, None, "text", False, None)],
    "bimodal_weak": [(None, None, "text", False, None)],
    "bimodal_semi": [(None, None, "text", False, None)],
    "bimodal_supervised": [(None, None, "text", False, None)],
    "mixit": [("none", None, None, False, None)],
    "mixit_ranked": [("clap", None, "text", False, None)],
}
_COMPOSED_OF = ("query.kind", "query.encoder", "query.train", "noise heads", "query.pictures.trained")


def modality_at(train: Literal["image", "text", "alternate", "sound"], step: int) -> Modality:
    """Return the query modality of an optimiser step; CLIPSep-Hybrid takes images on even steps, text on odd ones."""
    if train == "alternate":
        return "image" if step % 2 == 0 else "text"
    return train


def check_system(recipe: SeparationRecipe, where: str) -> None:
    """Check that the parts of a recipe fit together, and that they match the system that it names.

    Raises:
        RecipeError: When a part does not fit; the message names the part.
    """
    query = recipe.query
    # A separator is asked by pictures or words; CLAP's vectors of sound are conditions of generators.
    able = modalities(query) - {"sound"}
    asked = {"image", "text"} if query.train == "alternate" else {query.train}
    if able and not asked | {query.validation} <= able:
        raise RecipeError(
            f"{where}: queries of kind {query.kind} are made of {' or '.join(sorted(able))} alone; "
            f"query.train is {query.train}, query.validation is {query.validation}"
        )
    if query.kind == "vectors" and query.vectors is None:
        raise RecipeError(f"{where}: queries of kind vectors come from a table: --set query.vectors=FILE.npz")
    check_gap(query, where)
    if query.kind == "none" and recipe.model.noise is not None:
        raise RecipeError(f"{where}: noise heads are made from queries, and query.kind is none; set model.noise=null")
    check_objective(recipe, where)
    if recipe.system == "custom":
        return
    found = (query.kind, query.encoder, query.train, recipe.model.noise is not None, query.pictures.trained)
    mistakes = {
        composition: [
            f"{name} must be {wanted!r}, not {value!r}"
            for name, wanted, value in zip(_COMPOSED_OF, composition, found, strict=True)
            if wanted is not None and wanted != value
        ]
        for composition in _COMPOSITIONS[recipe.system]
    }
    # If a system has several compositions, compare with the one that has this kind of query.
    nearest = min(mistakes, key=lambda composition: (composition[0] != query.kind, len(mistakes[composition])))
    wrong = "; ".join(mistakes[nearest])
    if wrong:
        raise RecipeError(f"{where}: for {recipe.system}, {wrong}. Call another composition system: custom")
