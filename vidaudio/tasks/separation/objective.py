"""What a separation system learns from: checks that a recipe's objective, data and queries fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidaudio.errors import RecipeError

if TYPE_CHECKING:
    from vidaudio.tasks.separation.recipe import SeparationRecipe

# Kinds of queries that are made of whole sentences, as the prompts of parts are.
SENTENCES = ("clap", "corpus", "bert")
# MixIT assigns M outputs to N parts in all N^M ways.
MOST_ASSIGNMENTS = 256


def check_objective(recipe: SeparationRecipe, where: str) -> None:
    """Check that the objective fits to data and queries, and to the system's name.

    Raises:
        RecipeError: When a part does not fit; the message names the part.
    """
    for wrong in _mistakes(recipe):
        raise RecipeError(f"{where}: {wrong}")
    for wrong in _of_another_system(recipe):
        raise RecipeError(f"{where}: for {recipe.system}, {wrong}. Call another composition system: custom")


def outputs(recipe: SeparationRecipe) -> int:
    """Return how many masks a system without queries has: one for each source of a training mixture."""
    return recipe.data.sources * (recipe.data.mixed if recipe.objective.kind == "mixit" else 1)


def _mistakes(recipe: SeparationRecipe) -> list[str]:
    return [*_of_data(recipe), *_of_queries(recipe), *_of_weights(recipe)]


def _of_data(recipe: SeparationRecipe) -> list[str]:
    objective, data = recipe.objective, recipe.data
    has_parts = objective.kind != "sources"
    found = []
    if not has_parts and (data.mixed > 1 or data.natural or data.single_share):
        found.append(
            "data.mixed, data.natural and data.single_share are for mixtures whose sources are not known: set "
            "objective.kind to parts or mixit"
        )
    if has_parts and data.mixed == 1 and not data.natural:
        found.append(
            f"objective.kind is {objective.kind}, and every part is a single source: set data.mixed to 2 or more, or "
            "data.natural where clips are mixtures"
        )
    if objective.kind == "mixit" and (data.single_share or data.natural):
        found.append("objective.kind is mixit, which takes neither data.single_share nor data.natural")
    if data.different_labels and data.partners != "uniform":
        found.append("data.different_labels needs data.partners uniform")
    if data.singles is not None and not data.single_share:
        found.append("data.singles names a corpus, and data.single_share is 0: nothing is drawn from it")
    if data.natural and data.single_share and data.singles is None:
        found.append("with data.natural, single sounds come from another corpus: data.singles")
    return found


def _of_queries(recipe: SeparationRecipe) -> list[str]:
    objective, query = recipe.objective, recipe.query
    found = []
    if objective.kind == "parts" and query.kind not in SENTENCES:
        found.append(f"parts are asked for in sentences, and queries of kind {query.kind} take none")
    if objective.kind == "parts" and (len(query.templates) > 1 or len(query.train_templates) > 1):
        found.append("parts are asked for in one wording: query.templates and query.train_templates have one each")
    if objective.kind == "mixit" and query.kind != "none" and recipe.system != "mixit_ranked":
        found.append(f"objective.kind is mixit, which has no queries: set query.kind to none, not {query.kind}")
    if recipe.model.condition is None:
        return found
    if query.kind != "clap" or len(query.templates) > 1 or len(query.train_templates) > 1:
        found.append("model.condition attends to the states of CLAP's text: query.kind clap, and one template each")
    if recipe.system == "mixit_ranked":
        found.append("mixit_ranked ranks the outputs of a network that nothing conditions: set model.condition to null")
    return found


def _of_weights(recipe: SeparationRecipe) -> list[str]:
    objective = recipe.objective
    found = []
    if objective.kind != "sources" and recipe.loss.kind != "magnitudes":
        found.append(f"objective.kind is {objective.kind}, which compares magnitudes: set loss.kind to magnitudes")
    assignments = recipe.data.sources ** outputs(recipe)
    if objective.kind == "mixit" and assignments > MOST_ASSIGNMENTS:
        found.append(
            f"{outputs(recipe)} outputs can be assigned to {recipe.data.sources} parts in {assignments:,} ways, and at "
            f"most {MOST_ASSIGNMENTS} are tried: set data.sources or data.mixed lower"
        )
    if objective.kind != "parts":
        if objective.held_out_joint is not None:
            found.append("objective.held_out_joint is for objective.kind parts, whose sounds are compared with texts")
        return found
    if not (objective.reconstruction or objective.consistency or objective.contrast):
        found.append("all weights of the objective are 0: nothing is learned")
    if (objective.contrast or objective.held_out_joint) and _joint(recipe) is None:
        found.append(
            "objective.contrast compares sounds with texts: name an encoder of both by objective.joint (queries of "
            "kind clap have one), or set objective.contrast to 0"
        )
    return found


def _joint(recipe: SeparationRecipe) -> str | None:
    """Return the place of the recipe's encoder of sound and text; None if it has none."""
    if recipe.objective.joint is not None:
        return recipe.objective.joint
    return recipe.query.clap.model if recipe.query.kind == "clap" else None


def _of_another_system(recipe: SeparationRecipe) -> list[str]:
    objective, data = recipe.objective, recipe.data
    wanted = {
        "bimodal_mixsep": ("parts", False, False),
        "bimodal_weak": ("parts", True, False),
        "bimodal_semi": ("parts", True, True),
        "bimodal_supervised": ("sources", None, False),
        "mixit": ("mixit", None, False),
        "mixit_ranked": ("mixit", None, False),
    }.get(recipe.system, (None if recipe.system == "custom" else "sources", None, None))
    kind, has_contrast, has_singles = wanted
    found = []
    if kind is not None and objective.kind != kind:
        found.append(f"objective.kind must be {kind!r}, not {objective.kind!r}")
    if has_contrast is not None and bool(objective.contrast or objective.consistency) != has_contrast:
        must = "above 0" if has_contrast else "0"
        found.append(f"objective.contrast and objective.consistency must be {must}")
    if has_singles is not None and bool(data.single_share) != has_singles:
        found.append(f"data.single_share must be {'above 0' if has_singles else '0'}")
    return found
